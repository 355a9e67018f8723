"""Status: the exit codes and the first line that a monitor sees, for everything that can be in a home."""

import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
from typing import Any

import pytest
from tallies import Section

from components.serving import manifests
from components.serving.versions import SOURCE, note_unverified
from pipeline.config.errors import RunFailed, Stopped
from pipeline.home import journal
from pipeline.home.files import write_json
from pipeline.home.journal import Command, Outcome, Result, Status
from pipeline.home.layout import Home
from pipeline.home.process import identity
from pipeline.service import schedule, status


def now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


def run(
    home: pathlib.Path,
    error: BaseException | None = None,
    drift: tuple[str, ...] = (),
    command: Command = Command.RUN,
    reason: str = "",
    **outcomes: Outcome,
) -> journal.RunRecord:
    user = "" if command is Command.RUN else "eve"
    writer = journal.Writer.begin(Home(home), command, user=user, reason=reason)
    writer.note(variants=outcomes, drift=drift)
    writer.end(61.0, error)
    return writer.record


def plan(home: pathlib.Path, alive: bool = True, due: float = 3600.0, **fields: Any) -> None:
    """A service's file; due: seconds from now."""
    moment = (now() + datetime.timedelta(seconds=due)).isoformat(timespec="seconds")
    state = schedule.State(
        cron="0 3 * * *", arguments=[], host=socket.gethostname(), pid=os.getpid(),
        process=identity(os.getpid()) if alive else "gone", since=now().isoformat(), next=moment,
        home=str(home), **fields,
    )  # fmt: skip
    home.mkdir(exist_ok=True)
    write_json(Home(home).schedule, dataclasses.asdict(state))


PUSHED = Outcome(Result.PUSHED, 17)
CACHED = Outcome(Result.CACHED, 17)
REFUSED = Outcome(Result.REFUSED, why="accuracy 0.2 is below the floor 0.85")


def find(home: pathlib.Path) -> status.Status:
    return status.find(Home(home), now())


def test_without_any_run_nothing_is_known(tmp_path: pathlib.Path) -> None:
    assert (find(tmp_path).code, find(tmp_path).reasons) == (status.UNKNOWN, ["no run yet"])
    plan(tmp_path)
    assert find(tmp_path).code == status.UNKNOWN


@pytest.mark.parametrize("outcome", [PUSHED, CACHED])
def test_a_run_that_went_well_is_ok(tmp_path: pathlib.Path, outcome: Outcome) -> None:
    run(tmp_path, mlp=outcome)
    assert find(tmp_path).code == status.OK
    plan(tmp_path)
    assert find(tmp_path).code == status.OK


def test_being_told_to_stop_is_no_alarm(tmp_path: pathlib.Path) -> None:
    run(tmp_path, Stopped(143))
    assert find(tmp_path).code == status.OK


def test_a_refused_candidate_and_drift_are_warnings(tmp_path: pathlib.Path) -> None:
    run(tmp_path, cvae=PUSHED, mlp=REFUSED)
    assert find(tmp_path).code == status.WARNING
    assert find(tmp_path).reasons == ["mlp was not pushed: accuracy 0.2 is below the floor 0.85"]
    run(tmp_path, drift=("ink has drifted",), mlp=PUSHED)
    assert find(tmp_path).reasons == ["drift: ink has drifted"]
    assert find(tmp_path).code == status.WARNING
    run(tmp_path, mlp=PUSHED)
    assert find(tmp_path).code == status.OK


def test_a_failed_run_is_critical_until_one_goes_well(tmp_path: pathlib.Path) -> None:
    run(tmp_path, RunFailed("Trainer.mlp failed: loss is nan\nTrainer.cvae failed: x"))
    assert find(tmp_path).code == status.CRITICAL
    assert (
        "Trainer.mlp failed: loss is nan Trainer.cvae failed: x" in status.text(find(tmp_path)).split("\n")[0]
    )
    run(tmp_path, command=Command.ROLLBACK, mlp=PUSHED)
    assert find(tmp_path).code == status.CRITICAL
    run(tmp_path, mlp=PUSHED)
    assert find(tmp_path).code == status.OK


