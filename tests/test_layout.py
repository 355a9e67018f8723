"""The architecture as tests: who may import whom, and where constants live."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "schemas": set(),
    "components": {"schemas"},
    "trainer": {"schemas"},
    "pipeline": {"schemas", "components", "trainer"},
    "kubeflow": {"schemas", "components", "trainer", "pipeline"},
}


def modules(package: str) -> list[pathlib.Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_packages(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found & set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_lies_below_them(package: str) -> None:
    allowed = MAY_IMPORT[package] | ({package} if package != "kubeflow" else set())
    for path in modules(package):
        assert imported_packages(path) <= allowed, path


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
