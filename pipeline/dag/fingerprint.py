"""Fingerprints of code: a hash of the code of a module and of all of our modules that it imports.

User code is named by dotted path, which hides its changes from TFX's cache. Each node gets a fingerprint as
an execution property, so that it runs again when the code behind it has changed, and only then. Docstrings
and comments are left out: a reworded sentence retrains nothing.
"""

import ast
import functools
import hashlib
import importlib.util
import pathlib
from typing import TypeVar

from tfx.dsl.components.base.base_node import BaseNode

import schemas
from trainer.moved import MOVED

Node = TypeVar("Node", bound=BaseNode)
PACKAGES = ("schemas", "components", "trainer")


def fingerprint(*modules: str) -> str:
    """Return a hash of the code of the dotted `modules` and of our modules they import, directly or not.

    Raises ModuleNotFoundError for a module that is not one of ours.
    """
    code: dict[str, str] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in code:
            continue
        path = _source(name)
        if path is None:
            raise ModuleNotFoundError(f"no module named {name!r} to take a fingerprint of")
        code[name], imported = _read(path.read_bytes())
        pending += [found for found in imported if _source(found) is not None]
    digest = hashlib.sha256()
    for name in sorted(code):
        digest.update(f"{name}\0{code[name]}".encode())
    if schemas.__name__ in code:
        digest.update(f"classes {schemas.CLASSES}".encode())  # code depends on them, the schema declares them
    return digest.hexdigest()[:16]


def trainer_code(variant: str) -> str:
    """Return the fingerprint of what trains a variant."""
    return fingerprint("trainer.run", f"trainer.variants.{variant}")


def file_fingerprint(path: pathlib.Path) -> str:
    """Return a hash of a file that a node reads and TFX knows by its path only."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def versioned(node: Node, code: str) -> Node:
    """Return the node, with the fingerprint of the code behind it as execution property `code`."""
    node.exec_properties["code"] = code
    return node


def _source(name: str) -> pathlib.Path | None:
    package, _, rest = MOVED.get(name, name).partition(".")
    if package not in PACKAGES:
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin).parent.joinpath(*rest.split(".")) if rest else pathlib.Path(spec.origin)
    for candidate in (path, path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _read(source: bytes) -> tuple[str, tuple[str, ...]]:
    """Return a hash of a module's syntax tree without its prose, and the names it may import modules by."""
    tree = _WithoutProse().visit(ast.parse(source))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imported)


class _WithoutProse(ast.NodeTransformer):
    """Removes statements that are only a text: docstrings of modules, classes, functions and constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node
