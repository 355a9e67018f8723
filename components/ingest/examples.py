"""Serialize raw images as tf.Examples, which the pipeline stores and clients of a served model send."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import IMAGE, LABEL, MAX_INTENSITY, MEAN_INTENSITY, PIXELS


def serialize(image: bytes, label: int) -> bytes:
    """Return a serialized tf.Example of an image (PIXELS bytes), its intensities and its label."""
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    example.features.feature[MEAN_INTENSITY].float_list.value.append(mean_intensity(image))
    example.features.feature[MAX_INTENSITY].float_list.value.append(max_intensity(image))
    example.features.feature[LABEL].int64_list.value.append(label)
    return bytes(example.SerializeToString(deterministic=True))


def serialize_all(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield serialize(image, label) of images [N, SIDE, SIDE] and labels [N], without a message for each.

    Records whose labels take as many bytes differ in four places only; these are filled in all at once.
    """
    pixels = images.reshape(len(images), PIXELS)
    long = labels >= _ONE_BYTE
    short_table, long_table = (_table(pixels[own], labels[own]) for own in (~long, long))
    rows = {False: iter(short_table), True: iter(long_table)}
    for each in long.tolist():
        yield next(rows[each]).tobytes()


def _table(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the records of images [N, PIXELS] whose labels take as many bytes, one per row."""
    layout = _layout(bool(len(labels)) and bool(labels[0] >= _ONE_BYTE))
    table = np.tile(np.frombuffer(layout.record, np.uint8), (len(labels), 1))
    means = pixels.sum(axis=1, dtype=np.int64) / (255 * PIXELS)
    highest = pixels.max(axis=1, initial=0) / 255
    for place, values in (
        (layout.image, pixels),
        (layout.mean, _float_bytes(means)),
        (layout.highest, _float_bytes(highest)),
        (layout.label, _varint(labels)),
    ):
        table[:, place : place + values.shape[1]] = values
    return table


class _Layout(NamedTuple):
    """A serialized record, and where in it the image, the intensities and the label are."""

    record: bytes
    image: int
    mean: int
    highest: int
    label: int


_ONE_BYTE = 128
"""Labels below take one byte in a record, those from here on two."""


@functools.cache
def _layout(long: bool) -> _Layout:
    """Return the layout of records whose label takes one byte, or two if it is `long`."""
    label = 255 if long else 127
    image = bytes([255]) * PIXELS
    record = serialize(image, label)
    one = np.float32(1.0).tobytes()
    at = record.index(image)
    ones = [
        place
        for place in range(len(record))
        if record.startswith(one, place) and not at <= place < at + PIXELS
    ]
    names = {name: record.index(name.encode()) for name in (LABEL, MAX_INTENSITY, MEAN_INTENSITY)}
    varint = _varint(np.array([label], np.uint8)).tobytes()

    def after(name: str) -> int:
        return min(place for place in ones if place > names[name])

    return _Layout(
        record,
        at,
        after(MEAN_INTENSITY),
        after(MAX_INTENSITY),
        record.index(varint, names[LABEL] + len(LABEL)),
    )


def _float_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return values.astype("<f4").view(np.uint8).reshape(len(values), 4)


def _varint(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return labels as protocol buffers store them: [N, 1] if all are below 128, [N, 2] if none is."""
    long = len(labels) and labels[0] >= _ONE_BYTE
    return np.stack([labels, np.ones_like(labels)], axis=1) if long else labels[:, None]


def mean_intensity(image: bytes) -> float:
    """Return the mean grey value of an image divided by 255: 0 if all pixels are background, at most 1."""
    return int(np.frombuffer(image, np.uint8).sum()) / (255 * max(len(image), 1))


def max_intensity(image: bytes) -> float:
    """Return the largest grey value of an image divided by 255; 0 for an image without pixels."""
    return max(image, default=0) / 255
