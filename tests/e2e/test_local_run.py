"""The whole pipeline, as a user runs it: one home, several runs one after the other.

The first run is a process of its own, imports and all; later ones are forks of one that has done its imports.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from warm import Child, Warm

from components.ingest import idx
from components.ingest.idx import Images
from schemas import TRAIN_SPLIT

pytestmark = pytest.mark.e2e
ROOT = pathlib.Path(__file__).parent.parent.parent
VARIANTS = ("cvae", "mlp")


class Home:
    """A home, what a run left in it, and the process with a copy of the sources that runs are forks of."""

    def __init__(self, folder: pathlib.Path, data: pathlib.Path, warm: Warm) -> None:
        self.folder, self.data, self.warm = folder, data, warm

    def arguments(self, *more: str) -> list[str]:
        return ["run", "--profile=smoke", f"--data={self.data}", f"--home={self.folder}", *more]

    def run(self, *more: str) -> Child:
        return self.warm.start(self.arguments(*more)).wait()

    def command(self, *more: str) -> subprocess.CompletedProcess[str]:
        """The command itself, imports and all."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *self.arguments(*more)],
            cwd=self.warm.sources,
            env={**os.environ, "PYTHONPATH": str(self.warm.sources)},
            capture_output=True,
            text=True,
            timeout=500,
        )

    def rows(self) -> dict[str, dict]:
        rows = json.loads((self.folder / "report" / "leaderboard.json").read_text())
        return {row["variant"]: row for row in rows}

    def versions(self) -> dict[str, list[str]]:
        return {path.name: sorted(os.listdir(path)) for path in (self.folder / "serving").iterdir()}


