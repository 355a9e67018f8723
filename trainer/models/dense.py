"""Keras's Dense layer as one matrix product, however many axes come before the last.

Over more than two axes Keras multiplies a stack of matrices by one matrix, whose gradient is one product per
matrix of the stack and then their sum. Same weights, same result up to rounding.
"""

import keras
import tensorflow as tf


class Dense(keras.layers.Dense):
    """y = activation(x W + b); [..., D] -> [..., units]."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if inputs.shape.rank == 2:
            return super().call(inputs)
        leading = tf.shape(inputs)[:-1]
        flat = super().call(tf.reshape(inputs, [-1, inputs.shape[-1]]))
        return tf.reshape(flat, tf.concat([leading, [self.units]], axis=0))
