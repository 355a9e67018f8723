"""Every command that the documents show is run here, or listed with the reason why not.

The commands of a cluster are those of tests/kubeflow/test_documents.py. The rest is run in the order of the
documents in one folder, which has the sources, README's settings file and the home `out`.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

import documents
import numpy as np
import pytest
import yaml
from model_server import serving
from PIL import Image
from warm import Child, Warm

from components.ingest import idx
from components.serving.versions import published
from pipeline import cli

pytestmark = pytest.mark.e2e
ROOT = documents.ROOT
SECONDS = 120.0
"""Longest wait for a service."""

SMALL = "PROFILE=smoke DATA={data}"
LOCAL = "tests/e2e/test_local_run.py"
COMPARED = "needs experiments with several seeds: tests/pipeline/registry/test_compare.py runs it"
OPERATED = "needs two models that were pushed: tests/e2e/test_operation.py runs it"
ALARMS = "needs many nights: tests/pipeline/registry/test_alarms.py ends alarms"
INSTALLED = documents.INSTALLED
SCHEDULE = 'schedule --cron "0 3 * * *" --settings'
TENSORBOARD = ".venv/bin/tensorboard --logdir out/artifacts"
RUN: Mapping[str, str] = {
    "make run": f"make run VARIANTS=mlp {SMALL}",
    "make run VARIANTS=cvae,mlp": f"make run VARIANTS=cvae,mlp {SMALL}",
    ".venv/bin/latentline predict out/serving/mlp seven.png --resize area --invert": "",
    "make run VARIANTS=cvae,hypernet_scaled,mlp DATA=mnist": f"make run VARIANTS=cvae,mlp {SMALL}",
    "latentline list": "",
    "latentline show cvae": "",
    "latentline run --variants cvae,iwae,hvae --profile full --data mnist --seed 1": "latentline run "
    "--variants cvae,iwae,hvae --profile full --data mnist --seed 1 --check",
    "latentline run --settings nightly.yaml": "latentline run --settings nightly.yaml --check",
    "latentline run --variants cvae --set cvae.config.latent=10": "latentline run --variants cvae "
    "--set cvae.config.latent=10 --check",
    "latentline run --settings compare.yaml": "latentline run --settings compare.yaml --check",
    "latentline run --variants cvae,iwae --seeds 0,1,2": "latentline run --variants cvae,iwae "
    "--seeds 0,1,2 --check",
    "latentline run --data FOLDER": "latentline run --variants cvae,mlp --profile smoke --data {data}",
    "latentline run --data ~/.keras/datasets/mnist.npz": "latentline run --data ~/.keras/datasets/mnist.npz "
    "--check",
    "latentline run --data data/EMNIST --subset emnist-letters": "latentline run --data data/EMNIST "
    "--subset emnist-letters --check",
    "latentline import data/EMNIST data/letters --subset emnist-letters": "",
    "latentline run --variants linear,vae_dense --data /data/digits --spans 1": "latentline run "
    "--variants linear,vae_dense --data /data/digits --spans 1 --check",
    "latentline evaluate out/serving/iwae --samples 500 --limit 200": "latentline evaluate "
    "out/serving/cvae --samples 5 --limit 20",
    "saved_model_cli show --dir out/serving/cvae/VERSION --tag_set serve": "saved_model_cli show "
    "--dir out/serving/cvae/{cvae} --tag_set serve",
    f"latentline {SCHEDULE} nightly.yaml": "",
    "latentline status --home latentline": "latentline status --home out",
    "latentline lineage latentline/serving/mlp": "latentline lineage out/serving/mlp",
    f"{INSTALLED} {SCHEDULE} /etc/latentline/nightly.yaml": f".venv/bin/latentline {SCHEDULE} nightly.yaml",
    f"{INSTALLED} run --settings /etc/latentline/nightly.yaml >> /srv/latentline/cron.log 2>&1": (
        ".venv/bin/latentline run --settings nightly.yaml --check"
    ),
    f"{INSTALLED} status --home /srv/latentline": ".venv/bin/latentline status --home out",
    "latentline predict out/serving/mlp seven.png": "",
    "latentline predict out/serving/mlp seven.png photo.jpg --resize area --invert": "",
    "latentline predict out/serving/cvae t10k-images-idx3-ubyte.gz --output answers.npz": "",
    "latentline predict out/serving/cvae digits.npy --json": "",
    "latentline lineage out/serving/cvae": "",
    "latentline prune --keep-runs 3 --dry-run --home out/nights/out": "latentline prune --keep-runs 1 "
    "--dry-run --home out",
    "latentline prune --keep-runs 3 --home out/nights/out": "latentline prune --keep-runs 1 --home out",
    TENSORBOARD: "",
}
"""Command as shown -> as run here, in smoke form; empty where they are the same."""
NOT_RUN: Mapping[str, str] = {
    "make test": "CI runs it",
    "make test-long": "it is what runs this test",
    "make setup": "builds the environment of this test",
    "make lint": "tests/test_habits.py checks what it runs; CI runs it",
    ".venv/bin/python -m webbrowser out/report/index.html": "tests/browser opens pages in a browser",
    "make hooks": "changes the clone's Git configuration",
    "latentline run --variants toy --profile smoke": "tests/e2e/test_new_variant.py",
    "pytest tests/trainer/test_contract.py -k toy": "tests/e2e/test_new_variant.py",
    "latentline compare wide vae_dense": COMPARED,
    "latentline compare out/monday out/tuesday": COMPARED,
    "export LATENTLINE_SETTINGS=$PWD/nightly.yaml": LOCAL,
    "tfx pipeline create --engine=local --pipeline_path=pipeline/local_runner.py": LOCAL,
    "tfx run create --engine=local --pipeline_name=latentline": LOCAL,
    'latentline rollback mlp --home latentline --reason "sevens are taken for ones"': OPERATED,
    'latentline rollback cvae --reason "..."': OPERATED,
    "latentline rollback cvae --to VERSION": OPERATED,
    'latentline promote cvae --reason "..."': OPERATED,
    "latentline promote cvae --model ID": OPERATED,
    'latentline resume cvae --reason "..."': ALARMS,
    'latentline accept cvae --reason "..."': ALARMS,
    "java -jar beam-runners-flink-1.18-job-server-2.59.0.jar --flink-master=HOST:8081 "
    "--artifacts-dir=/shared/beam-artifacts": "needs Flink; tests/e2e/test_beam.py has Beam's own job server",
    "pipx run mlflow server": "downloads an environment of its own; MLflow's server conflicts with TFX",
    ".venv/bin/latentline run --mlflow http://127.0.0.1:5000": "tests/pipeline/runs/test_tracking.py",
}
"""Command as shown -> why it is not run here: the test that runs it, or another reason."""
EXAMPLES: Mapping[str, int] = {"README.md": 1, "docs/CALLING.md": 3, "docs/VIEWS.md": 3}
"""Documents and their Python examples, which are run here; CONTRIBUTING's is in test_new_variant.py."""


