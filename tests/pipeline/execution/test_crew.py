"""Nodes in processes of their own, real ones, and how they end."""

import os
import pathlib
import pty
import re
import signal
import sys
import time
from collections.abc import Callable

import pytest

from pipeline.execution import crew
from pipeline.execution.crew import Crew, Ended, Result, Say
from pipeline.execution.display import Display
from pipeline.home.process import identity
from trainer.loop.progress import Progress

SECONDS = 60.0


def until(found: Callable[[], bool]) -> None:
    """Return when something has come true. Raises TimeoutError."""
    end = time.monotonic() + SECONDS
    while not found():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def run(works: dict[str, crew.Work], say: Say = lambda line: None, most: int = 2) -> dict[str, Ended]:
    """Run works side by side to their ends."""
    ended: dict[str, Ended] = {}
    with Crew(most, Display(say, moving=False)) as workers:
        for name, work in works.items():
            workers.start(name, 1, work)
        while len(ended) < len(works):
            ended |= {each.name: each for each in workers.wait()}
    return ended


def test_nodes_run_at_the_same_time_in_processes_of_their_own(tmp_path: pathlib.Path) -> None:
    def meet(mine: str, other: str) -> crew.Work:
        def work(say: Say) -> Result:
            (tmp_path / mine).write_text(str(os.getpid()))
            until((tmp_path / other).exists)
            return Result(execution=7)

        return work

    ended = run({"a": meet("a", "b"), "b": meet("b", "a")})
    assert all(each.result == Result(execution=7) for each in ended.values())
    assert len({(tmp_path / name).read_text() for name in "ab"} | {str(os.getpid())}) == 3


def test_what_a_node_says_is_shown_by_the_run_in_its_order() -> None:
    def work(say: Say) -> Result:
        for number in range(2000):  # more than a pipe holds
            say(f"line {number} {'.' * 100}")
        return Result(cached=True)

    said: list[str] = []
    assert run({"a": work}, said.append)["a"].result.cached
    assert [line.split()[1] for line in said] == [str(number) for number in range(2000)]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "killed by SIGKILL, perhaps for want of memory; with --jobs 1"),
        (signal.SIGUSR1, "killed by SIGUSR1"),
        (signal.SIGTERM, "somebody stopped its process"),
    ],
)
def test_a_process_that_is_killed_fails_its_own_node_only(number: signal.Signals, words: str) -> None:
    def die(say: Say) -> Result:
        os.kill(os.getpid(), number)
        time.sleep(SECONDS)
        return Result()

    ended = run({"a": die, "b": lambda say: Result(execution=1)})
    assert words in ended["a"].result.error
    assert ended["a"].result.lost
    assert ended["b"].result == Result(execution=1)


def test_whatever_ends_the_run_ends_the_nodes_and_lets_them_leave_in_good_order(
    tmp_path: pathlib.Path,
) -> None:
    def work(say: Say) -> Result:
        try:
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(SECONDS)
        finally:
            (tmp_path / "left").touch()
        return Result()

    def interrupted() -> None:
        with Crew(2, Display(lambda line: None, moving=False)) as workers:
            workers.start("a", 1, work)
            until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGINT)  # as a terminal sends it to all
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "left").exists()
    assert not identity(int((tmp_path / "pid").read_text()))


def test_what_fails_while_the_run_is_stopped_is_reported(tmp_path: pathlib.Path) -> None:
    def work(say: Say) -> Result:
        try:
            (tmp_path / "begun").touch()
            time.sleep(SECONDS)
        except SystemExit:
            return Result(error="the disk is full")
        return Result()

    said: list[str] = []
    with Crew(1, Display(said.append, moving=False)) as workers:
        workers.start("a", 1, work)
        until((tmp_path / "begun").exists)
    assert said == ["! a failed: the disk is full"]


def test_a_node_that_does_not_stop_is_killed_after_a_while(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.3)

    def work(say: Say) -> Result:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(SECONDS)
        return Result()

    with Crew(1, Display(lambda line: None, moving=False)) as workers:
        workers.start("a", 1, work)
        until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    assert not identity(int((tmp_path / "pid").read_text()))


def test_nodes_end_when_the_run_s_process_is_killed(tmp_path: pathlib.Path) -> None:
    def work(say: Say) -> Result:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / f"pid-{os.getpid()}").touch()
        time.sleep(SECONDS)
        return Result()

    parent = os.fork()
    if not parent:
        run({"a": work, "b": work})
        os._exit(1)
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    nodes = [int(path.name.partition("-")[2]) for path in tmp_path.iterdir()]
    assert all(map(identity, nodes))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    until(lambda: not any(map(identity, nodes)))


def test_a_terminal_shows_what_runs_and_keeps_the_lines_that_were_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    terminal = os.fdopen(slave, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")

    def train(say: Say) -> Result:
        with Progress("cvae", 100, 10) as progress:
            progress.update(50, {"elbo": -100.0})
            time.sleep(0.5)
            say("! a warning")
        return Result()

    with Crew(2, Display(lambda line: print(line, flush=True), moving=True)) as workers:
        workers.start("Trainer.cvae", 1, train)
        while not workers.wait():
            pass
    written = os.read(master, 1 << 16).decode()
    terminal.close()
    os.close(master)
    moving, _, after = written.partition("! a warning\r\n")
    assert re.search(r"Trainer\.cvae +\d\.\d s   50% of 100 steps, elbo -100", moving)
    assert moving.endswith("\x1b[2K"), "the moving line is erased before the line that stays"
    assert after, "the line that stays was not shown"
