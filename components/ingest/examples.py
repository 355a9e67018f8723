"""Raw images as tf.Examples: what the pipeline stores and what clients of a served model send."""

import numpy as np
import tensorflow as tf

from schemas import IMAGE, LABEL, MEAN_INTENSITY


def serialize(image: bytes, label: int) -> bytes:
    """One tf.Example: PIXELS grey bytes, their ink and a label, serialized."""
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    example.features.feature[MEAN_INTENSITY].float_list.value.append(mean_intensity(image))
    example.features.feature[LABEL].int64_list.value.append(label)
    return bytes(example.SerializeToString(deterministic=True))


def mean_intensity(image: bytes) -> float:
    """The mean of the grey values over 255, from 0 for an empty image to 1."""
    return int(np.frombuffer(image, np.uint8).sum()) / (255 * max(len(image), 1))
