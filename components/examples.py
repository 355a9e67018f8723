"""Raw images as tf.Examples: what the pipeline stores and what clients of a served model send."""

import tensorflow as tf

from schemas import IMAGE, LABEL


def serialize(image: bytes, label: int) -> bytes:
    """One tf.Example: PIXELS grey bytes and a label, serialized."""
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    example.features.feature[LABEL].int64_list.value.append(label)
    return bytes(example.SerializeToString(deterministic=True))
