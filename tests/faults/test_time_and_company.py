"""Clocks that go backwards, and runs that meet."""

import ctypes.util
import pathlib
import shutil
import subprocess
from typing import Any

import pytest
from tallies import Section

pytestmark = [pytest.mark.faults, pytest.mark.section(Section.CLOCK)]
DAY = 86_400


@pytest.fixture(scope="module")
def wrong_clock(scratch: pathlib.Path) -> pathlib.Path:
    """A library that shifts the wall clock of the process that preloads it."""
    compiler = shutil.which("cc")
    if not compiler or not ctypes.util.find_library("c"):
        pytest.skip("no C compiler here to build a clock that is wrong")
    library = scratch / "clock.so"
    source = pathlib.Path(__file__).parent / "scripts" / "clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library


def test_versions_ascend_and_nothing_runs_twice_when_the_clock_goes_back_a_day(
    finished: Any, tally: Any, wrong_clock: pathlib.Path
) -> None:
    home, snapshot = finished
    with tally("clock going backwards") as counted:
        [first] = home.versions()
        home.nights = 1
        environment = {"LD_PRELOAD": str(wrong_clock), "CLOCK_SHIFT": str(-DAY)}
        done = home.command(**environment)
        assert done.returncode == 0, done.stderr
        assert home.versions() == [first, first + 1]
        again = home.command(**environment)
        lines = [line for line in again.stdout.splitlines() if line.startswith("+ ")]
        assert lines
        assert all(line.endswith("cached") for line in lines), again.stdout
        home.nights = 2
        home.run()
        assert len(home.versions()) == 3
        assert home.versions()[:2] == [first, first + 1]
        counted.lost += snapshot.lost()
        home.check()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_second_run_in_the_same_home_is_refused_and_the_first_is_unharmed(
    new_home: Any, warm: Any, tally: Any, jobs: int
) -> None:
    home = new_home(warm)
    home.jobs = jobs
    with tally("two runs at once in one home"):
        first = home.start()
        while "+ IdxExampleGen" not in first.out and not first.gone.is_set():
            pass
        line = home.start().error()
        assert f"another run is using {home.folder}" in line
        first.fine()
        assert len(home.versions()) == 1
        home.check()
