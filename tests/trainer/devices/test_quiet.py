import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
LOUD = "import google.api_core, tensorflow"
"""Imports that write to standard error in a process that has not been silenced."""


@pytest.mark.parametrize("silenced", [True, False])
def test_libraries_that_are_imported_say_nothing_once_they_are_silenced(silenced: bool) -> None:
    first = "from trainer.devices import quiet; quiet.libraries(); " if silenced else ""
    done = subprocess.run(
        [sys.executable, "-c", f"{first}{LOUD}"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (done.stdout, bool(done.stderr)) == ("", not silenced)


@pytest.mark.parametrize(
    "command", [["-m", "benchmarks.scale"], ["-m", "benchmarks.measure_noise"], ["benchmarks/loop.py"]]
)
def test_a_benchmark_that_needs_tensorflow_begins_with_its_own_lines(command: list[str]) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
