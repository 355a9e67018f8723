"""Take every variant's loss on images of another size, from a feature of another name, both set in `schemas`.

other_images.py FOLDER, a place for files; prints a line per variant.
"""

import sys

import schemas

schemas.SIDE = 32
schemas.PIXELS = schemas.SIDE**2
schemas.PIXELS_FEATURE = "grey_values"

import keras
import numpy as np
import tensorflow as tf

from components.ingest import examples, idx
from trainer import variants
from trainer.devices import threads
from trainer.loop import data
from trainer.models.model import Batch
from trainer.transform import preprocessing_fn

COUNT = 120
SEED = tf.constant([1, 0])


def main(folder: str) -> None:
    draw = np.random.default_rng(0)
    drawn = draw.integers(0, 256, [COUNT, schemas.SIDE, schemas.SIDE]).astype(np.uint8)
    idx.write(f"{folder}/images", drawn)
    images = idx.read_images(f"{folder}/images")
    with tf.io.TFRecordWriter(f"{folder}/part.gz", tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for index, image in enumerate(images):
            writer.write(transformed(examples.serialize(image.tobytes(), index % schemas.CLASSES)))
    found = data.load((f"{folder}/part.gz",))

    def batch(chosen: np.ndarray) -> Batch:
        pixels, labels = data.rows(found, chosen)
        images = tf.reshape(tf.cast(pixels, tf.float32), [-1, schemas.SIDE, schemas.SIDE, 1]) / 255
        return Batch(images, tf.constant(labels))

    for name in variants.names():
        variant = variants.load(name)
        keras.utils.set_random_seed(0)
        model = variant.build({})
        model.initialise(batch, found.labels, 0)
        for phase in model.phases():
            losses = phase.objective(batch(np.arange(2)), SEED).loss
            assert losses.shape == [2], name
        shapes = []
        if variant.generative:
            shapes.append(model.sample(tf.constant(2), SEED).shape.as_list())
        if variant.classifies:
            shapes.append(model.logits(tf.zeros([2, schemas.SIDE, schemas.SIDE, 1])).shape.as_list())
        print(name, shapes, flush=True)


def transformed(serialized: bytes) -> bytes:
    """The example as the Transform component would leave it."""
    raw = tf.train.Example.FromString(serialized).features.feature
    inputs = {
        schemas.IMAGE: tf.constant(raw[schemas.IMAGE].bytes_list.value[:1]),
        schemas.LABEL: tf.constant(raw[schemas.LABEL].int64_list.value[:1], tf.int64),
        schemas.MEAN_INTENSITY: tf.constant(raw[schemas.MEAN_INTENSITY].float_list.value[:1]),
    }
    features = {
        key: tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(value)))
        for key, value in preprocessing_fn(inputs, {"protocol": "dynamic"}).items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


if __name__ == "__main__":
    threads.one_an_operation()
    main(*sys.argv[1:])
