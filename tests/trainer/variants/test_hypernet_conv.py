"""The generated kernel beside NumPy's, and the sizes that the paper gives."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from schemas import SIDE
from trainer import variants
from trainer.variants.hypernet_conv import Config, ConvHypernet, GeneratedKernel, LearnedKernel


def built(**config: object) -> ConvHypernet:
    keras.utils.set_random_seed(5)
    model = variants.load("hypernet_conv").build(config)
    model.logits(tf.zeros([1, SIDE, SIDE, 1]))
    return model


def test_the_paper_s_4_244_numbers_generate_its_kernel_of_12_544() -> None:
    model = built()
    assert sum(int(np.prod(weight.shape)) for weight in model.second.weights) == 4_244
    assert tuple(model.second.kernel().shape) == (7, 7, 16, 16)
    direct = built(generated=False)
    assert direct.parameters() - model.parameters() == 12_544 - 4_244


def test_the_kernel_of_an_input_channel_is_generated_from_the_embedding() -> None:
    model = built(embedding=3, projection=2, filters=5, size=3)
    weights = {weight.name: weight.numpy() for weight in model.second.weights}
    weights["offsets"] = np.random.default_rng(0).normal(size=weights["offsets"].shape)
    model.second.offsets.assign(weights["offsets"])
    kernel = model.second.kernel().numpy()
    for channel in range(5):
        projected = weights["projections"][channel] @ weights["embedding"] + weights["offsets"][channel]
        made = (projected @ weights["generator"] + weights["base"]).reshape(3, 3, 5)
        np.testing.assert_allclose(kernel[:, :, channel, :], made, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "draws"), [(GeneratedKernel, 100), (LearnedKernel, 3)])
def test_kernels_begin_with_the_variance_that_keeps_activations_as_large(kind: Any, draws: int) -> None:
    found = []
    for seed in range(draws):
        keras.utils.set_random_seed(seed)
        found.append(kind(Config()).kernel().numpy())
    assert np.mean(np.square(found)) == pytest.approx(2.0 / (7 * 7 * 16), rel=0.25)


def test_logits_are_those_of_scipy_s_convolutions() -> None:
    model = built(filters=2, size=3)
    image = np.random.default_rng(1).random((SIDE, SIDE))
    first, first_bias = (weight.numpy() for weight in model.below.layers[0].weights)
    head, head_bias = (weight.numpy() for weight in model.above.layers[-1].weights)

    def layer(maps: list[np.ndarray], kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        """Correlate, add, cut off below zero, and take the maximum of each 2x2 square."""
        found = []
        for output in range(kernel.shape[-1]):
            total = sum(
                signal.correlate2d(maps[i], kernel[:, :, i, output], mode="same") for i in range(len(maps))
            )
            relu = np.maximum(total + bias[output], 0.0)
            height, width = relu.shape
            found.append(relu.reshape(height // 2, 2, width // 2, 2).max(axis=(1, 3)))
        return found

    maps = layer(layer([image], first, first_bias), model.second.kernel().numpy(), model.bias.numpy())
    expected = np.stack(maps, axis=-1).reshape(-1) @ head + head_bias
    given = tf.constant(image[None, :, :, None], tf.float32)
    np.testing.assert_allclose(model.logits(given)[0], expected, rtol=1e-3, atol=1e-5)


def test_a_filter_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be odd"):
        variants.load("hypernet_conv").config({"size": 4})
