from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, PIXELS, SIDE
from trainer import variants

SEED = tf.constant([0, 1])
REPLACED = (PIXELS + 1) * 64 + 65 * CLASSES


def built(**values: int) -> Any:
    keras.utils.set_random_seed(0)
    return variants.load("hypernet_static").build(values)


@pytest.mark.parametrize("embedding", [1, 8, 32, 54])
def test_it_trains_fewer_numbers_than_it_replaces_and_says_how_many(embedding: int) -> None:
    model = built(embedding=embedding)
    assert model.parameters() < REPLACED
    config = variants.load("hypernet_static").config({"embedding": embedding})
    assert (config.trained, config.generated) == (model.parameters(), REPLACED)


def test_a_generator_that_would_train_as_many_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="trains 51,670 numbers to generate 50,890, expected fewer"):
        variants.load("hypernet_static").config({"embedding": 55})


def test_the_classifier_is_made_of_the_weights_of_each_unit_s_embedding() -> None:
    model, images = built(hidden=6, embedding=3), tf.random.stateless_uniform([4, SIDE, SIDE, 1], SEED)
    for variable in model.learned():  # biases begin at 0, which would hide a mistake
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, SEED))
    values = images.numpy().reshape(4, -1)
    for layer, outer in ((model.first, False), (model.second, True)):
        columns = [
            np.append(
                unit @ np.asarray(layer.kernel_head) + np.asarray(layer.kernel_base),
                unit @ np.asarray(layer.bias_head) + np.asarray(layer.bias_base),
            )
            for unit in np.asarray(layer.embeddings)
        ]
        values = np.stack([values @ column[:-1] + column[-1] for column in columns], axis=1)
        values = values if outer else np.maximum(values, 0)
    np.testing.assert_allclose(model.logits(images), values, rtol=1e-4, atol=1e-4)


def test_generated_weights_have_at_initialisation_the_variance_of_weights_drawn_directly() -> None:
    model = built()
    kernel, bias = model.first.generated()
    assert (kernel.shape, bias.shape) == ([PIXELS, 64], [64])
    # the variance of a unit's column is that of its 32 normal embeddings: a chi-square of 64 * 32 draws
    np.testing.assert_allclose(np.var(kernel), 2 / PIXELS, rtol=0.15)
    np.testing.assert_array_equal(bias, 0)
    np.testing.assert_allclose(np.var(model.second.generated()[0]), 1 / 64, rtol=0.5)  # 10 * 32 draws


def test_the_weights_are_the_same_for_every_image() -> None:
    model, images = built(), tf.random.stateless_uniform([5, SIDE, SIDE, 1], SEED)
    alone = tf.concat([model.logits(image[None]) for image in images], axis=0)
    np.testing.assert_allclose(model.logits(images), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("values", [{"hidden": 0}, {"embedding": 0}])
def test_wrong_configurations_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        variants.load("hypernet_static").config(values)
