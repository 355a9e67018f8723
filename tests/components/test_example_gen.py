import pathlib

import numpy as np
import tensorflow as tf

from components import example_gen, idx
from components.idx import Images
from schemas import IMAGE, LABEL, SIDE, TRAIN_SPLIT


def read_back(folder: pathlib.Path) -> Images:
    files = sorted(str(path) for path in folder.glob("*.gz"))
    spec = {IMAGE: tf.io.FixedLenFeature([], tf.string), LABEL: tf.io.FixedLenFeature([], tf.int64)}
    records = [record for file in files for record in tf.data.TFRecordDataset(file, "GZIP")]
    parsed = tf.io.parse_example(records, spec)
    images = tf.reshape(tf.io.decode_raw(parsed[IMAGE], tf.uint8), [-1, SIDE, SIDE])
    return Images(images.numpy(), parsed[LABEL].numpy())


def test_a_split_is_written_whole_and_in_order(tmp_path: pathlib.Path, digits: dict[str, Images]) -> None:
    example_gen.write_split(digits[TRAIN_SPLIT], str(tmp_path))
    back = read_back(tmp_path)
    np.testing.assert_array_equal(back.images, digits[TRAIN_SPLIT].images)
    np.testing.assert_array_equal(back.labels, digits[TRAIN_SPLIT].labels)


def test_a_split_smaller_than_its_shards_is_written_too(tmp_path: pathlib.Path) -> None:
    one = idx.Images(np.ones([1, SIDE, SIDE], np.uint8), np.array([3], np.uint8))
    example_gen.write_split(one, str(tmp_path))
    np.testing.assert_array_equal(read_back(tmp_path).labels, [3])


def test_the_same_images_give_the_same_bytes(tmp_path: pathlib.Path, digits: dict[str, Images]) -> None:
    for name in ("a", "b"):
        example_gen.write_split(digits[TRAIN_SPLIT], str(tmp_path / name))
    first, second = ([p.read_bytes() for p in sorted((tmp_path / n).iterdir())] for n in ("a", "b"))
    assert first == second


def test_with_spans_the_newest_folder_is_what_the_driver_looks_for() -> None:
    component = example_gen.IdxExampleGen("data", spans=True)
    assert '"pattern": "span-{SPAN}/train-*"' in component.exec_properties["input_config"]
