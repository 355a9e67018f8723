"""The small layers of the Keras guide for researchers, of which its classifiers are composed.

Source: https://keras.io/getting_started/intro_to_keras_for_researchers (F. Chollet).
"""

from typing import Any

import keras
import tensorflow as tf

from trainer.models import noise


class Linear(keras.layers.Layer):
    """y = x W + b; [..., D] -> [..., units], with W and b drawn from N(0, 0.05**2) as in the guide.

    The weights are created in `build`, when the width D of the first input is known.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self.units = units

    def build(self, input_shape: Any) -> None:
        """Create the kernel [D, units] and the bias [units]."""
        self.kernel = self.add_weight(
            shape=[input_shape[-1], self.units], initializer="random_normal", name="kernel"
        )
        self.bias = self.add_weight(shape=[self.units], initializer="random_normal", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, self.kernel) + self.bias

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return [..., units] for [..., D]."""
        return (*input_shape[:-1], self.units)


class ComputeSum(keras.layers.Layer):
    """The sum over the examples of all calls so far, a non-trainable weight; [B, width] -> [width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.total = self.add_weight(shape=[width], initializer="zeros", trainable=False, name="total")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.total.assign_add(tf.reduce_sum(inputs, axis=0))
        return tf.identity(self.total.value)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return [width] for [B, width]."""
        return (input_shape[-1],)


class ActivityRegularization(keras.layers.Layer):
    """The identity, which adds the loss rate * (sum of its inputs, over the batch and all else).

    The loss is in `losses` of this layer, and of those that own it, until the outermost is called again.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if rate < 0:
            raise ValueError(f"rate must be at least 0, got {rate}")
        self.rate = rate

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.add_loss(self.rate * tf.reduce_sum(inputs))
        return inputs


class Dropout(keras.layers.Layer):
    """Zeroes a fraction `rate` of its inputs and scales the others by 1 / (1 - rate), if it is called with a
    seed.

    Without a seed it is the identity, so that a model called without one is deterministic. Srivastava et al.
    2014.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, got {rate}")
        self.rate = rate

    def call(self, inputs: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        if seed is None:
            return inputs
        kept = noise.uniform(tf.shape(inputs), seed) >= self.rate
        return tf.where(kept, inputs / (1.0 - self.rate), 0.0)


def functional(width: int, *layers: keras.layers.Layer) -> keras.Model:
    """Return the layers in sequence as a functional model of [B, width], with all of its weights created."""
    inputs = outputs = keras.Input([width])
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)
