"""Data that cannot support a verdict is refused before training; data that merely looks unusual passes."""

import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.api import validation_api
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from components.ingest import example_gen, formats, idx
from components.ingest.examples import max_intensity, mean_intensity
from components.ingest.idx import Images
from components.validation import anomaly_gate as gate
from components.validation import plausibility
from schemas import (
    BINARY,
    GREY,
    LABEL,
    MAX_INTENSITY,
    MEAN_INTENSITY,
    SCHEMA_FILE,
    SIDE,
    TEST_SPLIT,
    TRAIN_SPLIT,
)


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    return tfdv.load_schema_text(str(SCHEMA_FILE))


def statistics(data: Images, schema: schema_pb2.Schema) -> Any:
    raw = [image.tobytes() for image in data.images]
    columns = {
        LABEL: pa.array([[int(label)] for label in data.labels], pa.list_(pa.int64())),
        MEAN_INTENSITY: pa.array([[mean_intensity(image)] for image in raw], pa.list_(pa.float32())),
        MAX_INTENSITY: pa.array([[max_intensity(image)] for image in raw], pa.list_(pa.float32())),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=schema))


def judged(
    splits: dict[str, Images], schema: schema_pb2.Schema, folder: pathlib.Path, protocol: str = "threshold"
) -> str:
    """What AnomalyGate says of labels and pixels of the splits; empty if it lets them through."""
    artifact = standard_artifacts.ExampleAnomalies()
    artifact.uri, artifact.split_names = str(folder), f'["{TRAIN_SPLIT}", "{TEST_SPLIT}"]'
    described = {split: statistics(data, schema) for split, data in splits.items()}
    for split, own in described.items():
        found = validation_api.custom_validate_statistics(own, plausibility.config(protocol))
        of_labels = tfdv.validate_statistics(own, schema).anomaly_info
        if LABEL in of_labels:
            found.anomaly_info[LABEL].CopyFrom(of_labels[LABEL])
        path = folder / f"Split-{split}" / "SchemaDiff.pb"
        path.parent.mkdir(parents=True)
        path.write_bytes(found.SerializeToString())
    try:
        gate.check(artifact, described)
    except gate.DataAnomaly as error:
        return str(error)
    return ""


def changed(digits: dict[str, Images], change: Any) -> dict[str, Images]:
    return {split: Images(change(data.images), data.labels) for split, data in digits.items()}


def sparse(images: idx.Bytes) -> idx.Bytes:
    """One full pixel per image, at another place in each."""
    found = np.zeros_like(images)
    count = len(images)
    found.reshape(count, -1)[np.arange(count), np.arange(count) % (SIDE * SIDE)] = 255
    return found


