"""The optimizers of the recipes, by name, in the form whose update is one fused kernel a variable.

These are tf_keras's; Keras 3's take about ten operations a variable. They compute what Keras's did when the
models' sources were written. For RMSprop that is gradient / (root of the mean square + epsilon); its kernel
adds epsilon under the root instead, as Keras 3 does, but there 1e-7 holds back every weight whose gradient is
less than 3e-4. Its square does not. The kernel wants a momentum; a callable zero is one.
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
    """The optimizer called `name`; ValueError lists the known ones."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate)
