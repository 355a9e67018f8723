from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from trainer import recipe
from trainer.loop import optimizers

RATE = 0.1
GRADIENTS = np.array([[1.0, -2.0], [0.5, 0.0], [-3.0, 4.0]])
EPSILON = 1e-7


def sgd(gradients: np.ndarray) -> np.ndarray:
    return -RATE * gradients.sum(axis=0)


def adam(gradients: np.ndarray, beta_1: float = 0.9, beta_2: float = 0.999) -> np.ndarray:
    value, first, second = np.zeros(2), np.zeros(2), np.zeros(2)
    for t, gradient in enumerate(gradients, 1):
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        rate = RATE * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        value -= rate * first / (np.sqrt(second) + EPSILON)
    return value


def rmsprop(gradients: np.ndarray, rho: float = 0.9) -> np.ndarray:
    value, square = np.zeros(2), np.zeros(2)
    for gradient in gradients:
        square = rho * square + (1 - rho) * gradient**2
        value -= RATE * gradient / (np.sqrt(square) + EPSILON)
    return value


REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sgd": sgd, "adam": adam, "rmsprop": rmsprop}


@pytest.mark.parametrize("scale", [1.0, 1e-4], ids=["gradients of 1", "gradients of 1e-4"])
@pytest.mark.parametrize("name", recipe.OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_its_formula(name: str, scale: float) -> None:
    variable = tf.Variable(tf.zeros([2]))
    optimizer = optimizers.make(name, RATE)
    for gradient in scale * GRADIENTS:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    tolerance = 1e-5
    if name == "rmsprop":  # whose kernel adds the square of epsilon under the root
        tolerance = max(tolerance, 20 * EPSILON / scale)
    np.testing.assert_allclose(
        variable.numpy(), REFERENCES[name](scale * GRADIENTS), rtol=tolerance, atol=1e-6
    )


def test_an_unknown_optimizer_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="adam, rmsprop, sgd"):
        optimizers.make("adamant", 0.1)
