"""The optimizers of the recipes, by name, in the form whose update is one fused kernel a variable.

These are tf_keras's: they compute what Keras 3's do, where those take about ten operations a variable.
RMSprop's kernel wants a momentum; a callable zero is one.
"""

import functools
from typing import Any

from tf_keras.optimizers import legacy

EPSILON = 1e-7
"""Keras 3's; inside the root for RMSprop, outside for Adam."""

OPTIMIZERS = {
    "adam": functools.partial(legacy.Adam, epsilon=EPSILON),
    "rmsprop": functools.partial(legacy.RMSprop, epsilon=EPSILON, momentum=lambda: 0.0),
    "sgd": legacy.SGD,
}


def make(name: str, learning_rate: float) -> Any:
    """The optimizer called `name`; ValueError lists the known ones."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate)
