"""The habits of this repository: commits are checked as `make lint` checks, and our warnings are errors."""

import pathlib
import re
import subprocess
import warnings

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent


def test_a_commit_is_checked_with_the_tools_of_make_lint() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "--always-make", "lint"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    linted = re.findall(r"^\.venv/bin/(ruff \w+|mypy)", planned, re.MULTILINE)
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [
        hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in local["hooks"]
    ]
    assert linted
    assert hooks == linted


@pytest.mark.parametrize("module", ["components", "pipeline.home.layout", "trainer.models.model"])
@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, RuntimeWarning])
def test_a_warning_of_one_of_our_modules_is_an_error(module: str, category: type[Warning]) -> None:
    with pytest.raises(category, match="old"):
        warnings.warn_explicit("old", category, f"{module}.py", 1, module=module)


@pytest.mark.parametrize("module", ["pipelines", "keras.trainers", "kfp.components"])
def test_a_warning_of_another_module_is_none(module: str) -> None:
    with warnings.catch_warnings(record=True):
        warnings.warn_explicit("old", UserWarning, f"{module}.py", 1, module=module)
