"""Measure how far a model's samples are from test images, by features of a classifier of this pipeline.

The distance is that of Fréchet between Gaussians fitted to the features (Heusel et al. 2017), but the
features are a small classifier's log-probabilities, not Inception's: it compares models of this pipeline
under the same classifier, and is not the published FID.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.evaluation import saved_model
from schemas import CLASSES, PIXELS

BATCH = 500
SMALLEST = 1e-6
"""Probabilities below this count as this much; a float32 softmax cannot resolve smaller ones."""

Array = npt.NDArray[Any]


class FrechetError(ValueError):
    """The distance cannot be computed; the message says why and what to do."""


class Distance(NamedTuple):
    """The distance of samples from test images, and that between two halves of the test images."""

    value: float
    between_halves: float
    images: int


def frechet(one: Array, other: Array) -> float:
    """Return |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of features [N, D] and [M, D]; Dowson & Landau 1982."""
    means = [features.mean(axis=0) for features in (one, other)]
    covariances = [np.cov(features, rowvar=False) for features in (one, other)]
    # C C' has the eigenvalues of C^(1/2) C' C^(1/2), which is symmetric: real and not negative.
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariances[1] @ root)
    spread = np.trace(covariances[0] + covariances[1]) - 2 * np.sqrt(np.maximum(shared, 0.0)).sum()
    return float(np.sum((means[0] - means[1]) ** 2) + spread)


def distance(
    generator: Any,
    feature_classifier: Any,
    examples: Sequence[bytes],
    serialize: Callable[[bytes, int], bytes],
    seed: int,
) -> Distance:
    """Return the distance between test `examples` and samples of `generator`, by the classifier's features.

    serialize: grey bytes and a label -> tf.Example. Samples are mean images, prepared as the classifier's own
    inputs are. Raises FrechetError for too few examples.
    """
    if len(examples) < 2 * CLASSES:
        raise FrechetError(f"a Fréchet distance needs at least {2 * CLASSES} images, got {len(examples)}")
    made = []
    for start in range(0, len(examples), BATCH):
        count = min(BATCH, len(examples) - start)
        images = generator.signatures["sample"](
            seed=tf.constant(seed + start, tf.int32), count=tf.constant(count, tf.int32)
        )["images"]
        grey = np.round(255 * images.numpy()).astype(np.uint8).reshape(count, PIXELS)
        made += [serialize(image.tobytes(), 0) for image in grey]
    real, drawn = features(feature_classifier, examples), features(feature_classifier, made)
    return Distance(frechet(drawn, real), frechet(real[::2], real[1::2]), len(examples))


def features(feature_classifier: Any, examples: Sequence[bytes]) -> Array:
    """Return centred log-probabilities of the classes, [N, CLASSES]: logits up to a constant."""
    found = []
    for start in range(0, len(examples), BATCH):
        batch = tf.constant(list(examples[start : start + BATCH]))
        probabilities = feature_classifier.signatures["classify"](examples=batch)["probabilities"].numpy()
        logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
        found.append(logits - logits.mean(axis=1, keepdims=True))
    return np.concatenate(found)


def load(folder: str, signature: str) -> Any:
    """Load the SavedModel in `folder`. Raises FrechetError if it lacks the signature."""
    loaded = saved_model.load(folder, FrechetError)
    if signature not in loaded.signatures:
        kind = "classifier" if signature == "classify" else "generative model"
        found = ", ".join(sorted(loaded.signatures)) or "none"
        raise FrechetError(f"{folder} has no signature {signature} (it has: {found}); give a {kind}")
    return loaded
