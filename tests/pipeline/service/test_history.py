"""The list of a home's runs: newest first, in 80 columns, with what came of each and where its page is."""

import json
import pathlib

import pytest

from pipeline import cli
from pipeline.config.errors import RunFailed
from pipeline.home import journal
from pipeline.home.journal import Command, Outcome, Result
from pipeline.home.layout import Home


def recorded(
    home: Home, command: Command = Command.RUN, error: Exception | None = None, **variants: Outcome
) -> str:
    user = "" if command is Command.RUN else "eve"
    writer = journal.Writer.begin(home, command, user=user)
    writer.note(variants=variants)
    writer.end(61.0, error)
    return writer.record.stamp


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path)


def listed(home: Home, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["history", "--home", str(home), *options])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_runs_are_listed_newest_first_with_what_came_of_them(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed = recorded(home, mlp=Outcome(Result.PUSHED, 17), cvae=Outcome(Result.REFUSED, why="worse"))
    home.report_of(pushed).mkdir(parents=True)
    failed = recorded(home, error=RunFailed("DriftGate failed: drift"), mlp=Outcome(Result.SKIPPED, why="x"))
    recorded(home, command=Command.ROLLBACK, mlp=Outcome(Result.PUSHED, 18))
    recorded(home, mlp=Outcome(Result.CACHED, 18))
    many = {f"variant_{number}": Outcome(Result.PUSHED, 19) for number in range(16)}
    recorded(home, Command.RUN, None, **many)
    lines = listed(home, capsys).splitlines()
    assert max(map(len, lines[:6])) <= 80
    ends = ["pushed 16 variants", "nothing new", "rollback of mlp 18 by eve", "skipped mlp"]
    assert [line.endswith(end) for line, end in zip(lines[1:5], ends, strict=True)] == [True] * 4
    assert lines[4].startswith(failed)
    assert lines[4].split()[1] == "failed"
    assert lines[5].startswith(f"{pushed}*")
    assert lines[5].endswith("pushed mlp; refused cvae")
    assert str(home.report_archive) in lines[-1]


def test_a_run_that_failed_before_any_variant_says_why(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(home, error=RunFailed("MNIST cannot be downloaded"))
    assert "MNIST cannot be downloaded" in listed(home, capsys)


def test_json_has_every_field_and_the_page(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = recorded(home), recorded(home)
    home.report_of(first).mkdir(parents=True)
    found = json.loads(listed(home, capsys, "--json"))
    assert [each["stamp"] for each in found] == [second, first]
    assert [bool(each["page"]) for each in found] == [False, True]
    assert [each["stamp"] for each in json.loads(listed(home, capsys, "--json", "--limit", "1"))] == [second]


def test_a_home_that_does_not_exist_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["history", "--home", str(tmp_path / "nope")])
    assert ended.value.code == 1
    assert f"there is no home {tmp_path / 'nope'}" in capsys.readouterr().err


def test_a_home_without_runs_says_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(home, capsys).startswith("no runs in ")
