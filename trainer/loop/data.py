"""Transformed examples, read once: as bytes in memory, or, above a budget, as a mapped file.

Either way an epoch is a permutation of the whole set, so that a set too large for memory is trained on in the
same batches; only the place of the bytes differs.
"""

import functools
import hashlib
import itertools
import logging
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import LABEL, PIXELS, PIXELS_FEATURE

READ_BATCH = 4096
READERS = 4
BUDGET_BYTES = 5 << 29
"""Bytes of pixels that are kept in memory, 2.5 GiB, so that a training takes less than 4 GB in all."""
KEPT, KEPT_BYTES = 4, 1 << 28
"""How many sets stay in memory for the next training in this process, and the most bytes of one."""
GROWTH_BYTES = 1 << 28
"""Most bytes by which the memory of a set that is read grows at a time."""
STRIPES = 16
"""Parts of their columns in which rows are sorted where they are; the copy of one part is all it takes."""
ALIGNMENT = 64
"""TensorFlow's kernels need this alignment, in bytes, of memory that they do not allocate themselves."""
MAPPED_ROWS = 32
"""Rows read from a mapped file at a time; the system may map up to 2 MB around each."""

log = logging.getLogger(__name__)


class Examples(NamedTuple):
    """A split of the data set; a pixel costs one byte."""

    pixels: npt.NDArray[np.uint8]  # [N, PIXELS], 0/1 or 0..255 as the protocol has it; np.memmap above budget
    labels: npt.NDArray[np.int64]  # [N]


_kept: dict[tuple[tuple[str, ...], int], Examples] = {}


def load(patterns: tuple[str, ...], budget: int = BUDGET_BYTES) -> Examples:
    """Return all examples of the TFRecord files that match, in canonical order.

    The order follows the examples' own content: Transform's workers name their output files at random, so
    that in the files' order the same data and seed would not give the same weights.
    budget: bytes of pixels to keep in memory. A larger set is written to a nameless file in the temporary
    directory (TMPDIR) and read from there; that takes PIXELS bytes of disk per image, twice that while it is
    sorted. Artifacts never change once written, so the trainers of one process share what was read, up to
    KEPT_BYTES; a larger set is read again rather than kept while other components run.
    Raises ValueError where no example is found.
    """
    found = _kept.get((patterns, budget)) or _read(patterns, budget)
    if found.pixels.nbytes <= KEPT_BYTES:
        _kept[patterns, budget] = found
        if len(_kept) > KEPT:
            del _kept[next(iter(_kept))]
    return found


def clear() -> None:
    """Forget the sets that were kept for the next training."""
    _kept.clear()


def tensors(examples: Examples) -> tuple[tf.Tensor, tf.Tensor]:
    """Return pixels and labels for the steps: a copy on the GPU if there is one, else the same memory."""
    pixels = examples.pixels
    shared = pixels.flags.c_contiguous and pixels.flags.writeable and pixels.ctypes.data % ALIGNMENT == 0
    if tf.config.list_logical_devices("GPU") or not shared:
        return tf.constant(pixels), tf.constant(examples.labels)
    return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__()), tf.constant(examples.labels)


