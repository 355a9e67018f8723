"""The optimizers of the recipes, by name, in the form whose update is one fused kernel per variable.

These are tf_keras's legacy ones; Keras 3's take about ten operations per variable. They compute what Keras's
did when the models' sources were written. For RMSprop that is gradient / (root of the mean square + epsilon);
its kernel adds epsilon under the root instead, as Keras 3 does, but there 1e-7 holds back every weight whose
gradient is less than 3e-4. The square of epsilon does not. The kernel needs a momentum; a callable zero is
one.
"""

import functools
import math
from typing import Any

import tensorflow as tf
from tf_keras.optimizers import legacy, schedules

EPSILON = 1e-7
"""Keras's, added to the root."""

OPTIMIZERS = {
    "adam": functools.partial(legacy.Adam, epsilon=EPSILON),
    "rmsprop": functools.partial(legacy.RMSprop, epsilon=EPSILON**2, momentum=lambda: 0.0),
    "sgd": legacy.SGD,
}


class WarmUpAndCosine(schedules.LearningRateSchedule):
    """A learning rate that rises linearly for `warm_up` steps, then falls to zero at step `steps`.

    At step t, from 0, it is `peak` times (t + 1) / warm_up while t < warm_up, then times
    (1 + cos(pi u)) / 2 with u = (t - warm_up) / (steps - warm_up); without `cosine` it stays at `peak`.
    Loshchilov & Hutter 2017, without restarts.
    """

    def __init__(self, peak: float, warm_up: int, steps: int, cosine: bool) -> None:
        self._peak, self._warm_up, self._steps, self._cosine = peak, warm_up, steps, cosine

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate of a step."""
        taken = tf.cast(step, tf.float32)
        factor = tf.minimum((taken + 1.0) / max(self._warm_up, 1), 1.0)
        if self._cosine:
            past = (taken - self._warm_up) / max(self._steps - self._warm_up, 1)
            factor *= 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(past, 0.0, 1.0)))
        return self._peak * factor

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as Keras wants them."""
        return {
            "peak": self._peak, "warm_up": self._warm_up, "steps": self._steps, "cosine": self._cosine,
        }  # fmt: skip


def make(name: str, learning_rate: float | WarmUpAndCosine) -> Any:
    """Return the optimizer called `name`, one of trainer.recipe.OPTIMIZERS."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate)
