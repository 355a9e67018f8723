"""The optimizers of the recipes, by name, in the form whose update is one fused kernel a variable.

These are tf_keras's: they compute what Keras 3's do, where those take about ten operations a variable.
"""

from typing import Any

from tf_keras.optimizers import legacy

OPTIMIZERS = {"adam": legacy.Adam, "rmsprop": legacy.RMSprop, "sgd": legacy.SGD}


def make(name: str, learning_rate: float) -> Any:
    """The optimizer called `name`; ValueError lists the known ones."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate=learning_rate, **({"epsilon": 1e-7} if name != "sgd" else {}))