def cached(out: str) -> dict[str, bool]:
    """Component -> whether it was cached, from the terminal's lines."""
    lines = [line.split() for line in out.splitlines() if line.startswith("+ ")]
    return {words[1]: words[-1] == "cached" for words in lines}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs a copy of the sources, which a test may edit."""
    sources = tmp_path_factory.mktemp("sources")
    for package in ("schemas", "components", "trainer", "pipeline"):
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    process = Warm(tmp_path_factory.mktemp("warm"), sources)
    yield process
    process.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits_folder: pathlib.Path, warm: Warm) -> Home:
    """After a first run of two variants."""
    home = Home(tmp_path_factory.mktemp("home"), digits_folder, warm)
    result = home.command("--variants", ",".join(VARIANTS))
    assert result.returncode == 0, result.stdout + result.stderr
    assert cached(result.stdout)
    assert not any(cached(result.stdout).values())
    return home


def test_every_variant_is_evaluated_blessed_and_pushed(home: Home) -> None:
    rows = home.rows()
    assert set(rows) == set(VARIANTS)
    for variant, metric in (("cvae", "elbo"), ("mlp", "accuracy")):
        row = rows[variant]
        assert row["blessed"], row["why_not"]
        assert home.versions()[variant] == [str(row["pushed_version"])]
        measured = row["metrics"][metric]
        assert measured["lower"] < measured["value"] < measured["upper"]
        assert measured["unit"]
        assert row["train_seconds"] > 0
        assert row["images_per_second"] > 0
        assert row["dataset"] == home.data.name
    elbo = rows["cvae"]["metrics"]
    assert elbo["elbo"]["value"] == pytest.approx(-elbo["distortion"]["value"] - elbo["rate"]["value"])
    assert elbo["iwelbo"]["value"] >= elbo["elbo"]["value"]


def test_the_pushed_model_is_served_through_the_example_path(home: Home, digits: dict[str, Images]) -> None:
    import tensorflow as tf

    from components.ingest.examples import serialize

    [version] = home.versions()["mlp"]
    model = tf.saved_model.load(str(home.folder / "serving" / "mlp" / version))
    images, labels = digits[TRAIN_SPLIT]
    examples = tf.constant([serialize(i.tobytes(), 0) for i in images])
    answers = model.signatures["classify"](examples)["label"].numpy()
    assert np.mean(answers == labels) > 0.5


def test_a_second_run_is_all_cached_and_pushes_nothing(home: Home) -> None:
    before = home.versions()
    result = home.run("--variants", ",".join(VARIANTS)).fine()
    assert cached(result.out)
    assert all(cached(result.out).values()), result.out
    assert "nothing to do: nothing has changed since the run of" in result.out
    assert home.versions() == before


def test_a_worse_model_and_one_below_its_floor_are_neither_blessed_nor_pushed(
    home: Home, tmp_path: pathlib.Path
) -> None:
    before = home.versions()
    settings = tmp_path / "settings.yaml"
    worse = {"recipe": {"learning_rate": 1e-9}}
    hopeless = {"recipe": {"floor": -1.0}}
    settings.write_text(yaml.safe_dump({"overrides": {"mlp": worse, "cvae": hopeless}, "variants": VARIANTS}))
    result = home.run("--settings", str(settings)).fine()
    rows = home.rows()
    assert not rows["mlp"]["blessed"]
    assert "worse than the model in production" in rows["mlp"]["why_not"]
    assert not rows["cvae"]["blessed"]
    assert "is below the floor -1" in rows["cvae"]["why_not"]
    assert rows["cvae"]["pushed_version"] is rows["mlp"]["pushed_version"] is None
    assert home.versions() == before
    assert "mlp is not blessed" in result.out


def test_a_variant_that_fails_is_reported_beside_those_that_work_which_mlflow_learns_of_once(
    home: Home, tmp_path: pathlib.Path
) -> None:
    settings = tmp_path / "settings.yaml"
    enough, broken = {"recipe": {"steps": 400}}, {"recipe": {"learning_rate": 1e30}}
    overrides = {"linear": enough, "vae_dense": broken}
    settings.write_text(yaml.safe_dump({"overrides": overrides, "variants": list(overrides)}))
    for _ in range(2):  # the second time all that worked is cached
        result = home.run("--settings", str(settings), "--mlflow", str(tmp_path / "mlruns"))
        assert "Trainer.vae_dense failed" in result.error()
        rows = home.rows()
        assert rows["linear"]["blessed"]
        assert "non-finite at step 1" in rows["vae_dense"]["failed"]
        assert "vae_dense" in (home.folder / "report" / "index.html").read_text()
        assert len(home.versions()["linear"]) == 1
        assert "vae_dense" not in home.versions()
        assert [line.split()[-1] for line in result.out.splitlines() if "vae_dense  " in line][-1] == "failed"
    assert all(cached(result.out).values())
    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    [run] = client.search_runs([client.get_experiment_by_name("latentline").experiment_id])
    assert run.data.params["variant"] == "linear"
    assert run.data.metrics["test/accuracy"] == rows["linear"]["metrics"]["accuracy"]["value"]


def rerun_after(home: Home, edited: str, added: str, *chosen: str) -> set[str]:
    """The components that are not cached after lines were added to a source file."""
    with open(home.warm.sources / edited, "a") as file:
        file.write(added)
    result = home.run("--variants", ",".join(chosen)).fine()
    return {name for name, was_cached in cached(result.out).items() if not was_cached}


def test_editing_a_variant_s_code_runs_its_line_again_and_nothing_else(home: Home) -> None:
    home.run("--variants", ",".join(VARIANTS)).fine()
    assert rerun_after(home, "trainer/variants/mlp.py", "\n# a comment\n", *VARIANTS) == set()
    again = rerun_after(home, "trainer/variants/mlp.py", "\nEDITED = True\n", *VARIANTS)
    assert again >= {"Trainer.mlp", "Evaluator.mlp", "Pusher.mlp", "Leaderboard"}
    assert all(name.endswith(".mlp") or name == "Leaderboard" for name in again), again


def test_editing_the_schema_runs_again_what_depends_on_it(home: Home) -> None:
    again = rerun_after(home, "schemas/schema.pbtxt", "# edited\n", "mlp")
    assert again >= {"ImportSchemaGen", "ExampleValidator", "Transform"}
    assert "IdxExampleGen" not in again


def test_labels_that_are_no_class_stop_the_run_before_training(
    tmp_path: pathlib.Path, digits_folder: pathlib.Path, warm: Warm
) -> None:
    data = tmp_path / "odd"
    shutil.copytree(digits_folder, data)
    labels = idx.read_labels(str(data / "train-labels-idx1-ubyte"))
    labels[3] = 11
    idx.write(str(data / "train-labels-idx1-ubyte"), labels)
    home = Home(tmp_path / "home", data, warm)
    result = home.run("--variants", "mlp")
    line = result.error()
    assert "AnomalyGate failed" in line
    assert "label" in line
    assert "Trainer.mlp" not in cached(result.out)
    assert not (home.folder / "serving").exists()


def test_tfx_s_own_command_creates_and_runs_the_pipeline(home: Home, tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "settings.yaml"
    chosen = {"data": str(home.data), "home": str(home.folder), "variants": ["linear"], "profile": "smoke"}
    settings.write_text(yaml.safe_dump(chosen))
    environment = {
        **os.environ,
        "PYTHONPATH": str(home.warm.sources),
        "LATENTLINE_SETTINGS": str(settings),
        "LOCAL_HOME": str(tmp_path / "tfx"),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    runner = home.warm.sources / "pipeline" / "local_runner.py"
    for command in (
        ["pipeline", "create", f"--pipeline_path={runner}"],
        ["run", "create", "--pipeline_name=latentline"],
    ):
        result = subprocess.run(
            ["tfx", *command, "--engine=local"], env=environment, capture_output=True, text=True, timeout=500
        )
        assert result.returncode == 0, result.stdout + result.stderr
    assert "Leaderboard" in result.stdout
