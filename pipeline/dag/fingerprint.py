"""A fingerprint of code: what a module and everything of ours that it imports say.

User code is named by dotted path, which hides its changes from TFX's cache; the fingerprint is handed to each
node as an execution property, so that a node runs again when the code behind it has changed, and only then.
"""

import ast
import functools
import hashlib
import importlib.util
import pathlib
from typing import TypeVar

from tfx.dsl.components.base.base_node import BaseNode

Node = TypeVar("Node", bound=BaseNode)
PACKAGES = ("schemas", "components", "trainer")


def fingerprint(*modules: str) -> str:
    """Hash of the sources of the dotted `modules` and of our modules they import, directly or not."""
    sources: dict[str, bytes] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in sources:
            continue
        path = _source(name)
        if path is None:
            raise ModuleNotFoundError(f"no module named {name!r} to take a fingerprint of")
        sources[name] = path.read_bytes()
        pending += [found for found in _imported(sources[name]) if found not in sources]
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + hashlib.sha256(sources[name]).digest())
    return digest.hexdigest()[:16]


def trainer_code(variant: str) -> str:
    """Hash of what trains a variant."""
    return fingerprint("trainer.run", f"trainer.variants.{variant}")


def file_fingerprint(path: pathlib.Path) -> str:
    """Hash of a file that a node reads and TFX knows by its path only."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def versioned(node: Node, code: str) -> Node:
    """The node, with the fingerprint of what does its work as execution property `code`."""
    node.exec_properties["code"] = code
    return node


def _source(name: str) -> pathlib.Path | None:
    package, _, rest = name.partition(".")
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
def _imported(source: bytes) -> list[str]:
    """Our modules that a module's source imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [module for module in found if _source(module) is not None]
