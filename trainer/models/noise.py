"""Noise of a batch that may be split over replicas: each gets its rows of what one device would draw.

Models draw from here whatever has one entry per example, with examples on the first axis, so that the same
seed gives the same training on one device and on many.
"""

from collections.abc import Callable

import tensorflow as tf

from trainer.devices import shares


def normal(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return standard normal numbers; shape: [B, ...], seed int32 [2]."""
    return _draw(lambda whole: tf.random.stateless_normal(whole, seed, dtype=dtype), shape)


def uniform(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return uniform numbers in [0, 1); shape: [B, ...], seed int32 [2]."""
    return _draw(lambda whole: tf.random.stateless_uniform(whole, seed, dtype=dtype), shape)


def _draw(generate: Callable[[tf.Tensor], tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
    part = shares.current()
    if part is None:
        return generate(shape)
    shape = tf.convert_to_tensor(shape, tf.int32)
    whole = generate(tf.concat([shape[:1] * part.of, shape[1:]], axis=0))
    return whole[part.index :: part.of]
