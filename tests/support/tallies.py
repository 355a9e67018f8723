"""What became of the faults that a session has tried, by section: counted here, printed or kept as a table.

A test belongs to a section by its marker. It counts as one fault, survived if it passes, unless it counts
the faults that it tries itself, with the fixture `tally`.
"""

import contextlib
import dataclasses
import enum
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TABLE = pathlib.Path(__file__).with_name("faults_table.py")


class Section(enum.StrEnum):
    """Kinds of faults, in the order in which the table has them."""

    BASELINE = "The baseline is lost or damaged"
    STALE = "Decisions on a model that no longer serves"
    CHECKS = "Models that must not serve"
    INTENT = "Push, rollback, promotion and prune, interrupted at every file operation"
    KILLS = "Runs that are killed or stopped"
    ROOM = "Disks that are full or read-only"
    DAMAGE = "Files that are damaged, cut or withdrawn"
    WAITS = "Hooks and servers that never end, and runs that make no progress"
    CLOCK = "Clocks that are wrong, and two at once"
    COMMANDS = "Commands of operators, on everything that can be wrong"
    SECRETS = "Secrets and hostile content"
    MOVED = "Homes that are moved or copied"


@dataclasses.dataclass
class Tally:
    """What became of a fault, over all the times it was tried."""

    tried: int = 0
    survived: int = 0
    lost: int = 0
    partial: int = 0


TALLIES: dict[str, dict[str, Tally]] = {}


@contextlib.contextmanager
def trial(section: str, fault: str) -> Iterator[Tally]:
    """Count one try of the fault; survived if nothing is raised inside."""
    counted = TALLIES.setdefault(section, {}).setdefault(fault, Tally())
    counted.tried += 1
    yield counted
    counted.survived += 1


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str], contextlib.AbstractContextManager[Tally]]:
    """Count tries of faults, in the section of the test."""
    return functools.partial(trial, _section(request.node))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the table of several sessions."""
    parser.addoption("--faults-tallies", metavar="FILE", help="write what became of the faults to FILE")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Count a test of a section that counts nothing itself."""
    if not _section(item) or "tally" in getattr(item, "fixturenames", ()):
        yield
        return
    name = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
    with trial(_section(item), name):
        yield


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the tallies where --faults-tallies says; show the table of a session of the faults' suite."""
    tallies = json.dumps(
        {
            section: {fault: dataclasses.asdict(counted) for fault, counted in TALLIES[section].items()}
            for section in map(str, Section)
            if section in TALLIES
        }
    )
    if path := config.getoption("--faults-tallies"):
        pathlib.Path(path).write_text(tallies)
    elif TALLIES and "faults" in config.option.markexpr.split():
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(tallies)
            file.flush()
            command = [sys.executable, str(TABLE), file.name]
            terminalreporter.write(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _section(item: Any) -> str:
    marker = item.get_closest_marker("section")
    return str(marker.args[0]) if marker else ""
