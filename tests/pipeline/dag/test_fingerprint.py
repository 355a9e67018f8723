import importlib.util
import pathlib
import re
import shutil

import pytest

from pipeline.dag import fingerprint as module
from pipeline.dag.fingerprint import fingerprint

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def sources(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A copy of the packages that fingerprints are taken of."""
    for package in module.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def find_spec(package: str) -> object:
        return type("Spec", (), {"origin": str(tmp_path / package / "__init__.py")})

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return tmp_path


def all_fingerprints() -> dict[str, str]:
    variants = ("cvae", "mlp")
    trainers = {name: fingerprint("trainer.run", f"trainer.variants.{name}") for name in variants}
    others = ("trainer.transform", "components.evaluation.eval_config", "components.ingest.example_gen")
    return {**trainers, **{name: fingerprint(name) for name in others}}


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("trainer/variants/cvae.py", {"cvae"}),
        ("trainer/variants/mlp.py", {"mlp"}),
        ("trainer/models/objectives.py", {"cvae", "mlp"}),
        ("trainer/transform.py", {"trainer.transform"}),
        ("trainer/binarize.py", {"trainer.transform", "cvae", "mlp"}),
        ("components/evaluation/metrics.py", {"components.evaluation.eval_config"}),
        ("components/ingest/idx.py", {"components.ingest.example_gen"}),
    ],
)
def test_an_edit_changes_the_fingerprints_of_what_depends_on_it_and_no_other(
    sources: pathlib.Path, edited: str, changed: set[str]
) -> None:
    before = all_fingerprints()
    with open(sources / edited, "a") as file:
        file.write("\nEDITED = True\n")
    after = all_fingerprints()
    assert {name for name in before if before[name] != after[name]} == changed


CODE = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "same",
    [
        "# A comment.\n" + CODE,
        '"""A module.\n\nMeasured: 3 nats."""\n' + CODE,
        'def f(x):\n    """Return one more."""\n\n    return x + 1  # a remark\n',
        "def f(x):\n    return (\n        x + 1\n    )\n",
    ],
)
def test_prose_and_layout_change_no_fingerprint(sources: pathlib.Path, same: str) -> None:
    path = sources / "trainer" / "variants" / "toy.py"
    path.write_text(CODE)
    before = fingerprint("trainer.variants.toy")
    path.write_text(same)
    assert fingerprint("trainer.variants.toy") == before


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2\n",
        "def f(x, y=0):\n    return x + 1\n",
        "def g(x):\n    return x + 1\n",
        "def f(x):\n    if x:\n        return x + 1\n",
        "def f(x):\n    return x + '1'\n",
        "@decorated\n" + CODE,
        "import os\n" + CODE,
    ],
)
def test_code_changes_the_fingerprint(sources: pathlib.Path, other: str) -> None:
    path = sources / "trainer" / "variants" / "toy.py"
    path.write_text(CODE)
    before = fingerprint("trainer.variants.toy")
    path.write_text(other)
    assert fingerprint("trainer.variants.toy") != before


@pytest.mark.parametrize("name", ["cvae", "mlp"])
def test_a_measurement_in_a_datasheet_retrains_nothing(sources: pathlib.Path, name: str) -> None:
    before = all_fingerprints()
    path = sources / "trainer" / "variants" / f"{name}.py"
    text = path.read_text()
    path.write_text(
        text.replace("Measured:", "Measured: anew,", 1).replace("def build", "# Built.\ndef build")
    )
    assert path.read_text() != text
    assert all_fingerprints() == before


def test_a_variant_that_imports_by_the_paths_of_0_1_depends_on_the_modules_of_today(
    sources: pathlib.Path,
) -> None:
    (sources / "trainer" / "variants" / "toy.py").write_text("from trainer.gaussian import GaussianVae\n")
    before = fingerprint("trainer.variants.toy")
    with open(sources / "trainer" / "models" / "gaussian.py", "a") as file:
        file.write("\nEDITED = True\n")
    assert fingerprint("trainer.variants.toy") != before


def test_a_fingerprint_of_nothing_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="trainer.nonsense"):
        fingerprint("trainer.nonsense")


def test_every_node_s_code_is_a_fingerprint_and_not_a_name(tmp_path: pathlib.Path) -> None:
    from components.ingest.sources import Dataset
    from pipeline.config.settings import Settings
    from pipeline.pipeline import create_pipeline

    settings = Settings(variants=("mlp",), home=str(tmp_path))
    nodes = create_pipeline(settings, Dataset("digits", str(tmp_path))).components
    codes = {node.id: node.exec_properties["code"] for node in nodes if "code" in node.exec_properties}
    assert {"IdxExampleGen", "ImportSchemaGen", "Gallery.mlp", "Leaderboard"} <= set(codes)
    assert [name for name, code in codes.items() if not re.fullmatch("[0-9a-f]{16}", code)] == []
