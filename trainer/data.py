"""Transformed examples, read once into memory as bytes."""

import functools
import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import LABEL, PIXELS, PIXELS_FEATURE

READ_BATCH = 4096


class Examples(NamedTuple):
    """A split of the data set; a pixel costs one byte."""

    pixels: npt.NDArray[np.uint8]  # [N, PIXELS], 0/1 or 0..255 as the protocol has it
    labels: npt.NDArray[np.int64]  # [N]


@functools.lru_cache(maxsize=4)
def load(patterns: tuple[str, ...]) -> Examples:
    """All examples of the TFRecord files that match, in_canonical_order.

    Artifacts never change once written, so that the trainers of one process share what was read.
    Raises ValueError where no example is found.
    """
    files = sorted(name for pattern in patterns for name in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(
            f"no transformed examples at {', '.join(patterns)}; run the Transform component first"
        )
    spec = {
        PIXELS_FEATURE: tf.io.FixedLenFeature([PIXELS], tf.int64),
        LABEL: tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_example(records, spec)
        return tf.cast(features[PIXELS_FEATURE], tf.uint8), features[LABEL]

    kind = "GZIP" if files[0].endswith(".gz") else ""
    records = tf.data.TFRecordDataset(files, kind, buffer_size=1 << 20, num_parallel_reads=len(files))
    options = tf.data.Options()
    options.deterministic = True
    batches = list(
        records.with_options(options).batch(READ_BATCH).map(parse, tf.data.AUTOTUNE).as_numpy_iterator()
    )
    if not batches:
        raise ValueError(f"no examples in {', '.join(files)}")
    return in_canonical_order(Examples(*(np.concatenate(column) for column in zip(*batches, strict=True))))


def in_canonical_order(examples: Examples) -> Examples:
    """The same examples in an order of their own content.

    Transform's workers name their output files at random, so file order differs from run to run; without this
    the same data and seed would not give the same weights.
    """
    rows = zip(examples.pixels, examples.labels, strict=True)
    digests = [hashlib.blake2b(row.tobytes() + bytes([label]), digest_size=8).digest() for row, label in rows]
    order = np.argsort(np.array(digests, "S8"), kind="stable")
    return Examples(examples.pixels[order], examples.labels[order])


def batch_indices(examples: int, batch_size: int, first: int, steps: int, seed: int) -> npt.NDArray[np.int32]:
    """Which examples each of `steps` steps sees, from step `first`: int32 [steps, batch_size].

    Every epoch is a new permutation; a batch may span two epochs, so that each example is seen equally often.
    The answer depends on nothing but the arguments, which is what lets a run resume anywhere.
    """
    start, stop = first * batch_size, (first + steps) * batch_size
    epochs = range(start // examples, (stop - 1) // examples + 1)
    order = np.concatenate([_permutation(examples, seed, epoch) for epoch in epochs])
    offset = start - epochs.start * examples
    return order[offset : offset + stop - start].reshape(steps, batch_size)


@functools.lru_cache(maxsize=4)
def _permutation(examples: int, seed: int, epoch: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng([seed, epoch]).permutation(examples).astype(np.int32)