def test_a_run_that_crashed_is_critical(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    writer = journal.Writer.begin(Home(tmp_path), Command.RUN)
    assert find(tmp_path).code == status.OK  # under way: this process is alive
    under_way = find(tmp_path).now
    assert under_way
    assert dataclasses.replace(under_way, progress="") == writer.record
    writer.note(process="gone")
    writer.write()
    assert find(tmp_path).code == status.CRITICAL
    assert find(tmp_path).to_dict()["last"]["status"] == "crashed"
    assert "the last run crashed" in find(tmp_path).reasons[0]


@pytest.mark.section(Section.WAITS)
def test_a_dead_service_is_critical_though_the_last_run_went_well(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    plan(tmp_path, alive=False)
    assert find(tmp_path).code == status.CRITICAL
    assert "is not running" in find(tmp_path).reasons[0]
    Home(tmp_path).schedule.unlink()
    assert find(tmp_path).code == status.OK


@pytest.mark.section(Section.MOVED)
def test_a_copy_of_a_home_has_neither_the_service_nor_the_run_of_the_original(tmp_path: pathlib.Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    run(original, mlp=PUSHED)
    plan(original)
    journal.Writer.begin(Home(original), Command.RUN)
    shutil.copytree(original, copy)
    there, here = find(original), find(copy)
    assert (there.service_alive, bool(there.now)) == (True, True)
    assert (here.service_alive, here.now) == (False, None)
    assert f"is not running here, and was started for {original}" in "; ".join(here.reasons)
    assert here.last
    assert here.last.state is Status.CRASHED
    assert [record.status for record in journal.mark_crashed(Home(copy))] == [Status.CRASHED]
    assert find(original).now


@pytest.mark.parametrize(("late", "code"), [(60, status.OK), (3600, status.CRITICAL)])
def test_a_run_that_has_not_begun_is_overdue(tmp_path: pathlib.Path, late: float, code: int) -> None:
    run(tmp_path, mlp=PUSHED)
    plan(tmp_path, due=-late)
    assert find(tmp_path).code == code


def test_a_run_that_takes_long_is_not_overdue(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    journal.Writer.begin(Home(tmp_path), Command.RUN)
    plan(tmp_path, due=-3600)
    assert find(tmp_path).code == status.OK


def under_way(home: pathlib.Path, minutes: float, since_progress: float | None = None, **facts: Any) -> None:
    """A run that began so many minutes ago, and last made progress `since_progress` minutes ago."""
    writer = journal.Writer.begin(Home(home), Command.RUN, **facts)
    still = minutes if since_progress is None else since_progress
    writer.note(started=(now() - datetime.timedelta(minutes=minutes)).isoformat(), doing="Trainer.mlp")
    writer.write()
    moment = (now() - datetime.timedelta(minutes=still)).timestamp()
    os.utime(Home(home).record(writer.record.stamp), (moment, moment))


def took(home: pathlib.Path, *minutes: float, settings: dict[str, Any] | None = None) -> None:
    """Runs that succeeded, of these durations."""
    for each in minutes:
        writer = journal.Writer.begin(Home(home), Command.RUN, settings=settings or {})
        writer.note(variants={"mlp": PUSHED})
        writer.end(60 * each, None)


@pytest.mark.parametrize(
    ("usual", "minutes", "since_progress", "alarm"),
    [
        ((), 50, None, ""),
        ((), 500, 50, ""),
        ((), 500, 70, "has made no progress for 1 h 10 min in Trainer.mlp; look at"),
        ((30, 20), 69, 1, ""),
        ((30, 20), 71, 1, "has taken 1 h 11 min so far; such runs take 30 min"),
        ((30, 20), 65, 61, "has made no progress for 1 h 1 min in Trainer.mlp; such runs take 30 min"),
        ((200, 20), 180, 170, ""),
        ((200, 20), 230, 210, "has made no progress for 3 h 30 min"),
        ((600, *[30] * 10), 71, 1, "has taken 1 h 11 min so far; such runs take 30 min"),
    ],
)
@pytest.mark.section(Section.WAITS)
def test_a_run_is_late_by_its_progress_and_by_its_usual_duration(
    tmp_path: pathlib.Path, usual: tuple[float, ...], minutes: float, since_progress: float | None, alarm: str
) -> None:
    took(tmp_path, *usual)
    under_way(tmp_path, minutes, since_progress)
    found = find(tmp_path)
    assert found.code == (status.CRITICAL if alarm else status.OK)
    assert alarm in "; ".join(found.reasons)
    assert bool(alarm) == any("the run of" in reason for reason in found.reasons)
    assert ", in Trainer.mlp, process" in status.text(found)


def test_a_usual_duration_is_that_of_runs_of_the_same_variants_and_profile(tmp_path: pathlib.Path) -> None:
    quick, full = ({"variants": ["mlp"], "profile": profile} for profile in ("quick", "full"))
    took(tmp_path, 5, settings=quick)
    under_way(tmp_path, 300, 1, settings=full)
    assert find(tmp_path).code == status.OK
    took(tmp_path, 100, settings=full)
    assert "such runs take 1 h 40 min" in find(tmp_path).reasons[0]


def test_a_run_that_failed_was_stopped_or_found_nothing_new_tells_no_duration(tmp_path: pathlib.Path) -> None:
    run(tmp_path, RunFailed("x"))
    run(tmp_path, Stopped(143))
    run(tmp_path, mlp=CACHED)
    refused = journal.Writer.begin(Home(tmp_path), Command.RUN)
    refused.note(variants={"mlp": PUSHED}, cached=True)
    refused.end(2.0, None)
    under_way(tmp_path, 300, 1)
    assert find(tmp_path).code == status.OK


@pytest.mark.section(Section.WAITS)
def test_a_service_that_waits_for_a_run_that_is_not_at_work_is_critical(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    began = (now() - datetime.timedelta(minutes=5)).isoformat()
    plan(tmp_path, started=began)
    assert find(tmp_path).code == status.OK  # hooks have their time
    record = journal.read(Home(tmp_path))[-1]
    earlier = (now() - datetime.timedelta(minutes=15)).isoformat()
    write_json(
        Home(tmp_path).record(record.stamp),
        {**dataclasses.asdict(record), "started": earlier, "ended": earlier},
    )
    plan(tmp_path, started=earlier)
    assert find(tmp_path).code == status.CRITICAL
    assert "that is not at work" in find(tmp_path).reasons[0]
    under_way(tmp_path, 8, 1)
    assert find(tmp_path).code == status.OK


def test_a_scheduled_run_that_never_began_is_critical_until_one_does(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    later = (now() + datetime.timedelta(minutes=1)).isoformat()
    plan(tmp_path, started=later, ended=later, exit_code=2, error="Settings has no variant")
    assert find(tmp_path).code == status.CRITICAL
    assert "Settings has no variant" in find(tmp_path).reasons[0]
    plan(
        tmp_path,
        started="2020-01-01T03:00:00+00:00",
        ended="2020-01-01T03:00:01+00:00",
        exit_code=2,
        error="x",
    )
    assert find(tmp_path).code == status.OK


def test_a_version_of_0_1_that_differs_from_its_model_is_critical(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    folder = Home(tmp_path).versions("mlp") / "17"
    folder.mkdir(parents=True)
    (folder / SOURCE).write_text("/home/artifacts/Trainer.mlp/model/7")
    assert find(tmp_path).code == status.OK  # without a manifest nothing is known against it
    note_unverified(str(folder.parent), 17)
    assert find(tmp_path).code == status.CRITICAL
    assert "version 17 of mlp is damaged (its files are not those of the model" in find(tmp_path).reasons[0]


def test_the_text_says_what_is_in_production_and_by_whom(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED, cvae=REFUSED)
    run(tmp_path, command=Command.ROLLBACK, reason="blurred", mlp=Outcome(Result.PUSHED, 18))
    for version in ("17", "18", ".19-staged"):
        (tmp_path / "serving" / "mlp" / version).mkdir(parents=True)
        (tmp_path / "serving" / "mlp" / version / SOURCE).touch()
    found = find(tmp_path)
    assert found.production == {"mlp": 18}
    text = status.text(found)
    assert "production  mlp  18, pushed" in text
    assert "(rollback by eve: blurred)" in text
    assert "succeeded after 61 s, exit code 0" in text
    assert "  mlp   pushed 17" in text


def version(home: pathlib.Path, number: str) -> pathlib.Path:
    """A pushed version of `mlp` with its manifest."""
    folder = Home(home).versions("mlp") / number
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / SOURCE).write_text("artifacts/Trainer.mlp/model/3")
    manifests.put(folder / manifests.INSIDE, manifests.of(str(folder), ["saved_model.pb"]))
    return folder


def test_a_damaged_version_is_critical_while_it_serves(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    folder = version(tmp_path, "17")
    assert find(tmp_path).code == status.OK
    (folder / "saved_model.pb").write_bytes(b"Graph")
    assert find(tmp_path).code == status.CRITICAL
    assert "version 17 of mlp is damaged" in find(tmp_path).reasons[0]
    version(tmp_path, "18")
    assert find(tmp_path).code == status.OK


def test_a_folder_that_servers_take_for_the_newest_version_is_critical(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    version(tmp_path, "17")
    for name in ("16", "9" * 30):
        (Home(tmp_path).versions("mlp") / name).mkdir()
    assert find(tmp_path).code == status.OK
    (Home(tmp_path).versions("mlp") / "99").mkdir()
    assert find(tmp_path).code == status.CRITICAL
    assert find(tmp_path).production == {"mlp": 17}


def test_a_damaged_schedule_or_entry_is_told(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=PUSHED)
    (Home(tmp_path).runs / "20200101-000000.json").write_text("{")
    assert find(tmp_path).code == status.WARNING
    Home(tmp_path).schedule.write_text("{")
    result = command(tmp_path)
    assert result.returncode == status.UNKNOWN
    assert "cannot be read" in result.stdout


def command(home: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process that says whether TensorFlow or TFX was imported."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(sorted({'tensorflow', 'tfx'} & set(sys.modules)), file=sys.stderr))\n"
        "from pipeline.cli import main; main(sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "status", "--home", str(home), *arguments],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip


def test_the_command_answers_without_tensorflow_in_text_and_json(tmp_path: pathlib.Path) -> None:
    run(tmp_path, mlp=REFUSED)
    result = command(tmp_path)
    assert result.returncode == status.WARNING
    assert result.stdout.startswith("WARNING: mlp was not pushed: accuracy 0.2")
    assert result.stderr.strip() == "[]"
    values = json.loads(command(tmp_path, "--json").stdout)
    assert values["status"] == "WARNING"
    assert values["last"]["variants"]["mlp"]["result"] == "refused"
    assert values["service_alive"] is False


def test_a_reason_is_given_once_and_skipped_variants_share_a_line(tmp_path: pathlib.Path) -> None:
    why = "DriftGate failed: mean_intensity has drifted; look at the data"
    skipped = {f"variant_{number}": Outcome(Result.SKIPPED, why=why) for number in range(16)}
    run(tmp_path, RunFailed(why), ("mean_intensity has drifted",), Command.RUN, "", **skipped)
    found = find(tmp_path)
    assert found.code == status.CRITICAL
    text = status.text(found)
    assert text.count("has drifted") == 1
    assert "\n  16 variants  skipped\n" in text
    assert "variant_3" not in text


def test_skipped_variants_are_named_where_they_are_few_and_keep_a_reason_of_their_own(
    tmp_path: pathlib.Path,
) -> None:
    run(
        tmp_path,
        RunFailed("Trainer.mlp failed: not finite"),
        mlp=Outcome(Result.FAILED, why="Trainer.mlp failed: not finite"),
        cvae=Outcome(Result.SKIPPED, why="the run ended before"),
        iwae=Outcome(Result.SKIPPED, why="the run ended before"),
    )
    text = status.text(find(tmp_path))
    assert text.count("not finite") == 1
    assert "\n  mlp  failed\n" in text
    assert "\n  cvae, iwae  skipped: the run ended before\n" in text
