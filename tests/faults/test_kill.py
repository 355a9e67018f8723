"""SIGKILL at 20 moments, of first runs and of retraining, each followed by a plain rerun.

Then the same, at fewer moments, of runs with components side by side: of the whole run, of the run's own
process, and of the process of a component.
"""

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import time
from typing import Any

import pytest
from tallies import Section

from pipeline.home import journal, layout

pytestmark = [pytest.mark.faults, pytest.mark.section(Section.KILLS)]
SEED = 7
HOMES = 10


@dataclasses.dataclass(frozen=True)
class Moment:
    """When to kill: after a share of an uninterrupted run, and then when a new file fits `sight`."""

    share: float = 0.0
    sight: str = ""

    def __str__(self) -> str:
        return f"after {self.share:.0%} of a run" + (f", when {self.sight} is seen" if self.sight else "")

    def await_(self, home: Any, child: Any, seconds: float) -> None:
        """Return at the moment, or when the run has ended without it."""
        known = set(home.folder.glob(self.sight)) if self.sight else set()
        child.gone.wait(self.share * seconds)
        while self.sight and not child.gone.is_set() and not set(home.folder.glob(self.sight)) - known:
            time.sleep(0.0002)


SIGHTS = (
    Moment(0.0, "metadata.db*"),
    Moment(0.1, "metadata.db-journal"),
    Moment(0.0, "artifacts/Pusher.linear/pushed_model/*"),
    Moment(0.5, "metadata.db-journal"),
    Moment(0.0, "serving/linear/.*"),
    Moment(0.3, "metadata.db-journal"),
    Moment(0.0, "artifacts/Leaderboard/report/*"),
    Moment(0.0, "serving/linear/[0-9]*"),
)
"""The first half is for first runs, the second for retraining, too; where a kill is most likely to hurt."""


def moments() -> list[tuple[Moment, Moment]]:
    """For each home, when to kill its first run and when its second."""
    dice = random.Random(SEED)
    drawn = [Moment(share=dice.uniform(0.0, 0.8)) for _ in range(2 * HOMES - len(SIGHTS))]
    firsts, seconds = [*SIGHTS[:4], *drawn[::2]], [*drawn[1::2], *SIGHTS[4:]]
    return list(zip(firsts, seconds, strict=True))


def test_a_run_killed_at_any_of_20_moments_completes_when_it_is_run_again(
    scratch: pathlib.Path,
    digits_folder: pathlib.Path,
    ready: Any,
    warm: Any,
    tally: Any,
    make_home: Any,
    make_reader: Any,
) -> None:
    whole = make_home(scratch / "uninterrupted", digits_folder, warm)
    seconds = []
    for whole.nights in range(2):
        began = time.monotonic()
        whole.run()
        seconds.append(time.monotonic() - began)
    failures = []
    side_by_side = [(Moment(0.0, "artifacts/Evaluator.linear/evaluation/*"), Moment(0.3)), (Moment(0.5),) * 2]
    for number, pair in enumerate([*moments(), *side_by_side]):
        home = make_home(scratch / f"killed-{number}", digits_folder, warm)
        home.jobs = 1 if number < HOMES else 2
        for nights, moment in enumerate(pair):
            home.nights = nights
            try:
                kill_and_rerun(home, moment, seconds[nights], tally, make_reader)
            except Exception as error:
                failures.append(f"{moment}, night {nights}, {home.folder}: {type(error).__name__} {error}")
    assert not failures, "\n".join(failures)
    every_version_loads(scratch, 2 * (HOMES + len(side_by_side)))


def processes(parent: int) -> list[int]:
    """The children of a process."""
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
    with contextlib.suppress(OSError):
        return [int(number) for number in children.read_text().split()]
    return []


