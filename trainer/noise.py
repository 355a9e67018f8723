"""Noise of a batch that may be split over replicas: each gets its rows of what one device would draw.

Models draw whatever has an entry an example from here, so that the same seed gives the same training on one
device and on many. A replica holds every `of`-th row of the batch from `index` on, and so it does of K copies
of the batch laid out one after the other (as for K samples an image).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """Which part of the global batch the code being traced sees."""

    index: tf.Tensor  # int32 []
    of: int


_SHARE: contextvars.ContextVar[Share | None] = contextvars.ContextVar("share", default=None)


@contextlib.contextmanager
def share(index: tf.Tensor, of: int) -> Iterator[None]:
    """Inside, draws are rows of the whole batch's: every `of`-th, from `index` on."""
    token = _SHARE.set(Share(index, of) if of > 1 else None)
    try:
        yield
    finally:
        _SHARE.reset(token)


def normal(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Standard normal numbers; shape: [B, ...], seed int32 [2]."""
    return _draw(lambda whole: tf.random.stateless_normal(whole, seed, dtype=dtype), shape)


def uniform(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Uniform numbers in [0, 1); shape: [B, ...], seed int32 [2]."""
    return _draw(lambda whole: tf.random.stateless_uniform(whole, seed, dtype=dtype), shape)


def _draw(generate: Callable[[tf.Tensor], tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
    part = _SHARE.get()
    if part is None:
        return generate(shape)
    shape = tf.convert_to_tensor(shape, tf.int32)
    whole = generate(tf.concat([shape[:1] * part.of, shape[1:]], axis=0))
    return whole[part.index :: part.of]
