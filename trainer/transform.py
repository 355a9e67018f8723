"""The transformation of a raw example; the same graph travels inside every exported model."""

from typing import Any

import tensorflow as tf

from schemas import IMAGE, LABEL, PIXELS, PIXELS_FEATURE
from trainer import binarize


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return {pixels: int64 [B, PIXELS], label: int64 [B]}; custom_config names the `protocol`."""
    raw = tf.io.decode_raw(inputs[IMAGE], tf.uint8, fixed_length=PIXELS)
    raw = tf.reshape(tf.cast(raw, tf.int32), [-1, PIXELS])
    return {
        PIXELS_FEATURE: binarize.to_features(raw, custom_config["protocol"]),
        LABEL: tf.identity(inputs[LABEL]),
    }
