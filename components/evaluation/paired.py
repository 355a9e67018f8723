"""What models reach on one test split, image by image, without an evaluation of their own by TFMA."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tfx import types
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.evaluation.metrics import ACCURACY, difference
from components.gate import evidence
from components.gate.record import Measured
from components.gate.verdict import Difference
from schemas import TEST_SPLIT

SIGNATURE = "evaluate"
BATCH = 500
"""Images per call of a model; all models see the same batches, and so the same noise."""

Values = npt.NDArray[np.float32]
"""Values of the headline metrics for every image, [H, N]."""


def measured(
    candidate: types.Artifact,
    anchors: Sequence[types.Artifact],
    examples: types.Artifact,
    headlines: Sequence[str],
) -> dict[int, Measured]:
    """Return what a candidate is measured by, by the id of the anchor, over the test split of `examples`.

    Raises OSError or tf.errors.OpError where a model or the examples cannot be read.
    """
    ours, *theirs = values([candidate, *anchors], examples, headlines)
    return {
        anchor.id: Measured(
            {name: of_difference(name, ours[row] - own[row]) for row, name in enumerate(headlines)},
            {name: of_model(name, own[row]) for row, name in enumerate(headlines)},
        )
        for anchor, own in zip(anchors, theirs, strict=True)
    }


def of_difference(headline: str, gains: npt.NDArray[np.float32]) -> Difference:
    """Return the paired difference of a headline metric from those of all images, [N]."""
    gains = gains.astype(np.float64)
    return difference(headline, float(gains.sum()), float((gains**2).sum()), gains.size)


def of_model(headline: str, found: npt.NDArray[np.float32]) -> Difference:
    """Return one model's headline metric, from its values for all images, [N], with the variance of it."""
    found = found.astype(np.float64)
    if headline == ACCURACY and np.all(np.isfinite(found)):
        return evidence.of_share(float(found.sum()), found.size)
    return evidence.of_means(float(found.sum()), float((found**2).sum()), found.size)


def values(
    models: Sequence[types.Artifact], examples: types.Artifact, headlines: Sequence[str]
) -> list[Values]:
    """Return the headline metrics of each model for every image of the test split of `examples`."""
    called = [signature(model) for model in models]
    found: list[list[Values]] = [[] for _ in models]
    for batch in batches(examples):
        for parts, call in zip(found, called, strict=True):
            outputs = call(batch)
            parts.append(np.stack([np.reshape(outputs[name].numpy(), -1) for name in headlines]))
    empty = np.zeros((len(headlines), 0), np.float32)
    return [np.concatenate([empty, *parts], axis=1) for parts in found]


def signature(model: types.Artifact) -> Any:
    """Return the `evaluate` signature of a model as a function of serialized examples."""
    loaded = tf.saved_model.load(path_utils.serving_model_path(model.uri))
    called = loaded.signatures[SIGNATURE]
    [(name, _)] = called.structured_input_signature[1].items()

    def call(batch: tf.Tensor) -> Any:
        # The signature's function dies with the object that it was loaded with.
        assert loaded is not None
        return called(**{name: batch})

    return call


def batches(examples: types.Artifact) -> Any:
    """Return the serialized examples of the test split, BATCH at a time, the same ones for every model."""
    folder = artifact_utils.get_split_uri([examples], TEST_SPLIT)
    files = sorted(os.path.join(folder, name) for name in io_utils.fileio.listdir(folder))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").batch(BATCH)
