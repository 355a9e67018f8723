"""What a user meets at the command line, mistakes first: one line, what was found, and a non-zero exit."""

import argparse
import importlib.metadata
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable

import filelock
import pytest
import yaml
from warm import Warm

from components.ingest import idx
from pipeline import cli
from pipeline.commands import run
from trainer import variants

ROOT = pathlib.Path(__file__).parents[2]


def latentline(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        env={**{k: v for k, v in os.environ.items() if k != "MNIST_DIR"}, **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )


def refused(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of the error."""
    assert result.returncode == code, result.stdout + result.stderr
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("latentline: error: ")
    return line


def test_list_shows_every_variant_with_its_summary_and_starts_no_tensorflow() -> None:
    program = "import sys; from pipeline.cli import main; main(['list'])"
    watch = f"{program.replace('; main', '; import atexit; atexit.register(check); main')}"
    check = "def check(): print('tensorflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{check}\n{watch}"], capture_output=True, text=True, check=True
    )
    *lines, loaded = result.stdout.splitlines()
    told = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in told] == variants.names()
    assert all(variants.summary(line.split()[0]) in line for line in told)
    measured = [line.strip() for line in lines if line.startswith(" ")]
    assert measured == [f"measured: {text}" for text in map(variants.measured, variants.names()) if text]
    assert len(measured) > 5
    assert loaded == "False"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m pipeline list | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(variants.names()[0])
    assert result.stderr == ""


def test_help_names_profiles_and_protocols() -> None:
    text = latentline("run", "--help").stdout
    assert all(
        word in text for word in ("smoke", "quick", "full", "threshold", "stochastic", "dynamic", "grey")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--variants", "vae9"),
            "unknown variant 'vae9'; did you mean hvae? Otherwise choose from aae",
        ),
        (("--profile", "slow"), "unknown profile 'slow'; choose from smoke, quick, full"),
        (("--protocol", "hard"), "unknown protocol 'hard'"),
        (("--settings", "nowhere.yaml"), "cannot read the settings file nowhere.yaml"),
    ],
)
def test_a_wrong_request_lists_what_is_accepted(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(latentline("run", *arguments), 2)


@pytest.fixture
def data(tmp_path: pathlib.Path, digits_folder: pathlib.Path) -> pathlib.Path:
    """A folder of digits to spoil."""
    return pathlib.Path(shutil.copytree(digits_folder, tmp_path / "data"))


def truncate(data: pathlib.Path) -> None:
    images = idx.read_images(str(data / "train-images-idx3-ubyte"))
    idx.write(str(data / "train-images-idx3-ubyte.gz"), images)
    (data / "train-images-idx3-ubyte").unlink()
    whole = (data / "train-images-idx3-ubyte.gz").read_bytes()
    (data / "train-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])


def change_magic(data: pathlib.Path) -> None:
    path = data / "t10k-labels-idx1-ubyte"
    path.write_bytes(b"\1" + path.read_bytes()[1:])


def drop_a_label(data: pathlib.Path) -> None:
    labels = idx.read_labels(str(data / "train-labels-idx1-ubyte"))
    idx.write(str(data / "train-labels-idx1-ubyte"), labels[:-1])


def remove_all(data: pathlib.Path) -> None:
    for path in data.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "its gzip data is cut or damaged"),
        (change_magic, "begins with 0x01000801, expected 0x00000801"),
        (drop_a_label, "labels"),
        (remove_all, "holds no files"),
    ],
)
def test_bad_data_is_named_and_leaves_nothing_that_a_later_run_would_read(
    data: pathlib.Path,
    tmp_path: pathlib.Path,
    spoil: Callable[[pathlib.Path], None],
    message: str,
    warm: Warm,
) -> None:
    spoil(data)
    home = tmp_path / "home"
    line = warm.start(
        ["run", "--variants=mlp", f"--data={data}", f"--home={home}"], {"MNIST_DIR": None}
    ).error()
    assert message in line
    left = [path for path in home.rglob("*") if path.is_file() and path.suffix not in {".log", ".lock"}]
    assert not (home / "serving").exists()
    assert not [path for path in left if "tfrecord" in path.name], left


def test_a_home_that_cannot_be_written_is_refused(tmp_path: pathlib.Path, data: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(latentline("run", "--data", data, "--home", tmp_path / "file" / "home"), 1)
    assert "cannot write to" in line


def test_a_second_run_on_a_home_in_use_is_refused(tmp_path: pathlib.Path, data: pathlib.Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with filelock.FileLock(home / ".lock"):
        line = refused(latentline("run", "--variants", "mlp", "--data", data, "--home", home), 1)
    assert "another run is using" in line
    assert os.listdir(home) == [".lock"]


def test_mnist_is_never_replaced_by_something_else(tmp_path: pathlib.Path) -> None:
    line = refused(
        latentline(
            "run", "--variants", "mlp", "--data", "mnist", "--home", tmp_path / "home",
            MNIST_DIR=str(tmp_path / "nothing"),
        ),
        1,
    )  # fmt: skip
    assert "MNIST_DIR is set" in line


def test_check_shows_the_settings_and_runs_nothing(tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "nightly.yaml"
    settings.write_text("variants: [mlp]\nseed: 3\nnotify: {webhook: 'https://example.org/secret'}\n")
    result = latentline("run", "--settings", settings, "--seed", 4, "--home", tmp_path / "home", "--check")
    assert result.returncode == 0, result.stderr
    shown = yaml.safe_load(result.stdout)
    assert (shown["variants"], shown["seed"], shown["home"]) == (["mlp"], 4, str(tmp_path / "home"))
    assert "secret" not in result.stdout
    assert not (tmp_path / "home").exists()


def test_options_survive_being_handed_on_to_another_command() -> None:
    given = [
        "--variants", "mlp,cvae", "--spans", "2", "--data", "/data", "--warm-start", "--verbose",
        "--on-push", "echo 'a b'", "--webhook", "$HOOK", "--keep", "0",
    ]  # fmt: skip
    parser = argparse.ArgumentParser()
    run.add_options(parser)
    options = parser.parse_args(given)
    again = parser.parse_args(run.arguments_of(options))
    assert again == options
    assert run.settings_of(again).keep == 0


def helps() -> dict[str, str]:
    [commands] = [action for action in cli.parser()._actions if action.dest == "command"]
    assert isinstance(commands.choices, dict)
    return {name: parser.format_help() for name, parser in commands.choices.items()}


@pytest.mark.parametrize("command", helps())
def test_every_command_has_examples_and_exit_codes_in_its_help(command: str) -> None:
    text = helps()[command]
    assert "\nexit codes:\n  0 " in text
    shown = text.split("\nexamples:\n")[1]
    assert shown.startswith(f"  latentline {command}")


@pytest.mark.parametrize("command", helps())
def test_every_example_in_a_help_text_is_a_request_that_is_understood(command: str) -> None:
    lines = re.findall(rf"^  (latentline {command}.*)$", helps()[command], re.MULTILINE)
    assert lines
    for line in lines:
        given = re.split(r" {2,}| \| | > ", line)[0]
        cli.parser().parse_args(shlex.split(given)[1:])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Exit code, output and errors of a command, within this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code, *capsys.readouterr()


def test_the_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = told(capsys)
    assert (code, errors) == (0, "")
    assert "usage: latentline" in out
    assert "exit codes:" in out


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "--version")
    assert code == 0
    assert out == f"latentline {importlib.metadata.version('latentline')}\n"


def test_status_names_a_home_that_does_not_exist(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(capsys, "status", "--home", str(tmp_path / "nope"))
    assert code == 3
    assert out == f"UNKNOWN: there is no home {tmp_path / 'nope'}; name one with --home\n"


@pytest.mark.parametrize("given", ["--variants=", "--variants=,"])
def test_no_names_of_variants_are_not_all_variants(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = told(capsys, "run", given)
    assert code == 2
    assert "expected names of variants; leave the option out to train all" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kubeflow/compile.py", "--output", "/nope/p.yaml"], "there is no folder /nope"),
        (["kubeflow/compile.py", "--output", "p.yaml", "--variants="], "expected names of variants"),
        (["pipeline/local_runner.py"], "cannot read the settings file nowhere.yaml"),
    ],
)
def test_scripts_end_in_one_sentence_too(arguments: list[str], message: str) -> None:
    script, *rest = arguments
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *rest],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LATENTLINE_SETTINGS": "nowhere.yaml"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
