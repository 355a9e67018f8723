import numpy as np
import tensorflow as tf

from schemas import CLASSES, PIXELS, SIDE
from trainer import variants
from trainer.models.model import Batch

SEED = tf.constant([0, 1])


def test_the_logits_are_a_linear_function_of_the_pixels() -> None:
    model = variants.load("linear").build({})
    images = tf.random.stateless_uniform([3, SIDE, SIDE, 1], SEED)
    logits = model.logits(images).numpy()
    kernel, bias = (np.asarray(variable) for variable in model.learned())
    assert kernel.shape == (PIXELS, CLASSES)
    np.testing.assert_allclose(logits, images.numpy().reshape(3, -1) @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_loss_is_that_of_logistic_regression() -> None:
    model = variants.load("linear").build({})
    images, labels = (
        tf.random.stateless_uniform([4, SIDE, SIDE, 1], SEED),
        tf.constant([0, 3, 3, 9], tf.int64),
    )
    logits = model.logits(images)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.objective(Batch(images, labels), SEED).loss)
    kernel, bias = tape.gradient(loss, model.learned())
    residual = (tf.nn.softmax(logits).numpy() - np.eye(CLASSES)[labels.numpy()]) / 4
    np.testing.assert_allclose(kernel, images.numpy().reshape(4, -1).T @ residual, atol=1e-5)
    np.testing.assert_allclose(bias, residual.sum(axis=0), atol=1e-5)


def test_it_is_trained_as_in_the_guide() -> None:
    recipe = variants.load("linear").recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("sgd", 1e-3, 64)