def shown() -> list[str]:
    """The commands of all documents but those of a cluster."""
    lines = [line for document in documents.DOCUMENTS for line in documents.shown(document)]
    return [line for line in dict.fromkeys(lines) if line not in documents.of_a_cluster()]


def test_every_command_shown_is_run_or_listed_with_a_reason() -> None:
    assert not set(RUN) & set(NOT_RUN)
    assert set(shown()) == {*RUN, *NOT_RUN}


def test_every_test_that_is_said_to_run_a_command_exists() -> None:
    words = " ".join(NOT_RUN.values()).replace(",", " ").split()
    named = [word for word in words if word.startswith("tests/")]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_python_example_is_run() -> None:
    found = {document: len(examples(document)) for document in documents.DOCUMENTS}
    assert found.pop("CONTRIBUTING.md") == 1
    assert {document: count for document, count in found.items() if count} == EXAMPLES


def examples(document: str) -> list[str]:
    return [block.text for block in documents.blocks(document) if block.language == "python"]


class Reader:
    """Somebody who has read the documents, in a folder that looks like a clone after `make setup`."""

    def __init__(self, folder: pathlib.Path, data: pathlib.Path, warm: Warm) -> None:
        self.folder, self.data, self.warm = folder, data, warm
        for path in ROOT.iterdir():
            if not path.name.startswith(".") and path.name != "out":
                (folder / path.name).symlink_to(path)
        (folder / ".venv").symlink_to(sys.prefix)
        [settings] = [b.text for b in documents.blocks("README.md") if b.text.startswith("# nightly.yaml")]
        [compared] = [b.text for b in documents.blocks("README.md") if b.text.startswith("# compare.yaml")]
        (folder / "compare.yaml").write_text(compared)
        (folder / "nightly.yaml").write_text(settings.replace("/srv/latentline", str(folder / "nights")))
        assert yaml.safe_load(settings)["home"] == "/srv/latentline"
        for path in data.iterdir():
            split, rest = path.name.replace("t10k", "test").split("-", 1)
            (folder / "data" / "EMNIST").mkdir(parents=True, exist_ok=True)
            (folder / "data" / "EMNIST" / f"emnist-letters-{split}-{rest}").symlink_to(path)
        digits = idx.read_images(str(data / "t10k-images-idx3-ubyte"))
        np.save(folder / "digits.npy", digits[:5])
        idx.write(str(folder / "t10k-images-idx3-ubyte.gz"), digits[:20])
        Image.fromarray(digits[0]).save(folder / "seven.png")
        Image.fromarray(255 - digits[1]).resize((84, 84)).save(folder / "photo.jpg")

    def values(self) -> dict[str, object]:
        """What stands for the placeholders of the commands."""
        versions = published(str(self.folder / "out" / "serving" / "cvae"))
        return {"data": self.data, **({"cvae": versions[-1]} if versions else {})}

    def arguments(self, command: str) -> list[str]:
        return shlex.split((RUN[command] or command).format(**self.values()))

    def start(self, arguments: list[str]) -> Child:
        """Start a latentline command."""
        return self.warm.start(arguments[1:], {"MNIST_DIR": None}, folder=self.folder)

    def make(self, arguments: list[str]) -> list[str]:
        """The command that make would run."""
        dry = [
            arguments[0],
            "--no-print-directory",
            "--dry-run",
            "--old-file",
            ".venv/.ready",
            *arguments[1:],
        ]
        done = subprocess.run(dry, cwd=self.folder, capture_output=True, text=True, check=True)
        return shlex.split(done.stdout.replace("\\\n", ""))

    def try_it(self, command: str) -> str:
        """What a command prints; it has to succeed."""
        arguments = self.arguments(command)
        if arguments[0] == "make":
            arguments = self.make(arguments)
        if "schedule" in arguments:
            return self.serve(self.start(arguments))
        if pathlib.Path(arguments[0]).name == "latentline":
            return self.start(arguments).fine().out
        program = self.folder / ".venv" / "bin" / arguments[0]
        done = subprocess.run([program, *arguments[1:]], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve(self, child: Child) -> str:
        """What a service prints until it waits for its first run; stopping it has to be no failure."""
        try:
            wait_for(lambda: ", next at " in child.out or child.gone.is_set(), lambda: child.out + child.err)
            child.kill(signal.SIGTERM)
            return child.fine().out
        finally:
            child.kill(signal.SIGKILL)


def wait_for(condition: Callable[[], object], say: Callable[[], str]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, say()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, digits_folder: pathlib.Path, warm: Warm) -> Reader:
    return Reader(tmp_path_factory.mktemp("clone"), digits_folder, warm)


@pytest.mark.long
@pytest.mark.parametrize("command", [name for name in RUN if name != TENSORBOARD])
def test_a_command_that_is_shown_works(reader: Reader, command: str) -> None:
    told = reader.try_it(command)
    assert told or "--check" in RUN[command]


@pytest.mark.long
def test_tensorboard_shows_the_scalars_of_a_training(reader: Reader) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = reader.arguments(TENSORBOARD)
    log = reader.folder / "tensorboard.log"
    address = f"http://127.0.0.1:{port}/data/plugin/scalars"
    with open(log, "w") as file:
        process = subprocess.Popen([*command, f"--port={port}"], cwd=reader.folder, stdout=file, stderr=file)
    tags: dict[str, dict[str, object]] = {}

    def answered() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/tags", timeout=5) as answer:
            tags.update(json.load(answer))
        return any(run.startswith("Trainer.mlp/") and found for run, found in tags.items())

    try:
        wait_for(answered, log.read_text)
        [run, *_] = [run for run, found in tags.items() if run.startswith("Trainer.mlp/") and found]
        [tag, *_] = tags[run]
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        with urllib.request.urlopen(f"{address}/scalars?{query}", timeout=5) as answer:
            points = json.load(answer)
        assert points
        assert all(step > 0 and value > 0 for _, step, value in points)
    finally:
        process.terminate()
        process.wait(30)


def with_the_newest(code: str) -> str:
    """An example with the number of an artifact in place of `<number>`."""
    for before, after in re.findall(r'"([^"]*)<number>([^"]*)"', code):
        newest = max(int(name) for name in os.listdir(before) if name.isdecimal())
        code = code.replace(f"{before}<number>{after}", f"{before}{newest}{after}")
    return code


@pytest.mark.long
@pytest.mark.parametrize("document", EXAMPLES)
def test_python_examples_run_as_they_stand(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    monkeypatch.chdir(reader.folder)
    [*_, version] = published("out/serving/mlp")
    with serving(f"out/serving/mlp/{version}", "mlp") as (rest, remote):
        for example in examples(document):
            code = example.replace("localhost:8501", f"127.0.0.1:{rest}")
            code = with_the_newest(code.replace("localhost:8500", f"127.0.0.1:{remote}"))
            exec(compile(code, document, "exec"), {})


@pytest.mark.parametrize(
    "command", dict.fromkeys(c for document in documents.DOCUMENTS for c in documents.mentioned(document))
)
def test_a_command_in_the_text_is_one_that_exists(command: str) -> None:
    program, *arguments = command.removesuffix("...").split()
    name = pathlib.Path(program).name
    if name == "latentline":
        [parsers] = [a for a in cli.parser()._actions if a.dest == "command"]
        assert parsers.choices is not None
        assert arguments[0] in parsers.choices
        if arguments[1:]:
            cli.parser().parse_args(shlex.split(command.removesuffix("..."))[1:])
    elif name == "make":
        dry = subprocess.run(
            ["make", "--dry-run", "--old-file", ".venv/.ready", *arguments], cwd=ROOT, capture_output=True
        )
        assert dry.returncode == 0, dry.stderr
        variables = [word.split("=")[0] for word in arguments if "=" in word]
        assert all(f"\n{variable} ?=" in (ROOT / "Makefile").read_text() for variable in variables)
    elif "-m" in arguments and (module := arguments[arguments.index("-m") + 1]) != "pytest":
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    else:
        paths = [word for word in arguments if "/" in word and not word.startswith("-")]
        assert [path for path in paths if not (ROOT / path).exists()] == []
