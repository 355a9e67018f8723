"""The architecture as tests: which room may import which, and where constants live."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = {
    "schemas": [{"schemas"}],
    "components": [
        {"components.ingest", "components.evaluation", "components.serving"},
        {"components.validation"},
        {"components.reporting"},
    ],
    "trainer": [
        {"trainer.recipe", "trainer.devices"},
        {"trainer.job", "trainer.models"},
        {"trainer.binarize", "trainer.variants"},
        {"trainer.export", "trainer.loop", "trainer.transform"},
        {"trainer.run"},
    ],
    "pipeline": [
        {"pipeline.config"},
        {"pipeline.dag"},
        {"pipeline.home", "pipeline.pipeline", "pipeline.evaluation"},
        {"pipeline.execution", "pipeline.registry"},
        {"pipeline.node", "pipeline.runs"},
        {"pipeline.service", "pipeline.local_runner", "pipeline.kubeflow"},
        {"pipeline.commands"},
        {"pipeline.cli"},
        {"pipeline.__main__"},
    ],
}
"""Rooms by package, lowest layer first. A room imports from lower layers only, never from its own layer."""
BELOW = {
    "schemas": set(),
    "components": {"schemas"},
    "trainer": {"schemas"},
    "pipeline": {"schemas", "components", "trainer"},
    "kubeflow": {"schemas", "components", "trainer", "pipeline"},
}
"""Packages that a package may import besides itself."""


def modules(package: str) -> list[pathlib.Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: pathlib.Path) -> set[str]:
    """The modules of this project that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    found.discard("pipeline")  # its place on disk, which needs no room
    return {name for name in found if name.split(".")[0] in BELOW}


def room(name: str) -> str:
    """The room of a dotted name: `pipeline.home` of `pipeline.home.journal.begin`."""
    package, _, rest = name.partition(".")
    return package if package == "schemas" else f"{package}.{rest.partition('.')[0]}"


def room_of(path: pathlib.Path) -> str:
    return room(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("package", BELOW)
def test_packages_import_only_what_lies_below_them(package: str) -> None:
    allowed = BELOW[package] | ({package} if package != "kubeflow" else set())
    for path in modules(package):
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path


@pytest.mark.parametrize("package", LAYERS)
def test_rooms_import_only_from_lower_layers(package: str) -> None:
    depth = {name: level for level, names in enumerate(LAYERS[package]) for name in names}
    for path in modules(package):
        here = room_of(path)
        if here in (package, f"{package}.__init__"):
            continue
        for name in imported(path):
            there = room(name)
            if there.split(".")[0] == package and there not in (here, package):
                assert depth[there] < depth[here], f"{path} ({here}) imports {name}"


def test_every_room_has_a_layer() -> None:
    named = {name for layers in LAYERS.values() for layer in layers for name in layer}
    found = {room_of(path) for package in LAYERS for path in modules(package)}
    assert {name for name in found if not name.endswith("__init__")} == named


def test_kubeflow_is_no_package_because_its_sdk_owns_the_name() -> None:
    assert not (ROOT / "kubeflow" / "__init__.py").exists()


@pytest.mark.parametrize("package", ["components", "trainer", "pipeline"])
def test_image_size_and_feature_names_are_written_in_schemas_only(package: str) -> None:
    for path in modules(package):
        constants = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, int | str)
        ]
        assert 28 not in constants, path
        assert 784 not in constants, path
        assert "pixels" not in constants, path
