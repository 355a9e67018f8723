"""Data sets unlike MNIST, in the forms in which people have them, from files to a pushed model.

Each is drawn here: letters of 47 classes under EMNIST's names, clothes-like images that are grey all over in
torchvision's folders, and images of 0 and 1 in an archive of NumPy's.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from components.ingest import idx
from schemas import SIDE, TEST_SPLIT, TRAIN_SPLIT

pytestmark = pytest.mark.faults
ROOT = pathlib.Path(__file__).parent.parent.parent
PATCH = 4
"""Rows and columns of the squares that a class is drawn in."""


def drawn(classes: int, train: int, test: int) -> dict[str, idx.Images]:
    """Images of squares that differ by class, more or less bright; so many of each class."""
    draw = np.random.default_rng(0)
    squares = draw.random([classes, SIDE // PATCH, SIDE // PATCH]) < 0.35
    shapes = np.kron(squares, np.ones([PATCH, PATCH]))
    found = {}
    for split, each in ((TRAIN_SPLIT, train), (TEST_SPLIT, test)):
        labels = draw.permutation(np.arange(each * classes) % classes).astype(np.uint8)
        images = shapes[labels] * draw.uniform(0.6, 1.0, [len(labels), 1, 1])
        found[split] = idx.Images(np.round(255 * images).astype(np.uint8), labels)
    return found


def letters(folder: pathlib.Path) -> pathlib.Path:
    for split, pair in drawn(47, train=40, test=12).items():
        word = "train" if split == TRAIN_SPLIT else "test"
        turned = np.ascontiguousarray(pair.images.transpose(0, 2, 1))
        idx.write(str(folder / f"emnist-balanced-{word}-images-idx3-ubyte.gz"), turned)
        idx.write(str(folder / f"emnist-balanced-{word}-labels-idx1-ubyte.gz"), pair.labels)
    (folder / "emnist-balanced-mapping.txt").write_text("0 48\n")
    return folder


def clothes(folder: pathlib.Path) -> pathlib.Path:
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(1)
    for split, pair in drawn(10, train=100, test=20).items():
        grey = pair.images * 0.4 + draw.uniform(50, 90, pair.images.shape)
        for kind, array in (("images", grey.astype(np.uint8)), ("labels", pair.labels)):
            name = f"{idx.PREFIXES[split]}-{kind}-idx{idx.KINDS[kind]}-ubyte"
            idx.write(str(raw / name), array)
            idx.write(str(raw / f"{name}.gz"), array)
    return folder


def bits(folder: pathlib.Path) -> pathlib.Path:
    (x_train, y_train), (x_test, y_test) = drawn(10, train=100, test=20).values()
    arrays = {"x_train": x_train > 127, "x_test": x_test > 127}
    whole = {name: array.astype(np.uint8) for name, array in arrays.items()}
    np.savez_compressed(folder / "bits.npz", y_train=y_train, y_test=y_test, **whole)
    return folder / "bits.npz"


class Case(NamedTuple):
    """A data set, how it is run, and what the run must say of it."""

    make: Callable[[pathlib.Path], pathlib.Path]
    options: tuple[str, ...]
    variants: tuple[str, ...]
    classes: int
    name: str
    said: str


CASES = {
    "letters": Case(
        letters, ("--subset", "emnist-balanced"), ("mlp", "m2"), 47, "emnist-balanced", "they are turned"
    ),
    "clothes": Case(clothes, (), ("mlp", "linear"), 10, "FashionMNIST", "reading "),
    "bits": Case(bits, ("--pixels", "binary"), ("mlp", "linear"), 10, "bits", ""),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_data_set_unlike_mnist_is_trained_on_pushed_and_reported(
    case: Case, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "data").mkdir()
    source, home = case.make(tmp_path / "data"), tmp_path / "home"
    project = with_classes(case.classes, tmp_path)
    given = ("--profile", "smoke", "--data", source, "--home", home, *case.options)
    said = latentline(project, "run", "--variants", ",".join(case.variants), *given)
    assert case.said in said
    rows = json.loads((home / "report" / "leaderboard.json").read_text())
    assert {row["variant"]: row["status"] for row in rows} == dict.fromkeys(case.variants, "pushed"), said
    for row in rows:
        assert row["dataset"] == case.name
        folder = home / "serving" / row["variant"] / str(row["pushed_version"])
        card = json.loads((folder / "model_card.json").read_text())
        assert card["data"]["classes"] == case.classes
        assert set(card["metrics_by_label"]) == {str(label) for label in range(case.classes)}
    assert case.name in (home / "report" / "index.html").read_text()

    facts = json.loads(latentline(project, "lineage", "mlp", "--home", home, "--json"))["data"]
    listed = dict(line.rsplit(" sha256:", 1) for line in facts["files"].splitlines())
    assert sorted(listed.values()) == sorted(files_below(source)), "every file that was read, by its content"
    assert facts["folder"] == str(source)
    assert {"--pixels": facts["pixels"], "--subset": facts["subset"]}.items() >= options(case).items()
    assert "nothing to do" in latentline(project, "run", "--variants", ",".join(case.variants), *given)


def options(case: Case) -> dict[str, str]:
    return dict(zip(case.options[::2], case.options[1::2], strict=True))


def files_below(source: pathlib.Path) -> list[str]:
    """SHA-256 of every file of a data set."""
    paths = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if "mapping" not in path.name]


def with_classes(classes: int, folder: pathlib.Path) -> pathlib.Path:
    """A folder from which the project runs with a schema of so many classes."""
    if classes == 10:
        return ROOT
    shutil.copytree(ROOT / "schemas", folder / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    schema = folder / "schemas" / "schema.pbtxt"
    schema.write_text(schema.read_text().replace("max: 9 ", f"max: {classes - 1} "))
    return folder


def latentline(project: pathlib.Path, *command: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, command)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{project}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
