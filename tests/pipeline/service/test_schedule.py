"""The schedule's service: real processes, real signals, APScheduler with seconds between two times."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from tallies import Section

from pipeline.config.exit_codes import STOPPED
from pipeline.config.notify import Notify
from pipeline.home import journal
from pipeline.home.files import write_json
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.service import cron, schedule, status

EVERY_SECOND = """
import pathlib, sys
from pipeline.home.layout import Home
from apscheduler.triggers.interval import IntervalTrigger
from pipeline.config.notify import Notify
from pipeline.service.schedule import Service
home, *arguments = sys.argv[1:]
Service(Home(pathlib.Path(home)), "* * * * *", arguments, Notify(), IntervalTrigger(seconds=1)).run()
"""
NIGHTLY = ("--cron", "0 3 * * *")
QUICK = ("--variants", "linear", "--profile", "smoke", "--data", "digits")


@contextlib.contextmanager
def service(*command: object) -> Iterator[subprocess.Popen[str]]:
    """The process, which is killed at the end if it is still there."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def nightly(
    home: pathlib.Path, *arguments: object
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return service("-m", "pipeline", "schedule", *NIGHTLY, "--home", home, *QUICK, *arguments)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a service that was told to stop has said."""
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    return out, errors


def missed(home: pathlib.Path) -> None:
    """Leave what a service leaves that was last there two days ago."""
    ago = (datetime.datetime.now().astimezone() - datetime.timedelta(days=2)).isoformat(timespec="seconds")
    state = schedule.State("0 3 * * *", [], socket.gethostname(), 1, "gone", since=ago, stopped=ago)
    home.mkdir(exist_ok=True)
    write_json(Home(home).schedule, dataclasses.asdict(state))


def state(home: pathlib.Path) -> schedule.State:
    found = schedule.read(Home(home))
    assert found is not None
    return found


def code(home: pathlib.Path) -> int:
    return status.find(Home(home), datetime.datetime.now().astimezone()).code


def runs(home: pathlib.Path) -> list[journal.RunRecord]:
    return journal.read(Home(home))


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "home"


@pytest.fixture
def nowhere(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder without data, so that runs fail within a second."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cron", "0 3 * *"), 'such as "0 3 * * *" for every night at 3:00'),
        (NIGHTLY, "data is auto, which may be another data set each night"),
        ((*NIGHTLY, "--data", "digits", "--new-era"), "new_era is a decision about one run"),
        ((*NIGHTLY, "--variants", "vae9"), "unknown variant 'vae9'"),
        ((*NIGHTLY, "--settings", "nowhere.yaml"), "cannot read the settings file"),
        ((*NIGHTLY, "--variants", "linear", "--on-push", "echo 'x"), "on_push is no command"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_served(
    tmp_path: pathlib.Path, arguments: tuple[str, ...], message: str
) -> None:
    command = [sys.executable, "-m", "pipeline", "schedule", "--home", str(tmp_path / "home"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert result.returncode == 2, result.stderr
    [line] = result.stderr.strip().splitlines()
    assert message in line
    assert not (tmp_path / "home").exists()


def test_an_idle_service_writes_down_what_is_next_and_stops_when_told(home: pathlib.Path) -> None:
    with nightly(home) as process:
        until(Home(home).schedule.exists, "the service writes its state")
        until(lambda: state(home).alive(Home(home)), "the service is alive")
        assert state(home).pid == process.pid
        due = datetime.datetime.fromisoformat(state(home).next)
        assert (due.hour, due.minute) == (3, 0)
        assert due > datetime.datetime.now().astimezone()
        assert code(home) == status.UNKNOWN
        process.send_signal(signal.SIGTERM)
        out, _ = ended(process)
    assert "stopped" in out
    assert runs(home) == []
    assert not state(home).alive(Home(home))
    assert code(home) == status.CRITICAL


def test_a_second_service_on_a_home_is_refused(home: pathlib.Path) -> None:
    with nightly(home) as first:
        until(Home(home).schedule.exists, "the first service is there")
        with nightly(home) as second:
            _, errors = second.communicate(timeout=90)
        assert second.returncode == 1
        assert f"has a schedule service already (process {first.pid}" in errors


def test_a_service_that_was_killed_is_critical_and_leaves_no_lock(home: pathlib.Path) -> None:
    with nightly(home) as process:
        until(Home(home).schedule.exists, "the service writes its state")
        process.kill()
    assert not state(home).alive(Home(home))
    assert code(home) == status.CRITICAL
    with nightly(home) as process:
        until(lambda: state(home).pid == process.pid, "another service takes over")


def test_what_comes_due_during_a_run_is_one_more_run_and_never_two_at_once(
    home: pathlib.Path, nowhere: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    told = tmp_path / "told"
    slow = f"sh -c 'echo begin >> {told}; sleep 3; echo end >> {told}'"
    arguments = ("--home", home, *QUICK, "--data", nowhere, "--on-failure", slow)
    started = time.monotonic()
    with service("-c", EVERY_SECOND, home, *arguments) as process:
        until(lambda: len(runs(home)) >= 3, "three runs have begun")
        process.send_signal(signal.SIGINT)
        out, _ = ended(process)
    seconds = time.monotonic() - started
    entries = runs(home)
    assert len(entries) <= seconds / 3 + 1
    lines = told.read_text().split()
    assert lines == (["begin", "end"] * len(lines))[: len(lines)]
    assert out.count("run begins") == len(entries)
    assert all(entry.exit_code == 1 for entry in entries[:-1])
    assert entries[-1].exit_code in (1, STOPPED)  # it may have been under way when the service was told


def test_what_runs_print_goes_to_the_terminal_and_to_a_log(home: pathlib.Path, nowhere: pathlib.Path) -> None:
    missed(home)
    with nightly(home, "--data", nowhere) as process:
        until(lambda: state(home).exit_code is not None and state(home).ended, "the run has ended")
        process.send_signal(signal.SIGTERM)
        out, _ = ended(process)
    assert "holds no files" in out
    assert Home(home).schedule_log.read_text() == out


def test_a_run_that_was_missed_is_made_up_for_once_and_said(
    home: pathlib.Path, nowhere: pathlib.Path
) -> None:
    missed(home)
    with nightly(home, "--data", nowhere) as process:
        until(lambda: state(home).ended, "the run has ended")
        process.send_signal(signal.SIGTERM)
        out, _ = ended(process)
    assert out.count("was missed; it starts now") == 1
    assert len(runs(home)) == 1
    with nightly(home, "--data", nowhere) as process:
        until(lambda: state(home).pid == process.pid, "the second service is there")
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert len(runs(home)) == 1


def test_a_new_schedule_has_missed_nothing(home: pathlib.Path, nowhere: pathlib.Path) -> None:
    with nightly(home, "--data", nowhere) as process:
        until(Home(home).schedule.exists, "the service is there")
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert runs(home) == []


def test_another_run_on_the_home_is_waited_for(home: pathlib.Path, nowhere: pathlib.Path) -> None:
    missed(home)
    with exclusive(Home(home)), nightly(home, "--data", nowhere) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "waiting for it to end" in line:
                break
        assert runs(home) == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == 0
    with nightly(home, "--data", nowhere):
        until(lambda: len(runs(home)) == 1, "the run begins once the home is free")


def test_settings_that_became_wrong_are_critical_and_told(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    told, settings = tmp_path / "told", tmp_path / "nightly.yaml"
    settings.write_text("variants: [linear]\n")
    missed(home)
    held = contextlib.ExitStack()
    held.enter_context(exclusive(Home(home)))
    with held, nightly(home, "--settings", settings, "--on-failure", f"sh -c 'cat > {told}'") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "waiting for it to end" in line:
                break
        settings.write_text("variant: linear\n")
        held.close()
        until(told.exists, "the hook has run")
        until(lambda: state(home).ended, "the run has ended")
        assert state(home).exit_code == 2
        assert code(home) == status.CRITICAL
        process.send_signal(signal.SIGTERM)
        ended(process)
    event = json.loads(told.read_text())
    assert event["event"] == "failure"
    assert "no such field" in event["text"]
    assert runs(home) == []


def test_a_run_that_is_killed_is_told_of_at_once(
    home: pathlib.Path, tmp_path: pathlib.Path, digits_folder: pathlib.Path
) -> None:
    told = tmp_path / "told"
    missed(home)
    with nightly(home, "--data", digits_folder, "--on-failure", f"sh -c 'cat > {told}'") as process:
        until(lambda: runs(home), "the run has begun")
        [entry] = runs(home)
        assert code(home) == status.OK
        os.kill(entry.pid, signal.SIGKILL)
        until(told.exists, "the hook has run")
        until(lambda: state(home).ended, "the run has ended")
        assert state(home).exit_code == 137
        process.send_signal(signal.SIGTERM)
        out, _ = ended(process)
    assert "crashed" in out
    assert "crashed" in json.loads(told.read_text())["text"]
    [entry] = runs(home)
    assert entry.status is journal.Status.CRASHED
    assert code(home) == status.CRITICAL


def test_a_stop_lets_the_run_leave_in_good_order_and_the_next_service_goes_on_with_it(
    home: pathlib.Path, digits_folder: pathlib.Path
) -> None:
    missed(home)
    with nightly(home, "--data", digits_folder) as process:
        until(lambda: runs(home), "the run has begun")
        process.send_signal(signal.SIGTERM)
        out, _ = ended(process)
    [entry] = runs(home)
    assert (entry.status, entry.exit_code) == (journal.Status.STOPPED, 143)
    assert "stopped (SIGTERM)" in out
    with nightly(home, "--data", digits_folder) as process:
        until(lambda: len(runs(home)) == 2, "the run is begun again")
        process.send_signal(signal.SIGTERM)
        out, _ = ended(process)
    assert "was interrupted; it resumes" in out


def test_a_second_signal_kills_a_run_that_does_not_leave(
    home: pathlib.Path, digits_folder: pathlib.Path
) -> None:
    missed(home)
    with nightly(home, "--data", digits_folder) as process:
        until(lambda: runs(home), "the run has begun")
        [entry] = runs(home)
        os.kill(entry.pid, signal.SIGSTOP)  # from now on it leaves SIGTERM for later
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert state(home).exit_code == 128 + signal.SIGKILL
    assert runs(home)[0].state is journal.Status.CRASHED


class Clock:
    """The clock on the wall, as somebody sets it."""

    def __init__(self, text: str) -> None:
        self.now = datetime.datetime.fromisoformat(text)

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def waiting(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[schedule.Service, Clock]:
    """A service that began at ten o'clock, due every hour, and its clock."""
    clock = Clock("2026-11-25T10:00:00+00:00")
    monkeypatch.setattr(schedule, "_now", clock)
    trigger = cron.trigger("30 * * * *", zone=datetime.UTC)
    return schedule.Service(Home(home), "30 * * * *", [], Notify(), trigger), clock


