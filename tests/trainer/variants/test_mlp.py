import itertools

import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, PIXELS, SIDE
from trainer import variants


def weights_between(widths: list[int]) -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))


@pytest.mark.parametrize("hidden", [[64], (64,), (32, 32), [5, 4, 3]])
def test_hidden_layers_are_as_wide_as_asked_in_a_list_or_a_tuple(hidden: list[int]) -> None:
    model = variants.load("mlp").build({"hidden": hidden})
    model.logits(tf.zeros([1, SIDE, SIDE, 1]))
    assert model.parameters() == weights_between([PIXELS, *hidden, CLASSES])


def test_the_logits_are_relu_layers_and_a_linear_one() -> None:
    model = variants.load("mlp").build({"hidden": [6, 5]})
    images = tf.random.stateless_uniform([3, SIDE, SIDE, 1], [0, 1])
    logits = model.logits(images).numpy()
    values = images.numpy().reshape(3, -1)
    weights = [np.asarray(variable) for variable in model.learned()]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        values = np.maximum(values @ kernel + bias, 0)
    np.testing.assert_allclose(logits, values @ weights[-2] + weights[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [[0], [32, -1], 64, "64"])
def test_widths_that_cannot_be_are_refused(hidden: object) -> None:
    with pytest.raises(ValueError, match="hidden"):
        variants.load("mlp").config({"hidden": hidden})
