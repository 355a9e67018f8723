"""Whatever goes wrong in a command is one sentence, with an exit code as documented, never a traceback."""

import builtins
import contextlib
import errno
import io
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tallies import Section

from components.serving.versions import SOURCE
from pipeline import cli
from pipeline.home.layout import Home
from pipeline.service.schedule import Service

CHANGES = {
    "rollback": ("rollback", "mlp"), "promote": ("promote", "mlp"), "prune": ("prune", "--keep-runs", "1"),
}  # fmt: skip
"""Commands that change a home, and fail with exit code 1."""
READS = {"lineage": ("lineage", "mlp"), "status": ("status",)}
CODES = {**dict.fromkeys([*CHANGES, "lineage"], 1), "status": 3}
DEEP = "[" * 100_000


class Done:
    """What a command printed, and its exit code."""

    def __init__(self, *arguments: object) -> None:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main([str(argument) for argument in arguments])
        self.code, self.out, self.err = ended.value.code, out.getvalue(), err.getvalue()

    def sentence(self, code: int) -> str:
        """Return the one line about what went wrong, which has to have that exit code."""
        assert self.code == code, self.out + self.err
        assert "Traceback" not in self.out + self.err
        errors = [line for line in self.err.splitlines() if line.startswith("latentline: error: ")]
        [line] = errors or self.out.splitlines()[:1]
        return line


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    """A home with a version, whose database is a valid SQLite file of another program."""
    found = Home(tmp_path / "home")
    found.logs.mkdir(parents=True)
    found.runs.mkdir()
    with sqlite3.connect(found.database) as connection:
        connection.execute("CREATE TABLE Artifact (colour TEXT)")
    version = found.versions("mlp") / "7"
    version.mkdir(parents=True)
    (version / SOURCE).write_text("artifacts/Trainer.mlp/model/1")
    return found


@pytest.mark.parametrize("name", [*CHANGES, "lineage"])
@pytest.mark.section(Section.COMMANDS)
@pytest.mark.usefixtures("one_attempt")
def test_a_store_of_another_schema_is_one_sentence(home: Home, name: str) -> None:
    done = Done(*{**CHANGES, **READS}[name], "--home", home)
    assert "schema" in done.sentence(1) or str(home.command_log) in done.sentence(1)


@pytest.mark.parametrize("path", ["x" * 300, "~no-such-user-here/home", "nul\0byte"])
@pytest.mark.parametrize("name", CODES)
@pytest.mark.section(Section.COMMANDS)
def test_a_home_that_cannot_be_is_one_sentence(name: str, path: str) -> None:
    assert Done(*{**CHANGES, **READS}[name], "--home", path).sentence(CODES[name])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.section(Section.COMMANDS)
def test_a_disk_that_takes_nothing_is_one_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    refuse(monkeypatch, home, number, writing=True)
    line = Done(*CHANGES[name], "--home", home).sentence(1)
    assert str(home) in line
    assert os.strerror(number) in line or "the disk is full" in line or "may not be written" in line


@pytest.mark.parametrize("name", READS)
@pytest.mark.section(Section.COMMANDS)
def test_a_disk_that_cannot_be_read_is_one_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home.schedule.write_text("{}")
    refuse(monkeypatch, home, errno.EIO, writing=False)
    line = Done(*READS[name], "--home", home).sentence(CODES[name])
    assert os.strerror(errno.EIO) in line


def refuse(monkeypatch: pytest.MonkeyPatch, home: Home, number: int, writing: bool) -> None:
    """Let the operating system refuse to open any file of the home for writing, or for reading."""

    def wrapped(real: Callable[..., Any], writes: Callable[[Any], bool]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **named: Any) -> Any:
            how = arguments[0] if arguments else named.get("mode", "r")
            inside = isinstance(path, str | os.PathLike) and pathlib.Path(path).is_relative_to(home.folder)
            if inside and writes(how) is writing and pathlib.Path(path) != home.command_log:
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *arguments, **named)

        return call

    writable = os.O_WRONLY | os.O_RDWR
    monkeypatch.setattr(os, "open", wrapped(os.open, lambda flags: bool(flags & writable)))
    for owner in (builtins, io):
        monkeypatch.setattr(owner, "open", wrapped(builtins.open, lambda mode: bool(set(mode) & set("wax+"))))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("content", [DEEP, "{}", "[]", "\0", '{"kind": "promote"}', '{"kind": "x"}', ""])
