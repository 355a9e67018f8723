"""The contributor guide's promise: one new file is listed, run, ranked and tested, with no other edit."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e
ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of the project with the guide's variant in it."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("schemas", "components", "trainer", "pipeline", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (folder / "trainer" / "variants" / "toy.py").write_text(code)
    return folder


def run(sources: pathlib.Path, *command: object) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_it_is_listed(sources: pathlib.Path) -> None:
    assert re.search(r"^toy +Toy: one linear layer each way", run(sources, "-m", "pipeline", "list"), re.M)


def test_it_is_run_evaluated_and_pushed(sources: pathlib.Path, digits_folder: pathlib.Path) -> None:
    home = sources / "out"
    chosen = ("--variants", "toy", "--profile", "smoke", "--data", digits_folder, "--home", home)
    run(sources, "-m", "pipeline", "run", *chosen)
    [row] = json.loads((home / "report" / "leaderboard.json").read_text())
    assert row["variant"] == "toy"
    assert row["blessed"], row["why_not"]
    assert (home / "serving" / "toy" / str(row["pushed_version"]) / "saved_model.pb").exists()


def test_it_is_held_to_the_contract(sources: pathlib.Path) -> None:
    told = run(sources, "-m", "pytest", "tests/trainer/test_contract.py", "-k", "toy")
    assert re.search(r"\d+ passed", told)
