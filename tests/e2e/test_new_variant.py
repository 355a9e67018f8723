"""The contributor guide's promise: one new file is listed, run, ranked and tested, with no other edit.

A file that was written for 0.1, with its imports at the top and by the paths of 0.1, keeps that promise.
"""

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
WRITTEN_FOR_0_1 = '''"""Toy of 0.1: dense layers around a Gaussian latent vector, in the form of 0.1.

Run: latentline run --variants toy_0_1 --profile smoke
"""

import dataclasses

import tensorflow as tf
from keras import Sequential, layers

from schemas import PIXELS, SIDE
from trainer import checks, noise, objectives
from trainer.gaussian import GaussianVae
from trainer.model import Batch, Objective
from trainer.nets import mlp_encoder
from trainer.recipe import Budget, Recipe

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=30, quick=500, full=5_000),
    floor=Budget(smoke=-600.0, quick=-250.0, full=-200.0),
)


class Toy(GaussianVae):
    """A model that is defined before its settings."""

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        assert noise.normal([1, 1], seed).shape == [1, 1]
        mean, log_var = self.posterior(batch.images)
        latents = objectives.reparameterise(mean, log_var, seed)
        return Objective(self.distortion(batch.images, latents) + objectives.standard_kl(mean, log_var), {})


@dataclasses.dataclass(frozen=True)
class Config:
    """latent: dimensions of z."""

    latent: int = 4

    def __post_init__(self) -> None:
        checks.at_least(1, latent=self.latent)


def build(config: Config) -> Toy:
    """A dense layer into the latent vector and one out of it."""
    decoder = Sequential([layers.Dense(PIXELS), layers.Reshape([SIDE, SIDE, 1])])
    return Toy(mlp_encoder((8,), 2 * config.latent, "relu"), decoder, config.latent)
'''


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of the project with the guide's variant in it, and one that was written for 0.1."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("schemas", "components", "trainer", "pipeline", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (folder / "trainer" / "variants" / "toy.py").write_text(code)
    (folder / "trainer" / "variants" / "toy_0_1.py").write_text(WRITTEN_FOR_0_1)
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


@pytest.mark.long
def test_it_is_run_evaluated_and_pushed(sources: pathlib.Path, digits_folder: pathlib.Path) -> None:
    home = sources / "out"
    chosen = ("--variants", "toy", "--profile", "smoke", "--data", digits_folder, "--home", home)
    run(sources, "-m", "pipeline", "run", *chosen)
    [row] = json.loads((home / "report" / "leaderboard.json").read_text())
    assert row["variant"] == "toy"
    assert row["blessed"], row["why_not"]
    assert (home / "serving" / "toy" / str(row["pushed_version"]) / "saved_model.pb").exists()


def test_its_settings_are_checked(sources: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in ("toy", "toy_0_1"):
        settings = tmp_path / f"{name}.yaml"
        settings.write_text(f"variants: [{name}]\nexperiments: {{{name}: {{config: {{latent: 3}}}}}}\n")
        assert "latent: 3" in run(sources, "-m", "pipeline", "run", "--settings", settings, "--check")


@pytest.mark.long
def test_it_is_held_to_the_contract(sources: pathlib.Path) -> None:
    summary = run(sources, "-m", "pytest", "-vv", "tests/trainer/test_contract.py", "-k", "toy")
    passed = [line for line in summary.splitlines() if "PASSED" in line]
    assert any("[toy]" in line for line in passed)
    assert any("[toy_0_1]" in line for line in passed)
