"""The schema is the one place that declares the number of classes: what is built follows it."""

import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow_data_validation as tfdv

import schemas
from schemas import LABEL, SCHEMA_FILE

ROOT = SCHEMA_FILE.parents[1]
SCRIPT = """
import tensorflow as tf
from pipeline.dag.fingerprint import trainer_code
from schemas import CLASSES, SIDE
from trainer import variants
from trainer.models.model import Classifier
for name in variants.names():
    variant = variants.load(name)
    model = variant.build({})
    if isinstance(model, Classifier):
        print(name, model.logits(tf.zeros([2, SIDE, SIDE, 1])).shape[-1])
print("code", trainer_code("linear"))
"""


def test_the_number_of_classes_is_that_of_the_schema() -> None:
    [label] = [
        feature for feature in tfdv.load_schema_text(str(SCHEMA_FILE)).feature if feature.name == LABEL
    ]
    assert label.int_domain.max + 1 == schemas.CLASSES


def test_a_schema_without_a_domain_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="no int_domain of the label found"):
        schemas.classes('feature { name: "label" }')


def built(folder: pathlib.Path, classes: int) -> dict[str, str]:
    """What a process prints that reads a schema of so many classes."""
    copy = folder / str(classes)
    shutil.copytree(ROOT / "schemas", copy / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / "schemas" / SCHEMA_FILE.name).read_text()
    (copy / "schemas" / SCHEMA_FILE.name).write_text(text.replace("max: 9 ", f"max: {classes - 1} "))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": f"{copy}:{ROOT}", "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split() for line in done.stdout.splitlines())


def test_every_classifier_has_as_many_outputs_as_the_schema_has_classes(tmp_path: pathlib.Path) -> None:
    letters, digits = built(tmp_path, 47), built(tmp_path, 10)
    assert letters.pop("code") != digits.pop("code")
    assert len(letters) >= 6
    assert set(letters.values()) == {"47"}
    assert set(digits.values()) == {"10"}
