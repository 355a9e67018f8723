"""How a training step is laid out over the cores of a processor.

TensorFlow splits every operation over all cores. Small models lose more by the hand-over than they gain, and
convolutions of small images come to little more than one core's worth. Here an operation has one core
(trainer.devices.threads), and a recipe says how many a step is worth. With one core, operations
run one after another in the calling thread; with more, those that do not wait for each other run at the same
time, and networks work on parts of the batch, `side_by_side`. docs/PERFORMANCE.md has the measurements.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

# Not public, but the only way to choose an executor; without it small steps take about twice as long. A loop
# of a thousand iterations whose inputs are all constants crashes in it: TensorFlow folds it by recursion.
from tensorflow.python.eager import context

_PARTS: contextvars.ContextVar[int] = contextvars.ContextVar("parts", default=1)


def executor(cores: int) -> contextlib.AbstractContextManager[None]:
    """Run the graphs inside the context for so many cores; with a GPU as TensorFlow always does."""
    if cores > 1 or _has_gpu():
        return contextlib.nullcontext()
    single: contextlib.AbstractContextManager[None] = context.function_executor_type(
        "SINGLE_THREADED_EXECUTOR"
    )
    return single


@contextlib.contextmanager
def parts(number: int) -> Iterator[None]:
    """Make `side_by_side` split into so many parts in code traced inside the context; with a GPU into one."""
    token = _PARTS.set(1 if _has_gpu() else number)
    try:
        yield
    finally:
        _PARTS.reset(token)


def side_by_side(network: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
    """Return network(inputs), computed in equal parts of the batch that run at the same time; [B, ...] -> [B,
    ...].

    The whole batch runs at once outside of training, and where its size is unknown or does not divide. Not
    for a network whose answer for one example depends on the others, as batch normalisation's does.
    """
    number = _PARTS.get()
    if number == 1 or inputs.shape[0] is None or inputs.shape[0] % number:
        return network(inputs)
    return tf.concat([network(part) for part in tf.split(inputs, number)], axis=0)


def in_use() -> bool:
    """Return whether this process has run an operation, whose threads a fork of it would lack."""
    found = context.context_safe()
    return found is not None and bool(found._initialized)


def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))