def test_components_end_with_the_process_of_their_run_and_the_rerun_completes(
    new_home: Any, warm: Any, tally: Any
) -> None:
    home = new_home(warm)
    home.jobs = 2
    with tally("SIGKILL of a run's own process, with components beside it"):
        child = home.start()
        while not child.gone.is_set() and not list(home.artifacts.glob("Trainer.linear/model_run/*")):
            time.sleep(0.001)
        components = processes(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait().code == -signal.SIGKILL
        assert components
        home.run()  # which waits for what is left of the run before
        assert not any(pathlib.Path(f"/proc/{number}/exe").exists() for number in components)
        assert len(home.versions()) == 1
        home.check()


def test_a_component_whose_process_is_killed_fails_alone_and_the_rerun_completes(
    new_home: Any, warm: Any, tally: Any
) -> None:
    home = new_home(warm)
    home.jobs = 2
    with tally("SIGKILL of a component's process"):
        child = home.start()
        while not child.gone.is_set() and not list(home.artifacts.glob("Gallery.linear/gallery/*")):
            time.sleep(0.001)
        os.kill(max(processes(child.pid)), signal.SIGKILL)
        line = child.error()
        assert "failed: its process was killed by SIGKILL" in line
        home.check()
        home.run()
        assert len(home.versions()) == 1
        home.check()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_ends_its_components_and_resumes_from_a_checkpoint(
    new_home: Any, warm: Any, tally: Any, tmp_path: pathlib.Path, number: signal.Signals, code: int
) -> None:
    """SIGTERM goes to the run's process, as a service manager sends it; Ctrl-C goes to all of them."""
    home = new_home(warm)
    home.jobs = 2
    settings = tmp_path / "settings.yaml"
    settings.write_text("variants: [linear]\nexperiments: {linear: {recipe: {steps: 20000}}}\n")
    with tally(f"{number.name} with components side by side"):
        child = home.start(f"--settings={settings}")
        while not child.gone.is_set() and not list(home.artifacts.glob("Trainer.linear/model_run/*/train/*")):
            time.sleep(0.001)
        components = processes(child.pid)
        assert components
        if number is signal.SIGINT:
            child.kill(number)
        else:
            os.kill(child.pid, number)
        assert child.wait().code == code, child.out + child.err
        assert len(child.err.splitlines()) == 1, child.err
        assert not any(pathlib.Path(f"/proc/{each}").exists() for each in components)
        stopped = journal.read(layout.Home.of(home.folder))[-1]
        assert stopped.status is journal.Status.STOPPED
        home.run(f"--settings={settings}")
        resumed = pathlib.Path(journal.read(layout.Home.of(home.folder))[-1].log).read_text()
        assert "linear: goes on after step" in resumed
        assert len(home.versions()) == 1
        home.check()


def kill_and_rerun(home: Any, moment: Moment, seconds: float, tally: Any, make_reader: Any) -> None:
    fault = "SIGKILL when something is seen on disk" if moment.sight else "SIGKILL at a random moment"
    fault += " (--jobs 2)" if home.jobs > 1 else ""
    with tally(fault) as counted:
        before = home.versions()
        reader = make_reader(home.serving)
        try:
            child = home.start()
            moment.await_(home, child, seconds)
            child.kill()
            child.wait()
            assert child.code == -9, f"not killed: exit {child.code}\n{child.out}\n{child.err}"
            home.run()
        finally:
            reader.stop()
            counted.partial += len(reader.partial)
        assert not reader.partial
        assert reader.looks > 100
        counted.lost += sum(not (home.serving / "linear" / str(version)).exists() for version in before)
        assert home.versions()[: len(before)] == before
        assert len(home.versions()) == len(before) + 1, f"{before} became {home.versions()}"
        home.check()


def every_version_loads(scratch: pathlib.Path, number: int) -> None:
    import tensorflow as tf

    versions = list(scratch.glob("killed-*/serving/linear/*"))
    assert len(versions) == number
    for version in versions:
        model = tf.saved_model.load(str(version))
        assert model.signatures["classify"](tf.constant([], tf.string))["label"].shape == (0,)
