"""Scores of a model on each image of the test split, kept as a Parquet file beside its evaluation.

With them any two models can be compared later, image by image. One row per image, in the order of the test
split; the columns are

image     text: the first 16 hexadecimal digits of the SHA-256 of the serialized tf.Example
label     int64
elbo ...  float32: each metric of the `evaluate` signature that is one number per image, in its unit
          (components.evaluation.metrics.UNITS)

Every model sees the same batches, and so the same evaluation noise.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf
from pyarrow import parquet
from tfx import types
from tfx.dsl.io import fileio

from components.evaluation.metrics import UNITS
from components.evaluation.paired import batches, signature
from schemas import LABEL

FILE = "scores.parquet"
IMAGE_COLUMN, LABEL_COLUMN = "image", "label"
DIGEST_DIGITS = 16


class UnreadableScores(ValueError):
    """A file of scores is missing or damaged; the message says which, and how to make it again."""


class Scores(NamedTuple):
    """What a model scored on each image.

    images: digest of each image, text [N]. labels: int64 [N]. values: by metric, float32 [N].
    """

    images: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    values: Mapping[str, npt.NDArray[np.float32]]


def measure(model: types.Artifact, examples: types.Artifact) -> Scores:
    """Return the scores of a model on the test split of `examples`.

    Raises OSError or tf.errors.OpError where the model or the examples cannot be read.
    """
    evaluate = signature(model)
    images: list[str] = []
    labels: list[npt.NDArray[np.int64]] = []
    values: dict[str, list[npt.NDArray[np.float32]]] = {}
    spec = {LABEL: tf.io.FixedLenFeature([], tf.int64)}
    for batch in batches(examples):
        images += [hashlib.sha256(row).hexdigest()[:DIGEST_DIGITS] for row in batch.numpy()]
        labels.append(tf.io.parse_example(batch, spec)[LABEL].numpy())
        for name, output in evaluate(batch).items():
            if name in UNITS and int(tf.size(output)) == len(batch):
                values.setdefault(name, []).append(np.reshape(output.numpy(), -1).astype(np.float32))
    ordered = [name for name in UNITS if name in values]
    return Scores(
        np.array(images, np.str_),
        np.concatenate([np.zeros(0, np.int64), *labels]),
        {name: np.concatenate(values[name]) for name in ordered},
    )


def write(scores: Scores, folder: str) -> None:
    """Write scores as FILE into a folder, local or remote."""
    columns = {IMAGE_COLUMN: scores.images.tolist(), LABEL_COLUMN: scores.labels, **scores.values}
    content = io.BytesIO()
    parquet.write_table(pa.table(columns), content, compression="zstd")
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, FILE), "wb") as file:
        file.write(content.getvalue())


def read(path: str) -> Scores:
    """Read a file of scores. Raises UnreadableScores."""
    try:
        with fileio.open(path, "rb") as file:
            table = parquet.read_table(pa.BufferReader(file.read()))
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        return Scores(
            columns.pop(IMAGE_COLUMN).astype(np.str_), columns.pop(LABEL_COLUMN).astype(np.int64), columns
        )
    except (OSError, tf.errors.OpError, pa.ArrowException, KeyError, ValueError) as error:
        raise UnreadableScores(
            f"cannot read the scores in {path} ({' '.join(str(error).split())}); run the pipeline in "
            "this home again, which evaluates the model anew"
        ) from error