def _read(patterns: tuple[str, ...], budget: int) -> Examples:
    """Read the files that match; see load."""
    files = sorted(name for pattern in patterns for name in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(
            f"no transformed examples at {', '.join(patterns)}; run the Transform component first"
        )
    labels: list[npt.NDArray[np.int64]] = []
    digests: list[npt.NDArray[np.bytes_]] = []
    images = _gathered(_noted(_batches(files), labels, digests), budget)
    if not labels:
        raise ValueError(f"no examples in {', '.join(files)}")
    order = np.argsort(np.concatenate(digests), kind="stable")
    del digests
    unsorted = Examples(images, np.concatenate(labels))
    if not isinstance(images, np.memmap):
        for columns in np.array_split(np.arange(PIXELS), STRIPES):
            stripe = images[:, columns[0] : columns[-1] + 1]
            stripe[:] = stripe[order]
        return Examples(images, unsorted.labels[order])
    blocks = range(0, len(order), READ_BATCH)
    sorted_images = _mapped(rows(unsorted, order[first : first + READ_BATCH]).pixels for first in blocks)
    return Examples(sorted_images, unsorted.labels[order])


def _noted(
    batches: Iterable[Examples], labels: list[npt.NDArray[np.int64]], digests: list[npt.NDArray[np.bytes_]]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pixels of the batches; append their labels and the digests of their examples to the lists."""
    for batch in batches:
        pairs = zip(batch.pixels, batch.labels, strict=True)
        found = [
            hashlib.blake2b(row.tobytes() + bytes([label]), digest_size=8).digest() for row, label in pairs
        ]
        digests.append(np.array(found, "S8"))
        labels.append(batch.labels)
        yield batch.pixels


def _gathered(parts: Iterator[npt.NDArray[np.uint8]], budget: int) -> npt.NDArray[np.uint8]:
    """Return the rows of all parts: in memory, or mapped if they take more than `budget` bytes."""
    kept = _Rows()
    for part in parts:
        kept.append(part)
        if kept.size > budget:
            log.info("the images take more than %d bytes; they are read from disk", budget)
            return _mapped(itertools.chain([kept.array()], parts))
    return kept.array()


class _Rows:
    """Rows of PIXELS bytes in memory that grows in place: nothing is copied, and no page is taken ahead."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.size = 0

    def append(self, part: npt.NDArray[np.uint8]) -> None:
        """Add rows [n, PIXELS] at the end."""
        end = self.size + part.nbytes
        if end > len(self._memory):
            self._memory.resize(max(end, min(2 * len(self._memory), len(self._memory) + GROWTH_BYTES)))
        np.frombuffer(self._memory, np.uint8, part.nbytes, self.size)[:] = part.ravel()
        self.size = end

    def array(self) -> npt.NDArray[np.uint8]:
        """Return the rows, without a copy; no rows can be added any more."""
        return np.frombuffer(self._memory, np.uint8, self.size).reshape(-1, PIXELS)


def _mapped(parts: Iterable[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return the rows of all parts, in a file that disappears with the mapping or the process."""
    with tempfile.TemporaryFile() as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return np.memmap(file, np.uint8, mode="r").reshape(-1, PIXELS)


def _batches(files: list[str]) -> Iterator[Examples]:
    spec = {
        PIXELS_FEATURE: tf.io.FixedLenFeature([PIXELS], tf.int64),
        LABEL: tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_example(records, spec)
        return tf.cast(features[PIXELS_FEATURE], tf.uint8), features[LABEL]

    kind = "GZIP" if files[0].endswith(".gz") else ""
    records = tf.data.TFRecordDataset(
        files, kind, buffer_size=1 << 20, num_parallel_reads=min(len(files), READERS)
    )
    options = tf.data.Options()
    options.deterministic = True
    batches = records.with_options(options).batch(READ_BATCH).map(parse, tf.data.AUTOTUNE)
    yield from itertools.starmap(Examples, batches.as_numpy_iterator())


def rows(examples: Examples, chosen: npt.NDArray[Any]) -> Examples:
    """Return the examples at the indices `chosen`, [B], in memory."""
    mapping = _mapping(examples.pixels)
    if mapping is None:
        return Examples(examples.pixels[chosen], examples.labels[chosen])
    pixels = np.empty([len(chosen), PIXELS], np.uint8)
    for first in range(0, len(chosen), MAPPED_ROWS):
        part = slice(first, first + MAPPED_ROWS)
        pixels[part] = examples.pixels[chosen[part]]
        mapping.madvise(mmap.MADV_DONTNEED)  # else every page ever read counts as this process's memory
    return Examples(pixels, examples.labels[chosen])


def _mapping(pixels: npt.NDArray[np.uint8]) -> mmap.mmap | None:
    """Return the mapped file behind the array, if there is one; memory without a file is no such file."""
    base: Any = pixels if isinstance(pixels, np.memmap) else None
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def batch_indices(examples: int, batch_size: int, first: int, steps: int, seed: int) -> npt.NDArray[np.int32]:
    """Return which examples each of `steps` steps sees, from step `first`: int32 [steps, batch_size].

    Every epoch is a new permutation; a batch may span two epochs, so that each example is seen equally often.
    The answer depends on nothing but the arguments, which lets a run resume anywhere.
    """
    start, stop = first * batch_size, (first + steps) * batch_size
    epochs = range(start // examples, (stop - 1) // examples + 1)
    order = np.concatenate([_permutation(examples, seed, epoch) for epoch in epochs])
    offset = start - epochs.start * examples
    return order[offset : offset + stop - start].reshape(steps, batch_size)


@functools.lru_cache(maxsize=4)
def _permutation(examples: int, seed: int, epoch: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng([seed, epoch]).permutation(examples).astype(np.int32)
