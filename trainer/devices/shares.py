"""A replica's share of a batch that is split over several devices, and the sums that all replicas know.

A replica holds every `of`-th example of the batch, from `index` on. On one device it holds the whole batch,
and nothing here does anything.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """Which part of the global batch the code being traced sees."""

    index: tf.Tensor  # int32 []
    of: int


_SHARE: contextvars.ContextVar[Share | None] = contextvars.ContextVar("share", default=None)


def current() -> Share | None:
    """Return the share of the code being traced; None where it sees the whole batch."""
    return _SHARE.get()


@contextlib.contextmanager
def share(index: tf.Tensor, of: int) -> Iterator[None]:
    """Make the code traced inside the context see every `of`-th example, from `index` on."""
    token = _SHARE.set(Share(index, of) if of > 1 else None)
    try:
        yield
    finally:
        _SHARE.reset(token)


def whole() -> contextlib.AbstractContextManager[None]:
    """Make every replica work on the same examples inside the context, instead of its share of the batch."""
    return share(tf.constant(0), 1)


def summed(values: tf.Tensor) -> tf.Tensor:
    """Return the sum of every replica's `values`, the same on all."""
    if _SHARE.get() is None:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def entries(values: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Return entries of the whole batch's values, the same on all replicas, [N, ...].

    values: [share of B, ...]; at: int32 [N, k], an example's index in the whole batch and k - 1 more.
    """
    part = _SHARE.get()
    if part is None:
        return tf.gather_nd(values, at)
    example, rest = at[:, :1], at[:, 1:]
    found = tf.gather_nd(values, tf.concat([example // part.of, rest], axis=1))
    own = tf.cast(example[:, 0] % part.of == part.index, found.dtype)
    return summed(tf.einsum("n,n...->n...", own, found))