LEGITIMATE = {
    "as they are": lambda images: images,
    "half as bright": lambda images: images // 2 + (images > 200) * np.uint8(10),
    "a third as bright, grey": lambda images: images // 3,
    "sparse": sparse,
    "inverted": lambda images: 255 - images,
    "0 and 255": lambda images: (images > 127) * np.uint8(255),
}
IMPLAUSIBLE = {
    "0 and 1": (lambda images: (images > 127).astype(np.uint8), "at least 32 of 255; set `pixels: binary`"),
    "0 to 1, scaled": (lambda images: (images // 255).astype(np.uint8), "set `pixels: binary`"),
    "0 to 16": (lambda images: images // 16, "at least 32 of 255"),
    "a third as bright": (lambda images: images // 3, "protocol `threshold` makes all others empty"),
    "empty": (lambda images: images * np.uint8(0), "the mean intensity of the split must be at least 0.0005"),
    "filled": (lambda images: images // 255 + np.uint8(254), "must be at most 0.995"),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_unusual_but_legitimate_pixels_pass(
    name: str, digits: dict[str, Images], schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    protocol = "grey" if "grey" in name else "threshold"
    assert judged(changed(digits, LEGITIMATE[name]), schema, tmp_path, protocol) == ""


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_implausible_pixels_stop_the_run_with_what_was_found_and_what_to_do(
    name: str, digits: dict[str, Images], schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    change, words = IMPLAUSIBLE[name]
    message = judged(changed(digits, change), schema, tmp_path)
    assert words in message
    assert "\n" not in message
    assert "(found max_intensity 0" in message or "(found mean_intensity" in message


@pytest.mark.parametrize(
    ("values", "passes"),
    [((0, 1), True), ((0, 255), True), ((0,), True), ((0, 1, 2), False), ((0, 128), False)],
)
def test_pixels_declared_binary_become_0_and_255_or_are_refused(
    values: tuple[int, ...], passes: bool
) -> None:
    images = np.stack([np.full([SIDE, SIDE], value, np.uint8) for value in values])
    blocks = [Images(image[None], np.zeros(1, np.uint8)) for image in images]
    if passes:
        expected = np.where(images > 0, 255, 0)
        found = formats.to_grey(blocks, BINARY, TRAIN_SPLIT)
        np.testing.assert_array_equal(np.concatenate([block.images for block in found]), expected)
    else:
        with pytest.raises(idx.IdxError, match="pixels have the values 0, .*expected 0 and 1, or 0 and 255"):
            list(formats.to_grey(blocks, BINARY, TRAIN_SPLIT))
    assert list(formats.to_grey(blocks, GREY, TRAIN_SPLIT)) == blocks


def test_identical_images_are_refused_and_nearly_identical_ones_are_not() -> None:
    images = np.ones([20, SIDE, SIDE], np.uint8)
    labels = np.zeros(20, np.uint8)
    with pytest.raises(idx.IdxError, match="train split: all 20 images are identical"):
        list(
            example_gen.varied([Images(images[:9], labels[:9]), Images(images[9:], labels[9:])], TRAIN_SPLIT)
        )
    images[7, 3, 3] = 2
    list(example_gen.varied([Images(images, labels)], TRAIN_SPLIT))
    list(example_gen.varied([Images(images[:1], labels[:1])], TEST_SPLIT))


@pytest.mark.parametrize(
    ("missing", "words"),
    [((8, 9), "no image of classes 8, 9, of which"), ((0,), "no image of class 0, of which"), ((), "")],
)
def test_classes_of_the_test_split_that_train_lacks_are_named(
    missing: tuple[int, ...],
    words: str,
    digits: dict[str, Images],
    schema: schema_pb2.Schema,
    tmp_path: pathlib.Path,
) -> None:
    train = digits[TRAIN_SPLIT]
    kept = ~np.isin(train.labels, missing)
    splits = {**digits, TRAIN_SPLIT: Images(train.images[kept], train.labels[kept])}
    message = judged(splits, schema, tmp_path)
    assert words in message
    assert bool(message) == bool(words)


def test_classes_that_only_train_has_are_no_reason_to_stop(
    digits: dict[str, Images], schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    test = digits[TEST_SPLIT]
    kept = test.labels < 8
    splits = {**digits, TEST_SPLIT: Images(test.images[kept], test.labels[kept])}
    assert judged(splits, schema, tmp_path) == ""


@pytest.mark.parametrize("split", [TRAIN_SPLIT, TEST_SPLIT])
def test_a_split_of_one_label_is_refused(
    split: str, digits: dict[str, Images], schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    one = Images(digits[split].images, np.full_like(digits[split].labels, 3))
    message = judged({**digits, split: one}, schema, tmp_path)
    assert f"{split}/label: Expected at least 2 unique values but found only 1" in message


def test_every_protocol_has_the_common_validations_and_threshold_one_more() -> None:
    counts = {
        protocol: len(plausibility.config(protocol).feature_validations)
        for protocol in ("threshold", "grey", "stochastic", "dynamic")
    }
    assert counts == {"threshold": 3, "grey": 2, "stochastic": 2, "dynamic": 2}
