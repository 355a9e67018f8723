from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, PIXELS, SIDE
from trainer import variants

SEED = tf.constant([0, 1])


def built(**values: int) -> Any:
    keras.utils.set_random_seed(0)
    model = variants.load("hypernet_scaled").build(values)
    model.logits(tf.zeros([1, SIDE, SIDE, 1]))
    return model


def test_the_sum_of_products_is_each_image_through_its_own_laid_out_weights() -> None:
    model, images = built(hidden=5, embedding=3), tf.random.stateless_uniform([7, SIDE, SIDE, 1], SEED)
    for variable in model.learned():  # biases begin at 0, which would hide a mistake
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, SEED))
    flat = tf.reshape(images, [-1, PIXELS])
    embedding = model.embed(flat)
    weights = [part.numpy() for layer in (model.first, model.second) for part in layer.generated(embedding)]
    expected = [
        np.maximum(image @ kernel1 + bias1, 0) @ kernel2 + bias2
        for image, kernel1, bias1, kernel2, bias2 in zip(flat.numpy(), *weights, strict=True)
    ]
    np.testing.assert_allclose(model.logits(images), np.stack(expected), rtol=1e-4, atol=1e-4)


def test_different_images_get_different_weights_around_the_shared_ones() -> None:
    model = built()
    kernels = model.first.generated(model.embed(tf.random.stateless_uniform([2, PIXELS], SEED)))[0]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    blank = model.first.generated(tf.zeros([1, 16]))[0]
    np.testing.assert_array_equal(blank[0], model.first.base_kernel)


def test_generated_weights_have_at_initialisation_the_variance_of_weights_drawn_directly() -> None:
    model = built()
    embedding = model.embed(tf.random.stateless_uniform([8, PIXELS], SEED))
    first, bias = model.first.generated(embedding)
    # a kernel has 50,176 entries, 8 kernels that are not independent: within 5 %
    np.testing.assert_allclose(np.var(first, axis=(1, 2)), 2 / PIXELS, rtol=0.05)
    np.testing.assert_allclose(np.var(first - model.first.base_kernel, axis=(1, 2)), 1 / PIXELS, rtol=0.05)
    np.testing.assert_array_equal(bias, 0)
    second = model.second.generated(embedding)[0]
    np.testing.assert_allclose(np.var(second), 1 / 64, rtol=0.2)  # 640 entries


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_generated_weights_do_not_grow_with_the_contrast_of_the_image(scale: float) -> None:
    model = built()
    image = tf.random.stateless_uniform([1, PIXELS], SEED)
    embedding = model.embed(scale * 255 * image).numpy()
    np.testing.assert_allclose(np.mean(embedding**2), 1.0, rtol=0.05)


def test_the_sizes_of_a_head_over_the_main_network() -> None:
    main = (PIXELS + 1) * 64 + 65 * CLASSES
    assert built().parameters() == main + 16 * main + (PIXELS + 1) * 16 + 2 * 16


@pytest.mark.parametrize("values", [{"hidden": 0}, {"embedding": 1}])
def test_wrong_configurations_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        variants.load("hypernet_scaled").config(values)