def looks(service: schedule.Service, clock: Clock, text: str) -> bool:
    """Whether a run is due when the service looks at that time; a run that was due has begun."""
    clock.now = datetime.datetime.fromisoformat(text)
    service._look()
    due, service._due = service._due, False
    return due


def test_a_run_comes_due_once_however_many_times_passed(waiting: tuple[schedule.Service, Clock]) -> None:
    service, clock = waiting
    assert not looks(service, clock, "2026-11-25T10:29:59+00:00")
    assert looks(service, clock, "2026-11-25T10:30:00+00:00")
    assert not looks(service, clock, "2026-11-25T10:30:01+00:00")
    assert looks(service, clock, "2026-11-25T17:31:00+00:00")
    assert not looks(service, clock, "2026-11-25T17:32:00+00:00")


@pytest.mark.section(Section.CLOCK)
def test_a_clock_that_is_put_back_by_a_month_makes_the_next_run_due_by_the_new_time(
    waiting: tuple[schedule.Service, Clock],
) -> None:
    service, clock = waiting
    assert looks(service, clock, "2026-12-25T10:31:00+00:00")
    assert not looks(service, clock, "2026-11-25T10:31:00+00:00")
    assert service._patience() <= schedule.BEAT
    assert looks(service, clock, "2026-11-25T11:30:00+00:00")


@pytest.mark.section(Section.CLOCK)
def test_the_service_never_sleeps_longer_than_a_beat_and_wakes_when_a_run_is_due(
    waiting: tuple[schedule.Service, Clock],
) -> None:
    service, clock = waiting
    assert service._patience() == schedule.BEAT
    assert not looks(service, clock, "2026-11-25T10:29:50+00:00")
    assert 10 <= service._patience() < 11


@pytest.mark.section(Section.SECRETS)
def test_the_state_may_hold_secrets_and_is_the_owner_s_alone(home: pathlib.Path) -> None:
    home.mkdir()
    service = schedule.Service(Home(home), "0 3 * * *", ["--webhook", "https://x/key"], Notify())
    service._save()
    assert Home(home).schedule.stat().st_mode & 0o777 == 0o600
    shown = json.dumps(status.find(Home(home), datetime.datetime.now().astimezone()).to_dict())
    assert "--webhook" in shown
    assert "key" not in shown
