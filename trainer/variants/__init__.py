"""The registry is this folder: one module a variant, found by its file name.

A variant's module holds a docstring (its datasheet: the first line is its summary; a paragraph or lines that
begin with "Measured:" say what it reached), FAMILY, RECIPE, a frozen dataclass Config and build(config) ->
trainer.models.model.Model.
"""

import ast
import dataclasses
import importlib
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from schemas import strict
from trainer.recipe import Recipe

FAMILIES = ("generative", "classifier", "both")


@dataclasses.dataclass(frozen=True)
class Variant:
    """A module of this folder, loaded."""

    name: str
    summary: str
    family: str
    recipe: Recipe
    config_type: type
    builder: Callable[[Any], Any]

    def config(self, overrides: Mapping[str, Any], at: str = "config") -> Any:
        """Return the variant's Config with `overrides`, whose path is `at`. Raises ValueError."""
        return strict.from_mapping(self.config_type, overrides, at)

    def build(self, overrides: Mapping[str, Any]) -> Any:
        """A new trainer.models.model.Model, its weights drawn from Keras's global seed."""
        return self.builder(self.config(overrides))

    @property
    def generative(self) -> bool:
        """Whether the model has a bound on log p(x)."""
        return self.family in ("generative", "both")

    @property
    def classifies(self) -> bool:
        """Whether the model has p(label | image)."""
        return self.family in ("classifier", "both")


def names() -> list[str]:
    """The names of all variants, sorted."""
    return sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[!_]*.py"))


def check_name(name: str) -> None:
    """Raise ValueError, listing the known variants, unless `name` is one."""
    if name not in names():
        raise ValueError(f"unknown variant {name!r}; choose from {', '.join(names())}")


def load(name: str) -> Variant:
    """The variant called `name`; ValueError lists the known ones."""
    check_name(name)
    module = importlib.import_module(f"{__name__}.{name}")
    return Variant(name, summary(name), module.FAMILY, module.RECIPE, module.Config, module.build)


def summary(name: str) -> str:
    """The first line of the variant's docstring, read without importing it."""
    return _datasheet(name).split("\n")[0]


def measured(name: str) -> str:
    """What the variant's docstring says was measured, in one line; empty if nothing was."""
    found = re.search(
        r"^Measured: (.*?)(?=\n\n|\n[A-Z][a-z]+: |\Z)", _datasheet(name), re.MULTILINE | re.DOTALL
    )
    return " ".join(found.group(1).split()).rstrip(".") if found else ""


def _datasheet(name: str) -> str:
    source = (pathlib.Path(__file__).parent / f"{name}.py").read_text()
    return ast.get_docstring(ast.parse(source)) or ""
