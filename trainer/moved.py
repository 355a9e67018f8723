"""Module paths of latentline 0.1, kept for variant files that were written for it.

0.1 had all modules of the trainer in one folder. `from trainer.gaussian import GaussianVae` and
`from trainer import checks` still give the very modules that now lie in trainer/models and its neighbours.
Nothing of this project uses the old paths.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

ROOMS = {
    "models": (
        "checks", "dense", "gaussian", "layers", "model", "nets", "noise", "objectives", "priors",
    ),
    "loop": (
        "checkpoints", "data", "eviction", "fit", "history", "optimizers", "progress", "steps", "warm",
        "watch",
    ),
    "devices": ("cores", "scale", "shares", "threads"),
}  # fmt: skip
MOVED = {f"trainer.{name}": f"trainer.{room}.{name}" for room, names in ROOMS.items() for name in names}
"""Path in 0.1 -> path now."""
MOVED["trainer.strict"] = "schemas.strict"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers an import of an old path with the module at its new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def install() -> None:
    """Make the old paths importable, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
