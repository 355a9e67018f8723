"""Paired differences of two models on one test split, without an evaluation of their own by TFMA."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.evaluation.metrics import difference
from components.gate.verdict import Difference
from schemas import TEST_SPLIT

SIGNATURE = "evaluate"
BATCH = 500
"""Images per call of a model; both models see the same batches, and so the same noise."""


def differences(
    candidate: types.Artifact, other: types.Artifact, examples: types.Artifact, headlines: Sequence[str]
) -> dict[str, Difference]:
    """Return candidate minus other by headline metric, over the test split of `examples`.

    Raises OSError or tf.errors.OpError where a model or the examples cannot be read.
    """
    models = [_signature(artifact) for artifact in (candidate, other)]
    totals, squares, images = (np.zeros(len(headlines)), np.zeros(len(headlines)), 0)
    for batch in _batches(examples):
        outputs = [model(batch) for model in models]
        ours, theirs = (
            np.stack([np.reshape(each[name].numpy(), -1) for name in headlines]).astype(np.float64)
            for each in outputs
        )
        gains = ours - theirs
        totals += gains.sum(axis=1)
        squares += (gains**2).sum(axis=1)
        images += gains.shape[1]
    return {
        name: difference(name, float(total), float(squared), images)
        for name, total, squared in zip(headlines, totals, squares, strict=True)
    }


def _signature(model: types.Artifact) -> Any:
    loaded = tf.saved_model.load(path_utils.serving_model_path(model.uri))
    called = loaded.signatures[SIGNATURE]
    [(name, _)] = called.structured_input_signature[1].items()

    def call(batch: tf.Tensor) -> Any:
        # The signature's function dies with the object that it was loaded with.
        assert loaded is not None
        return called(**{name: batch})

    return call


def _batches(examples: types.Artifact) -> Any:
    folder = artifact_utils.get_split_uri([examples], TEST_SPLIT)
    files = sorted(os.path.join(folder, name) for name in io_utils.fileio.listdir(folder))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").batch(BATCH)
