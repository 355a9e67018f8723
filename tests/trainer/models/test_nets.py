from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer.models import nets


def dense(inputs: np.ndarray, layers: list[np.ndarray], activation: str) -> np.ndarray:
    """A dense network in NumPy: kernels and biases in turn, the activation on all but the last."""
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
    }
    for kernel, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        inputs = functions[activation](inputs @ kernel + bias)
    return inputs @ layers[-2] + layers[-1]


def test_an_encoder_is_dense_layers_over_the_flattened_image() -> None:
    keras.utils.set_random_seed(0)
    network = nets.mlp_encoder((5, 4), 6, "tanh")
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 1)).astype(np.float32)
    found = network(tf.constant(images))
    expected = dense(images.reshape(3, PIXELS), network.get_weights(), "tanh")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_is_dense_layers_to_the_pixels_logits() -> None:
    keras.utils.set_random_seed(0)
    network = nets.mlp_decoder((5,), "relu")
    latents = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    found = network(tf.constant(latents))
    expected = dense(latents, network.get_weights(), "relu").reshape(3, SIDE, SIDE, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_call_makes_weights_of_its_own() -> None:
    one, other = nets.mlp((3,), 2, "relu"), nets.mlp((3,), 2, "relu")
    inputs = tf.ones([1, 4])
    assert (one(inputs).numpy() != other(inputs).numpy()).any()


def test_sampling_scales_by_the_standard_deviation() -> None:
    found = nets.Sampling()(
        tf.constant([[1.0, 2.0]]), tf.constant([[0.0, np.log(9.0)]]), tf.constant([[1.0, -1.0]])
    )
    np.testing.assert_allclose(found, [[2.0, -1.0]], rtol=1e-6)
