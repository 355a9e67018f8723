"""The registry is this folder: one module per variant, found by its file name.

A variant's file is read from top to bottom:

1. its datasheet: the docstring, whose first line is the summary; lines that begin with `Measured:` say what
   the variant reached;
2. its settings: FAMILY, RECIPE and a frozen dataclass Config;
3. its model: the imports of Keras and TensorFlow, and build(config) -> trainer.models.model.Model.

`load` runs a file down to the end of its settings, so that settings are checked without TensorFlow. The rest
runs when a model is built. A file that imports TensorFlow above its settings works as well; it only takes
longer to check.
"""

import ast
import dataclasses
import functools
import importlib.abc
import importlib.util
import pathlib
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from schemas import strict
from trainer.recipe import Recipe

FAMILIES = ("generative", "classifier", "both")
SETTINGS = ("FAMILY", "RECIPE", "Config")
"""What a variant's file defines before its model."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """The settings of a variant, and the way to its model.

    Attributes:
      name: of its file.
      family: generative, classifier or both.
      recipe: how it is trained.
      config_type: frozen dataclass of what its model can be configured to.
    """

    name: str
    family: str
    recipe: Recipe
    config_type: type

    def config(self, overrides: Mapping[str, Any], at: str = "config") -> Any:
        """Return the variant's Config with `overrides`, whose path is `at`. Raises ValueError."""
        return strict.from_mapping(self.config_type, overrides, at)

    def build(self, overrides: Mapping[str, Any]) -> Any:
        """Return a new trainer.models.model.Model, its weights drawn from Keras's global seed.

        This imports the variant's file as a whole, and TensorFlow with it.
        """
        module = importlib.import_module(f"{__name__}.{self.name}")
        return module.build(strict.from_mapping(module.Config, overrides, "config"))

    @property
    def summary(self) -> str:
        """The first line of the datasheet."""
        return summary(self.name)

    @property
    def generative(self) -> bool:
        """Whether the model has a bound on log p(x)."""
        return self.family in ("generative", "both")

    @property
    def classifies(self) -> bool:
        """Whether the model has p(label | image)."""
        return self.family in ("classifier", "both")


def names() -> list[str]:
    """Return the names of all variants, sorted."""
    return sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[!_]*.py"))


def check_name(name: str) -> None:
    """Raise ValueError, listing the known variants, unless `name` is one."""
    if name not in names():
        raise ValueError(f"unknown variant {name!r}; choose from {', '.join(names())}")


def load(name: str) -> Variant:
    """Return the variant called `name`. Raises ValueError, listing the known ones, where there is none."""
    check_name(name)
    settings = _settings(name)
    return Variant(name, settings.FAMILY, settings.RECIPE, settings.Config)


def summary(name: str) -> str:
    """Return the first line of the variant's datasheet."""
    return datasheet(name).split("\n")[0]


def measured(name: str) -> str:
    """Return what the variant's datasheet says was measured, in one line; empty if nothing was."""
    found = re.search(
        r"^Measured: (.*?)(?=\n\n|\n[A-Z][a-z]+: |\Z)", datasheet(name), re.MULTILINE | re.DOTALL
    )
    return " ".join(found.group(1).split()).rstrip(".") if found else ""


def datasheet(name: str) -> str:
    """Return the docstring of the variant's file, which is not run for that."""
    return ast.get_docstring(ast.parse(_path(name).read_text())) or ""


@functools.cache
def _settings(name: str) -> ModuleType:
    """Run the variant's file down to the end of its settings, as a module of its own."""
    module = ModuleType(f"{__name__}._settings_of_{name}")
    sys.modules[module.__name__] = module  # where the types in Config's annotations are looked up
    _SettingsLoader(_path(name)).exec_module(module)
    return module


class _SettingsLoader(importlib.abc.InspectLoader):
    """Loads a variant's file without its model."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def get_source(self, fullname: str) -> str:
        text = self._path.read_text()
        statements = ast.parse(text, str(self._path)).body
        bound = {name: statement for statement in statements for name in _bound(statement)}
        missing = [name for name in SETTINGS if name not in bound]
        if missing:
            raise ValueError(f"{self._path} defines no {', '.join(missing)}; see CONTRIBUTING.md")
        last = max(bound[name].end_lineno or 0 for name in SETTINGS)
        return "\n".join(text.split("\n")[:last]) + "\n"

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_source(fullname), str(self._path))


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a file defines."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


def _path(name: str) -> pathlib.Path:
    return pathlib.Path(__file__).parent / f"{name}.py"
