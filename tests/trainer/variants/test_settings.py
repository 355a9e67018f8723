"""Settings of variants: read without TensorFlow, and the same that a model is built from."""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys

import pytest

from trainer import moved, variants

LOAD_ALL = """
import json, sys
from trainer import variants
for name in variants.names():
    variant = variants.load(name)
    variant.config({})
    variant.recipe.with_overrides({"steps": 3})
print(json.dumps(sorted({module.split(".")[0] for module in sys.modules})))
"""


def test_settings_of_every_variant_are_read_without_tensorflow_or_keras() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_ALL], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert "trainer" in imported
    assert not imported & {"tensorflow", "keras", "tf_keras", "tfx"}


@pytest.mark.parametrize("name", variants.names())
def test_the_settings_are_those_of_the_whole_file(name: str) -> None:
    variant, module = variants.load(name), importlib.import_module(f"trainer.variants.{name}")
    assert (variant.family, variant.recipe) == (module.FAMILY, module.RECIPE)
    assert dataclasses.asdict(variant.config({})) == dataclasses.asdict(module.Config())


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder of variants with nothing in it."""
    monkeypatch.setattr(variants, "__file__", str(tmp_path / "__init__.py"))
    variants._settings.cache_clear()
    return tmp_path


def test_a_file_is_run_down_to_the_end_of_its_settings(folder: pathlib.Path) -> None:
    (folder / "some.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom collections.abc import Sequence\n"
        "from trainer.recipe import Budget, Recipe\nFAMILY: str = 'classifier'\n"
        "RECIPE = Recipe(steps=Budget(1, 1, 1), floor=Budget(0, 0, 0))\n"
        "@dataclasses.dataclass(frozen=True)\nclass Config:\n    widths: Sequence[int] = (1,)\n"
        "raise AssertionError('the model was run')\n"
    )
    assert variants.load("some").config({"widths": [2, 3]}).widths == (2, 3)


def test_a_file_without_settings_says_what_it_lacks(folder: pathlib.Path) -> None:
    (folder / "some.py").write_text("FAMILY = 'classifier'\n")
    with pytest.raises(ValueError, match=r"some.py defines no RECIPE, Config; see CONTRIBUTING.md"):
        variants.load("some")


@pytest.mark.parametrize("path", moved.MOVED)
def test_a_path_of_0_1_gives_the_module_of_today(path: str) -> None:
    module = importlib.import_module(path)
    assert module is importlib.import_module(moved.MOVED[path])
    assert module.__name__ == moved.MOVED[path]
