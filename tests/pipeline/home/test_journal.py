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
from pipeline.home.files import write_json
from pipeline.home.journal import Command, Result, Status
from pipeline.home.layout import Home
from pipeline.home.process import identity


def test_an_entry_is_there_from_the_beginning_and_says_how_it_ended(tmp_path: pathlib.Path) -> None:
    writer = journal.Writer.begin(Home(tmp_path), Command.RUN, settings={"profile": "smoke"})
    [begun] = journal.read(Home(tmp_path))
    assert (begun.status, begun.exit_code, begun.pid) == (Status.RUNNING, None, os.getpid())
    assert begun.state is Status.RUNNING
    assert begun.log == str(Home(tmp_path).run_log(begun.stamp))
    assert not begun.failed
    writer.note(variants={"mlp": journal.Outcome(Result.PUSHED, version=17)}, spans=("span-2",))
    writer.end(2.5, None)
    [ended] = journal.read(Home(tmp_path))
    assert ended == writer.record
    assert (ended.status, ended.exit_code, ended.seconds) == (Status.SUCCEEDED, 0, 2.5)
    assert ended.variants["mlp"].version == 17


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (None, 0, Status.SUCCEEDED),
        (RunFailed("Trainer.mlp failed: x"), 1, Status.FAILED),
        (MemoryError(), 1, Status.FAILED),
        (KeyboardInterrupt(), 130, Status.STOPPED),
        (Stopped(143), 143, Status.STOPPED),
    ],
)
def test_a_stopped_run_is_no_failure_and_every_other_error_is(
    tmp_path: pathlib.Path, error: BaseException | None, code: int, status: Status
) -> None:
    journal.Writer.begin(Home(tmp_path), Command.RUN).end(1.0, error)
    [read] = journal.read(Home(tmp_path))
    assert (read.exit_code, read.status, read.failed) == (code, status, status is Status.FAILED)


