"""Serialize raw images as tf.Examples, which the pipeline stores and clients of a served model send."""

import numpy as np
import tensorflow as tf

from schemas import IMAGE, LABEL, MAX_INTENSITY, MEAN_INTENSITY


def serialize(image: bytes, label: int) -> bytes:
    """Return a serialized tf.Example of an image (PIXELS bytes), its intensities and its label."""
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    example.features.feature[MEAN_INTENSITY].float_list.value.append(mean_intensity(image))
    example.features.feature[MAX_INTENSITY].float_list.value.append(max_intensity(image))
    example.features.feature[LABEL].int64_list.value.append(label)
    return bytes(example.SerializeToString(deterministic=True))


def mean_intensity(image: bytes) -> float:
    """Return the mean grey value of an image divided by 255: 0 if all pixels are background, at most 1."""
    return int(np.frombuffer(image, np.uint8).sum()) / (255 * max(len(image), 1))


def max_intensity(image: bytes) -> float:
    """Return the largest grey value of an image divided by 255; 0 for an image without pixels."""
    return max(image, default=0) / 255
