"""The optimizers of the recipes, by name, in the form whose update is one fused kernel per variable.

These are tf_keras's legacy ones; Keras 3's take about ten operations per variable. They compute what Keras's
did when the models' sources were written. For RMSprop that is gradient / (root of the mean square + epsilon);
its kernel adds epsilon under the root instead, as Keras 3 does, but there 1e-7 holds back every weight whose
gradient is less than 3e-4. The square of epsilon does not. The kernel needs a momentum; a callable zero is
one.
"""

import functools
from typing import Any

from tf_keras.optimizers import legacy

EPSILON = 1e-7
"""Keras's, added to the root."""

OPTIMIZERS = {
    "adam": functools.partial(legacy.Adam, epsilon=EPSILON),
    "rmsprop": functools.partial(legacy.RMSprop, epsilon=EPSILON**2, momentum=lambda: 0.0),
    "sgd": legacy.SGD,
}


def make(name: str, learning_rate: float) -> Any:
    """Return the optimizer called `name`, one of trainer.recipe.OPTIMIZERS."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate)
