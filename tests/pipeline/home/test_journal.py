import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pipeline.config.errors import RunFailed, Stopped
from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from pipeline.home import journal
from pipeline.home.layout import Home
from pipeline.home.process import identity


def test_an_entry_is_there_from_the_beginning_and_says_how_it_ended(tmp_path: pathlib.Path) -> None:
    entry = journal.begin(Home(tmp_path), journal.RUN, settings={"profile": "smoke"})
    [begun] = journal.read(Home(tmp_path))
    assert (begun.status, begun.exit_code, begun.pid) == (journal.RUNNING, None, os.getpid())
    assert begun.alive
    assert not begun.failed
    entry.variants["mlp"] = journal.Outcome(journal.PUSHED, version=17)
    journal.end(Home(tmp_path), entry, 2.5, None)
    [ended] = journal.read(Home(tmp_path))
    assert ended == entry
    assert (ended.status, ended.exit_code, ended.seconds) == (journal.ENDED, 0, 2.5)
    assert ended.variants["mlp"].version == 17


@pytest.mark.parametrize(
    ("error", "code", "failed"),
    [
        (None, 0, False),
        (RunFailed("Trainer.mlp failed: x"), 1, True),
        (MemoryError(), 1, True),
        (KeyboardInterrupt(), 130, False),
        (Stopped(143), 143, False),
    ],
)
def test_being_told_to_stop_is_no_failure_and_everything_else_is(
    tmp_path: pathlib.Path, error: BaseException | None, code: int, failed: bool
) -> None:
    entry = journal.begin(Home(tmp_path), journal.RUN)
    journal.end(Home(tmp_path), entry, 1.0, error)
    [read] = journal.read(Home(tmp_path))
    assert (read.exit_code, read.failed) == (code, failed)


def test_a_killed_process_is_told_apart_and_buried_once(tmp_path: pathlib.Path) -> None:
    program = (
        "import sys, time; from pipeline.home import journal; from pipeline.home.layout import Home; "
        "journal.begin(Home.of(sys.argv[1]), journal.RUN); print('begun', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    [entry] = journal.read(Home(tmp_path))
    assert entry.alive
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (
        journal.read(Home(tmp_path))[0].alive and time.monotonic() < deadline
    ):  # gone even before it is waited for
        time.sleep(0.01)
    [entry] = journal.read(Home(tmp_path))
    child.wait()
    assert entry.died
    assert entry.failed
    assert [dead.stamp for dead in journal.bury(Home(tmp_path))] == [entry.stamp]
    assert journal.bury(Home(tmp_path)) == []
    assert journal.read(Home(tmp_path))[0].status == journal.DIED


def test_a_number_that_another_process_has_by_now_is_not_taken_for_the_run(tmp_path: pathlib.Path) -> None:
    entry = journal.begin(Home(tmp_path), journal.RUN)
    entry.process = "an-earlier-boot/12345"
    journal.write(Home(tmp_path), entry)
    [read] = journal.read(Home(tmp_path))
    assert identity(read.pid)
    assert read.died


def test_entries_are_in_the_order_of_their_beginning_whatever_the_clock_says(tmp_path: pathlib.Path) -> None:
    numbers = []
    for stamp in ("20260102-000000", "20260101-000000", "20260103-000000"):
        entry = journal.begin(Home(tmp_path), journal.RUN)
        entry.path(Home(tmp_path)).rename(Home(tmp_path).runs / f"{stamp}.json")
        numbers.append(entry.number)
    assert [entry.number for entry in journal.read(Home(tmp_path))] == numbers == [1, 2, 3]


def test_two_entries_of_one_second_have_files_of_their_own(tmp_path: pathlib.Path) -> None:
    stamps = {journal.begin(Home(tmp_path), journal.ROLLBACK).stamp for _ in range(3)}
    assert len(stamps) == len(journal.read(Home(tmp_path))) == 3


def test_a_damaged_file_is_passed_over_and_named(tmp_path: pathlib.Path) -> None:
    good = journal.begin(Home(tmp_path), journal.RUN)
    bad = Home(tmp_path).runs / "20200101-000000.json"
    for content in ("{", "[]", '{"number": 3}', '{"number": 3, "variants": {}}'):
        bad.write_text(content)
        assert [entry.stamp for entry in journal.read(Home(tmp_path))] == [good.stamp]
        assert journal.unreadable(Home(tmp_path)) == [bad]


def test_a_reader_never_sees_half_an_entry(tmp_path: pathlib.Path) -> None:
    entry = journal.begin(Home(tmp_path), journal.RUN)
    program = (
        "import json, pathlib, sys\n"
        "path, reads = pathlib.Path(sys.argv[1]), 0\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists(): json.loads(path.read_text()); reads += 1\n"
        "print(reads)"
    )
    stop = tmp_path / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-c", program, str(entry.path(Home(tmp_path))), str(stop)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    for number in range(200):
        entry.drift = ["x" * 1000] * (number % 40)
        journal.write(Home(tmp_path), entry)
    stop.touch()
    out, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0
    assert int(out) > 0
    assert [path.name for path in Home(tmp_path).runs.iterdir()] == [f"{entry.stamp}.json"]


def test_secrets_of_the_hooks_are_not_written_down(tmp_path: pathlib.Path) -> None:
    settings = Settings(
        variants=("mlp",), home=str(tmp_path), notify=Notify(webhook="https://hooks.example/secret-token")
    )
    entry = journal.begin(Home(tmp_path), journal.RUN, settings=journal.summary(settings))
    assert "secret-token" not in entry.path(Home(tmp_path)).read_text()
    assert json.loads(entry.path(Home(tmp_path)).read_text())["settings"]["variants"] == ["mlp"]
