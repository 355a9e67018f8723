from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, PIXELS, SIDE
from trainer import variants
from trainer.variants.hypernet import EVALUATED_AT_ONCE

SEED = tf.constant([0, 1])
SMALL = {"hidden": 5, "embedding": 3}


def some_images(count: int) -> tf.Tensor:
    return tf.random.stateless_uniform([count, SIDE, SIDE, 1], SEED)


def one_by_one(model: Any, images: tf.Tensor, hidden: int) -> np.ndarray:
    """The logits, image after image, each through weights cut out of the output as the guide does it."""
    rows = []
    for image in images.numpy().reshape(-1, PIXELS):
        [theta] = model.generator(image[None]).numpy()
        kernel1, theta = theta[: PIXELS * hidden].reshape(PIXELS, hidden), theta[PIXELS * hidden :]
        bias1, theta = theta[:hidden], theta[hidden:]
        kernel2, bias2 = theta[: hidden * CLASSES].reshape(hidden, CLASSES), theta[hidden * CLASSES :]
        assert bias2.shape == (CLASSES,)
        rows.append(np.maximum(image @ kernel1 + bias1, 0) @ kernel2 + bias2)
    return np.stack(rows)


@pytest.mark.parametrize("seed", [None, SEED])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_image_of_a_batch_goes_through_its_own_weights(count: int, seed: tf.Tensor | None) -> None:
    model, images = variants.load("hypernet").build(SMALL), some_images(count)
    np.testing.assert_allclose(model.logits(images, seed), one_by_one(model, images, 5), rtol=2e-5)


@pytest.mark.parametrize("count", [EVALUATED_AT_ONCE - 1, EVALUATED_AT_ONCE, 2 * EVALUATED_AT_ONCE + 1])
def test_evaluation_in_groups_gives_what_one_batch_gives(count: int) -> None:
    model, images = variants.load("hypernet").build(SMALL), some_images(count)
    logits = model.logits(images)
    assert logits.shape == [count, CLASSES]
    np.testing.assert_allclose(logits, model.logits(images, SEED), rtol=1e-5)


def test_evaluation_of_no_images_gives_no_logits() -> None:
    assert variants.load("hypernet").build(SMALL).logits(some_images(0)).shape == [0, CLASSES]


def test_evaluation_never_holds_the_weights_of_more_images_than_it_says() -> None:
    model = variants.load("hypernet").build(SMALL)
    model.logits(some_images(1))
    held: list[tf.Tensor] = []
    generate = model.generated

    def spy(flat: tf.Tensor) -> list[tf.Tensor]:
        held.append(tf.shape(flat)[0])
        return generate(flat)

    model.generated = spy
    model.logits(some_images(3 * EVALUATED_AT_ONCE))
    assert [int(count) for count in held] == [EVALUATED_AT_ONCE] * 3


def test_the_published_sizes_and_the_published_flaw() -> None:
    variant = variants.load("hypernet")
    model = variant.build({})
    kernel1, bias1, kernel2, bias2 = model.generated(tf.reshape(some_images(2), [2, PIXELS]))
    sizes = [np.prod(part.shape[1:]) for part in (kernel1, bias1, kernel2, bias2)]
    assert sum(sizes) == 50_890
    assert model.parameters() == (PIXELS + 1) * 16 + 17 * 50_890
    assert all(np.all(part > 0) for part in (kernel1, bias1, kernel2, bias2))  # so that relu never gates
    recipe = variant.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1e-4, 1)
    assert recipe.steps.full == 1_000


@pytest.mark.parametrize("values", [{"hidden": 0}, {"embedding": 0}])
def test_wrong_configurations_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        variants.load("hypernet").config(values)