def test_a_run_whose_process_was_killed_has_crashed_and_is_marked_once(tmp_path: pathlib.Path) -> None:
    program = (
        "import sys, time; from pipeline.home import journal; from pipeline.home.layout import Home; "
        "journal.Writer.begin(Home.of(sys.argv[1]), journal.Command.RUN); print('begun', flush=True); "
        "time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    [record] = journal.read(Home(tmp_path))
    assert record.state is Status.RUNNING
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (
        journal.read(Home(tmp_path))[0].state is Status.RUNNING and time.monotonic() < deadline
    ):  # gone even before it is waited for
        time.sleep(0.01)
    [record] = journal.read(Home(tmp_path))
    child.wait()
    assert record.state is Status.CRASHED
    assert record.failed
    assert [crashed.stamp for crashed in journal.mark_crashed(Home(tmp_path))] == [record.stamp]
    assert journal.mark_crashed(Home(tmp_path)) == []
    assert journal.read(Home(tmp_path))[0].status is Status.CRASHED


def test_a_number_that_another_process_has_by_now_is_not_taken_for_the_run(tmp_path: pathlib.Path) -> None:
    writer = journal.Writer.begin(Home(tmp_path), Command.RUN)
    writer.note(process="an-earlier-boot/12345")
    writer.write()
    [read] = journal.read(Home(tmp_path))
    assert identity(read.pid)
    assert read.state is Status.CRASHED
    assert read.to_json()["status"] == "crashed"


def test_entries_are_in_the_order_of_their_beginning_whatever_the_clock_says(tmp_path: pathlib.Path) -> None:
    numbers = []
    for stamp in ("20260102-000000", "20260101-000000", "20260103-000000"):
        record = journal.Writer.begin(Home(tmp_path), Command.RUN).record
        Home(tmp_path).record(record.stamp).rename(Home(tmp_path).record(stamp))
        numbers.append(record.number)
    assert [record.number for record in journal.read(Home(tmp_path))] == numbers == [1, 2, 3]


def test_two_entries_of_one_second_have_files_of_their_own(tmp_path: pathlib.Path) -> None:
    stamps = {journal.Writer.begin(Home(tmp_path), Command.ROLLBACK).record.stamp for _ in range(3)}
    assert len(stamps) == len(journal.read(Home(tmp_path))) == 3


def test_a_damaged_file_is_passed_over_and_named(tmp_path: pathlib.Path) -> None:
    good = journal.Writer.begin(Home(tmp_path), Command.RUN).record
    bad = Home(tmp_path).runs / "20200101-000000.json"
    for content in ("{", "[]", '{"number": 3}', '{"number": 3, "variants": {}}', "[" * 100_000):
        bad.write_text(content)
        assert [record.stamp for record in journal.read(Home(tmp_path))] == [good.stamp]
        assert journal.unreadable(Home(tmp_path)) == [bad]


def test_a_reader_never_sees_half_an_entry(tmp_path: pathlib.Path) -> None:
    writer = journal.Writer.begin(Home(tmp_path), Command.RUN)
    path = Home(tmp_path).record(writer.record.stamp)
    program = (
        "import json, pathlib, sys\n"
        "path, reads = pathlib.Path(sys.argv[1]), 0\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists(): json.loads(path.read_text()); reads += 1\n"
        "print(reads)"
    )
    stop = tmp_path / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-c", program, str(path), str(stop)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    for number in range(200):
        writer.note(drift=("x" * 1000,) * (number % 40))
        writer.write()
    stop.touch()
    out, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0
    assert int(out) > 0
    assert [path.name for path in Home(tmp_path).runs.iterdir()] == [path.name]


def test_secrets_of_the_hooks_are_not_written_down(tmp_path: pathlib.Path) -> None:
    settings = Settings(
        variants=("mlp",), home=str(tmp_path), notify=Notify(webhook="https://hooks.example/secret-token")
    )
    record = journal.Writer.begin(Home(tmp_path), Command.RUN, settings=journal.summary(settings)).record
    written = Home(tmp_path).record(record.stamp).read_text()
    assert "secret-token" not in written
    assert json.loads(written)["settings"]["variants"] == ["mlp"]


@pytest.mark.parametrize(
    ("word", "code", "status"),
    [
        ("ended", 0, Status.SUCCEEDED),
        ("ended", 1, Status.FAILED),
        ("ended", 130, Status.STOPPED),
        ("ended", 143, Status.STOPPED),
        ("ended without a word", None, Status.CRASHED),
        ("running", None, Status.CRASHED),
        ("crashed", None, Status.CRASHED),
    ],
)
def test_a_record_of_version_0_1_reads_as_the_words_of_today(
    tmp_path: pathlib.Path, word: str, code: int | None, status: Status
) -> None:
    writer = journal.Writer.begin(Home(tmp_path), Command.RUN)
    path = Home(tmp_path).record(writer.record.stamp)
    old = json.loads(path.read_text()) | {"status": word, "exit_code": code, "process": "gone"}
    old["variants"] = {"mlp": {"result": "left out", "version": 0, "why": "x"}}
    path.write_text(json.dumps(old))
    [record] = journal.read(Home(tmp_path))
    assert record.state is status
    assert record.variants["mlp"] == journal.Outcome(Result.SKIPPED, why="x")


def test_a_heartbeat_is_written_when_a_component_begins_and_otherwise_now_and_then(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, writes = Home(tmp_path), 0
    write = write_json

    def counted(path: pathlib.Path, values: dict[str, object]) -> None:
        nonlocal writes
        writes += 1
        write(path, values)

    writer = journal.Writer.begin(home, Command.RUN)
    monkeypatch.setattr(journal, "write_json", counted)
    for _ in range(1000):
        writer.beat()
    assert writes == 1
    writer.beat("Trainer.mlp")
    writer.beat("Evaluator.mlp")
    assert writes == 3
    [record] = journal.read(home)
    assert (record.doing, bool(record.progress)) == ("Evaluator.mlp", True)
    writer.end(1.0, None)
    writer.beat("too late")
    [record] = journal.read(home)
    assert (record.status, record.doing) == (Status.SUCCEEDED, "")


def test_a_heartbeat_that_finds_the_disk_full_fails_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = journal.Writer.begin(Home(tmp_path), Command.RUN)

    def full(path: pathlib.Path, values: dict[str, object]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write_json", full)
    writer.beat("Trainer.mlp")
    assert writer.record.doing == "Trainer.mlp"


def test_a_process_that_the_run_forked_only_touches_the_file(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path)
    writer = journal.Writer.begin(home, Command.RUN)
    place = home.record(writer.record.stamp)
    content = place.read_bytes()
    os.utime(place, (0, 0))
    writer.note(pid=os.getpid() + 1)  # as a child sees it
    writer.beat()
    assert place.read_bytes() == content
    assert place.stat().st_mtime > 0
    [record] = journal.read(home)
    assert record.progress > "2000"
