"""The whole pipeline, as a user runs it: one home, several runs one after the other.

The first run is a process of its own, imports and all; later ones are forks of one that has done its imports.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from warm import Child, Warm

import latentline
from components.ingest import idx
from components.ingest.idx import Images
from schemas import SIDE, TEST_SPLIT, TRAIN_SPLIT

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
        return self.warm.start(self.arguments("--jobs=1", *more)).wait()

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
    """After a first run of two variants, with components side by side; later runs have one after another."""
    home = Home(tmp_path_factory.mktemp("home"), digits_folder, warm)
    result = home.command("--variants", ",".join(VARIANTS), "--jobs", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert cached(result.stdout)
    assert not any(cached(result.stdout).values())
    return home


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder into which the project's wheel is installed, and nothing else."""
    sources, built, installed = (tmp_path_factory.mktemp(name) for name in ("project", "wheels", "site"))
    for package in ("schemas", "components", "trainer", "pipeline", "latentline"):
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", *offline, "-w", built, sources], check=True)
    [made] = built.iterdir()
    subprocess.run([*pip, "install", *offline, "--target", installed, made], check=True)
    return installed


DOCTESTS = """
import doctest, sys
import latentline, latentline.model, latentline.results
assert latentline.__file__.startswith(sys.argv[1]), latentline.__file__
tried = doctest.testmod(latentline, extraglobs={"home": sys.argv[2]})
sys.exit(f"{tried.failed} of {tried.attempted} examples failed" if tried.failed or not tried.attempted else 0)
"""


@pytest.mark.long
def test_the_examples_of_the_public_package_run_from_an_installed_wheel(
    home: Home, wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DOCTESTS, str(wheel), str(home.folder)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (wheel / "latentline" / "py.typed").exists()


def test_the_public_package_agrees_with_the_home_s_report_and_its_model_s_signatures(
    home: Home, digits: dict[str, Images]
) -> None:
    found = latentline.results(home.folder)
    for variant, row in home.rows().items():
        assert found.leaderboard.loc[variant, "pushed_version"] == row["pushed_version"]
        for metric, measured in row["metrics"].items():
            assert found.leaderboard.loc[variant, f"{metric}_upper"] == measured["upper"]
    assert set(found.curves.split) == {"train", "held_out"}
    assert set(found.curves.variant) == set(VARIANTS)
    images = digits[TEST_SPLIT].images.reshape(-1, SIDE, SIDE)
    row = home.rows()["mlp"]
    labels = latentline.load(home.folder, "mlp").classify(images).labels
    accuracy = (labels == digits[TEST_SPLIT].labels).mean()
    assert accuracy == pytest.approx(row["metrics"]["accuracy"]["value"], abs=1e-6)


def test_the_public_package_refuses_what_it_cannot_do(home: Home) -> None:
    cvae, mlp = (latentline.load(home.folder, name) for name in ("cvae", "mlp"))
    images = cvae.sample(2)
    tried: list[tuple[Callable[[], object], str]] = [
        (lambda: latentline.load(home.folder, "vae9"), "this home has models of cvae, mlp"),
        (lambda: latentline.load(home.folder / "nowhere"), "give a home and a variant, or a model's folder"),
        (lambda: latentline.load(home.folder, "mlp", version=3), "has no version 3; it has"),
        (
            lambda: cvae.encode(cast(Any, images / 255)),
            r"uint8 array \[N, 28, 28\].* got float64 \[2, 28, 28\]",
        ),
        (lambda: cvae.encode(images[0]), r"got uint8 \[28, 28\]"),
        (lambda: cvae.decode([[1.0]]), r"latents must be an array \[N, 2\], got shape \[1, 1\]"),
        (lambda: cvae.classify(images), "is a generative model, which has no classify"),
        (lambda: mlp.sample(2), "is a classifier, which has no sample"),
        (lambda: cvae.log_likelihood(images, samples=0), "samples must be at least 1, got 0"),
    ]
    for call, message in tried:
        with pytest.raises(latentline.ModelError, match=message):
            call()
    with pytest.raises(latentline.ResultsError, match="run `latentline run` in this home first"):
        latentline.results(home.folder / "nowhere")


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


def weights(home: Home, variant: str) -> dict[str, np.ndarray]:
    """The variables of the pushed model of a variant, by name."""
    import tensorflow as tf

    [version] = home.versions()[variant]
    kept = tf.train.load_checkpoint(
        str(home.folder / "serving" / variant / version / "variables" / "variables")
    )
    names = [name for name in kept.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return {name: kept.get_tensor(name) for name in names}


def test_components_side_by_side_train_the_same_weights_bit_for_bit(
    home: Home, tmp_path: pathlib.Path
) -> None:
    alone = Home(tmp_path / "home", home.data, home.warm)
    alone.run("--variants", "mlp").fine()
    one, other = weights(home, "mlp"), weights(alone, "mlp")
    assert len(one) > 2
    assert {name: value.tobytes() for name, value in one.items()} == {
        name: value.tobytes() for name, value in other.items()
    }


def test_a_worse_model_and_one_below_its_floor_are_neither_blessed_nor_pushed(
    home: Home, tmp_path: pathlib.Path
) -> None:
    before = home.versions()
    settings = tmp_path / "settings.yaml"
    worse = {"recipe": {"learning_rate": 1e-9}}
    hopeless = {"recipe": {"floor": -1.0}}
    settings.write_text(
        yaml.safe_dump({"experiments": {"mlp": worse, "cvae": hopeless}, "variants": VARIANTS})
    )
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
    trained = {"linear": enough, "vae_dense": broken}
    settings.write_text(yaml.safe_dump({"experiments": trained}))
    for _ in range(2):  # the second time all that worked is cached
        result = home.run("--settings", str(settings), "--mlflow", str(tmp_path / "mlruns"))
        assert "Trainer.vae_dense failed" in result.error()
        rows = home.rows()
        assert rows["linear"]["blessed"]
        assert "non-finite at step 1" in rows["vae_dense"]["failed"]
        assert "vae_dense" in (home.folder / "report" / "index.html").read_text()
        assert len(home.versions()["linear"]) == 1
        assert "vae_dense" not in home.versions()
        assert re.search(r"^vae_dense failed: .*non-finite at step 1", result.out, re.M)
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


def test_a_protocol_that_production_was_not_trained_with_stops_the_run_before_training(home: Home) -> None:
    before = home.versions()
    refused = home.run("--variants", "mlp", "--protocol", "grey")
    assert refused.code == 2
    assert "mlp: protocol threshold, now grey" in refused.err
    assert "Trainer.mlp" not in cached(refused.out)
    assert home.versions() == before


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


@pytest.mark.long
def test_tfx_s_own_command_creates_and_runs_the_pipeline(
    digits_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    settings, unused = tmp_path / "settings.yaml", str(tmp_path / "home")
    chosen = {"data": str(digits_folder), "home": unused, "variants": ["linear"], "profile": "smoke"}
    settings.write_text(yaml.safe_dump(chosen))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LATENTLINE_SETTINGS": str(settings),
        "LOCAL_HOME": str(tmp_path / "tfx"),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    runner = ROOT / "pipeline" / "local_runner.py"
    for command in (
        ["pipeline", "create", f"--pipeline_path={runner}"],
        ["run", "create", "--pipeline_name=latentline"],
    ):
        result = subprocess.run(
            ["tfx", *command, "--engine=local"], env=environment, capture_output=True, text=True, timeout=500
        )
        assert result.returncode == 0, result.stdout + result.stderr
    assert "Leaderboard" in result.stdout
