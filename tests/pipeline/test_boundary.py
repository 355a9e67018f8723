"""Whatever goes wrong in a command is one sentence, with an exit code, and never a traceback."""

import pathlib
import subprocess
import sys

import pytest

from pipeline.home.layout import Home


def latentline(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    """A home whose database is a valid SQLite file of another program."""
    import sqlite3

    found = Home(tmp_path / "home")
    found.logs.mkdir(parents=True)
    with sqlite3.connect(found.database) as connection:
        connection.execute("CREATE TABLE Artifact (colour TEXT)")
    return found


@pytest.mark.parametrize("command", [("rollback", "mlp"), ("promote", "mlp"), ("prune", "--keep-runs", 1)])
def test_a_store_of_another_schema_is_one_sentence(home: Home, command: tuple[object, ...]) -> None:
    (home.versions("mlp") / "7").mkdir(parents=True)
    (home.versions("mlp") / "7" / "latentline_source.txt").write_text("artifacts/Trainer.mlp/model/1")
    done = latentline(*command, "--home", home)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("latentline: error: ")]
    assert len(lines) == 1


@pytest.mark.parametrize("path", ["x" * 300, "~no-such-user-here/home"])
def test_a_home_that_cannot_be_is_one_sentence(path: str) -> None:
    for command, code in ((("status",), 3), (("rollback", "mlp"), 1)):
        done = latentline(*command, "--home", path)
        assert done.returncode == code
        assert "Traceback" not in done.stderr + done.stdout
        assert len((done.stdout + done.stderr).strip().splitlines()) == 1
