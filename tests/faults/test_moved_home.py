"""Homes that were moved or copied go on as before in their new place, and the original is left alone."""

import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tallies import Section

pytestmark = [pytest.mark.faults, pytest.mark.section(Section.MOVED)]


def contents(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its time and bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def two_nights(scratch: pathlib.Path, digits_folder: pathlib.Path, warm: Any, make_home: Any) -> Any:
    """A home of two models that were both pushed, and its snapshot."""
    home = make_home(scratch / "two nights", digits_folder, warm)
    home.run()
    home.nights = 1
    home.run()
    assert len(home.versions()) == 2
    home.check()
    return home, home.snapshot()


@pytest.fixture(params=[shutil.move, shutil.copytree], ids=["moved", "copied"])
def elsewhere(
    request: pytest.FixtureRequest, two_nights: Any, tmp_path: pathlib.Path, make_home: Any
) -> Iterator[Any]:
    """The home in another place; the original is gone or has to stay as it is."""
    original, snapshot = two_nights
    original.folder.mkdir(exist_ok=True)
    snapshot.restore()
    transfer: Callable[[pathlib.Path, pathlib.Path], object] = request.param
    home = make_home(tmp_path / "home", original.data, original.warm)
    home.nights = 1
    transfer(original.folder, home.folder)
    before = contents(original.folder)
    assert bool(before) == (transfer is shutil.copytree)
    yield home
    assert contents(original.folder) == before


def command(home: Any, *arguments: object) -> str:
    return str(home.warm.start([*arguments, "--home", home.folder]).fine().out)


def test_a_run_finds_nothing_to_do_and_a_new_candidate_meets_the_model_that_serves(elsewhere: Any) -> None:
    home = elsewhere
    pushed = home.versions()
    first = home.run()
    assert "nothing to do" in first.out
    assert "was moved or copied" in first.out
    assert home.versions() == pushed
    home.check()
    home.nights = 2
    home.run()
    assert home.versions()[:-1] == pushed
    lineage = json.loads(command(home, "lineage", "linear", "--json"))
    assert lineage["compared_with"]["versions"] == pushed[-1:]
    home.check()


def test_what_only_reads_finds_everything_in_the_new_place_and_writes_nothing(elsewhere: Any) -> None:
    home = elsewhere
    before = contents(home.folder)
    for model in ("linear", str(home.serving / "linear" / str(home.versions()[-1]))):
        lineage = json.loads(command(home, "lineage", model, "--json"))
        assert pathlib.Path(lineage["model"]["path"]).is_relative_to(home.artifacts)
        assert [v["folder"] for v in lineage["versions"]] == [
            str(home.serving / "linear" / str(home.versions()[-1]))
        ]
        assert lineage["versions"][0]["current"]
        assert lineage["metrics"]
    assert json.loads(command(home, "lineage", lineage["model"]["path"], "--json")) == lineage
    status = json.loads(command(home, "status", "--json"))
    assert status["status"] == "OK"
    assert pathlib.Path(status["last"]["log"]).is_relative_to(home.folder)
    assert contents(home.folder) == before


def test_people_can_roll_back_promote_and_prune(elsewhere: Any) -> None:
    home = elsewhere
    told = command(home, "rollback", "linear", "--reason", "after the move")
    assert str(home.artifacts) in told
    home.check()
    assert len(home.versions()) == 3
    command(home, "promote", "linear", "--reason", "after the rollback")
    assert len(home.versions()) == 4
    home.check()
    command(home, "prune", "--keep-runs", "1")
    home.check()
    assert len(home.versions()) == 4