@pytest.mark.section(Section.COMMANDS)
def test_an_intent_that_was_tampered_with_is_one_sentence(home: Home, name: str, content: str) -> None:
    home.intent.write_text(content)
    line = Done(*CHANGES[name], "--home", home).sentence(1)
    assert f"{home.intent} is damaged" in line


@pytest.mark.parametrize("content", [DEEP, "{}", "[]", "\0", '{"pid": []}', "NaN"])
@pytest.mark.section(Section.COMMANDS)
def test_a_schedule_or_record_that_was_tampered_with_is_one_sentence(home: Home, content: str) -> None:
    home.record("20261125-030000").write_text(content)
    done = Done("status", "--home", home)
    assert f"{home.record('20261125-030000')} is damaged" in done.sentence(3)
    home.schedule.write_text(content)
    assert f"{home.schedule} cannot be read" in Done("status", "--home", home).sentence(3)


@pytest.mark.parametrize(
    "wrong",
    [
        'data: "nul\\0byte"',
        "data: digits\nnotify: {timeout: .nan}",
        "data: digits\nnotify: {timeout: .inf}",
        "data: digits\nmax_gain: {elbo: .nan}",
        "data: digits\nmax_gain: {elbo: .inf}",
        "data: digits\noverrides: {linear: {recipe: {learning_rate: .nan}}}",
        "data: digits\noverrides: {linear: {recipe: {learning_rate: .inf}}}",
        "data: digits\noverrides: {linear: {recipe: {floor: .nan}}}",
    ],
)
@pytest.mark.parametrize("name", ["run", "schedule"])
@pytest.mark.section(Section.COMMANDS)
def test_a_setting_that_is_no_number_or_no_path_is_one_sentence(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: str
) -> None:
    monkeypatch.setattr(Service, "run", lambda service: pytest.fail("the service began"))
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"variants: [linear]\nprofile: smoke\nhome: {tmp_path / 'home'}\n{wrong}\n")
    more = ("--cron", "0 3 * * *") if name == "schedule" else ("--check",)
    assert Done(name, "--settings", settings, *more).sentence(2)
    assert not (tmp_path / "home").exists()


def process(*arguments: object, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, with its streams redirected as the shell does."""
    words = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirect}', "bash", *words],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirect", "code", "error"),
    [
        (">&-", 3, ""),
        ("<&- >&- 2>&-", 3, ""),
        (">/dev/full", 3, "latentline: error: the output cannot be written (No space left on device)\n"),
    ],
)
@pytest.mark.section(Section.COMMANDS)
def test_an_output_that_is_closed_or_full_changes_no_exit_code(
    home: Home, redirect: str, code: int, error: str
) -> None:
    done = process("status", "--home", home, redirect=redirect)
    assert (done.returncode, done.stderr) == (code, error)


@pytest.mark.section(Section.COMMANDS)
def test_a_terminal_without_utf_8_shows_escapes(home: Home) -> None:
    umlaut = home.folder.rename(home.folder.with_name("hütte"))
    Home(umlaut).schedule.write_text("{")
    done = process("status", "--home", umlaut, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 3
    assert "h\\xfctte" in done.stdout
    assert done.stderr == ""


@pytest.mark.section(Section.COMMANDS)
@pytest.mark.usefixtures("one_attempt")
def test_the_log_has_what_the_sentence_leaves_out(home: Home) -> None:
    line = Done("promote", "mlp", "--home", home).sentence(1)
    assert f"{home.command_log} has the rest" in line
    assert "Traceback" in home.command_log.read_text()
    assert json.dumps(line)
