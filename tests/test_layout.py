"""The architecture as tests: which room may import which, and where constants live."""

import ast
import importlib.machinery
import pathlib

import pytest

from pipeline.home.layout import Home

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = {
    "schemas": [{"schemas"}],
    "components": [
        {"components.driver", "components.gate", "components.identity"},
        {"components.ingest", "components.serving"},
        {"components.evaluation", "components.validation"},
        {"components.reporting"},
    ],
    "trainer": [
        {"trainer.recipe", "trainer.spread", "trainer.devices", "trainer.moved"},
        {"trainer.job", "trainer.models"},
        {"trainer.binarize", "trainer.variants"},
        {"trainer.export", "trainer.loop", "trainer.transform"},
        {"trainer.run"},
    ],
    "pipeline": [
        {"pipeline.config"},
        {"pipeline.home"},
        {"pipeline.dag"},
        {"pipeline.pipeline", "pipeline.evaluation"},
        {"pipeline.execution", "pipeline.registry"},
        {"pipeline.node", "pipeline.runs"},
        {"pipeline.service", "pipeline.local_runner", "pipeline.finish", "pipeline.kubeflow"},
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
    "latentline": {"schemas", "components", "pipeline"},
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


def test_the_folder_of_manifests_does_not_hide_the_sdk_of_the_same_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "kubeflow").mkdir()
    (tmp_path / "kubeflow" / "__init__.py").touch()
    found = importlib.machinery.PathFinder.find_spec("kubeflow", [str(ROOT), str(tmp_path)])
    assert found is not None
    assert found.origin == str(tmp_path / "kubeflow" / "__init__.py")


def home_names() -> set[str]:
    """Names of files and folders of a home, by its own properties."""
    root = pathlib.Path("/home")
    places = [getattr(Home(root), name) for name, kind in vars(Home).items() if isinstance(kind, property)]
    return {part for place in places for part in place.relative_to(root).parts}


def joined(tree: ast.AST) -> set[str]:
    """The texts that a module joins to a path: operands of /, and arguments of join, Path and joinpath."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            found += [node.left, node.right]
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found += node.args if name in ("join", "Path", "joinpath", "with_name") else []
    texts = [each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return {part for text in texts for part in text.split("/")}


def test_paths_of_a_home_are_spelled_in_one_module() -> None:
    names = home_names()
    assert {"metadata.db", "artifacts", "serving", "report", "logs", "runs", ".lock"} <= names
    files = {name for name in names if "." in name}  # no word of English: not even outside a path
    for path in modules("pipeline"):
        if path == ROOT / "pipeline" / "home" / "layout.py":
            continue
        tree = ast.parse(path.read_text())
        assert not joined(tree) & names, path
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not texts & files, path


def test_a_path_of_a_home_that_is_spelled_elsewhere_is_found() -> None:
    for source in ('home / "logs" / name', 'os.path.join(home, "serving", v)', 'pathlib.Path("a/runs")'):
        assert joined(ast.parse(source)) & home_names()


def test_whoever_needs_a_path_of_a_home_builds_no_settings_for_it() -> None:
    for room_name in ("home", "registry", "service", "execution"):
        for path in modules(f"pipeline/{room_name}"):
            calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert "Settings" not in {getattr(call, "id", "") for call in calls}, path


OPENERS = ("pipeline/home/metadata.py", "pipeline/execution/launch.py")
"""Modules that may open ML Metadata: the door, and the launcher, to which TFX gives a connection."""


def test_one_module_and_the_launcher_open_ml_metadata() -> None:
    for package in ("components", "trainer", "pipeline", "kubeflow"):
        for path in modules(package):
            if str(path.relative_to(ROOT)) in OPENERS:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    assert name not in ("metadata.Metadata", "Metadata"), path
                    assert not name.endswith(("MetadataStore", "metadata_connection_config")), path


def test_private_names_of_tfx_stand_in_one_module() -> None:
    for package in ("components", "trainer", "pipeline"):
        for path in modules(package):
            if path != ROOT / "components" / "serving" / "pushed.py":
                assert "_PUSHED" not in path.read_text(), path
