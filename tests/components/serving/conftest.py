import pathlib
from collections.abc import Callable

import pytest
import tensorflow as tf

from schemas import IMAGE


class Mean(tf.Module):
    """The smallest model that serves images: a weighted mean of their grey values."""

    def __init__(self, weight: float) -> None:
        self.weight = tf.Variable(tf.fill([64], weight))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]
        pixels = tf.cast(tf.io.decode_raw(images, tf.uint8), tf.float32)
        return {"mean": tf.reduce_mean(pixels, axis=-1) * self.weight[0]}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], pathlib.Path]:
    """Save a model with that weight, once per session; its folder must not be changed."""
    folder = tmp_path_factory.mktemp("saved")

    def save(weight: float) -> pathlib.Path:
        place = folder / str(weight)
        if not place.exists():
            module = Mean(weight)
            tf.saved_model.save(module, str(place), signatures=module.serve)
        return place

    return save


@pytest.fixture
def model(saved: Callable[[float], pathlib.Path]) -> pathlib.Path:
    return saved(1.0)
