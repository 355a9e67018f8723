"""Encoders and decoders that several variants share, over images [B, SIDE, SIDE, 1].

Weights are drawn from Keras's global seed; every function returns a new network with its own weights.
"""

from collections.abc import Collection

import tensorflow as tf
from keras import Sequential, layers

from schemas import PIXELS, SIDE
from trainer.models import objectives


def mlp(hidden: Collection[int], outputs: int, activation: str) -> Sequential:
    """Return dense layers [B, any] -> [B, outputs]; `activation` on all but the last, which is linear."""
    return Sequential([*_dense(hidden, activation), layers.Dense(outputs)])


def mlp_encoder(hidden: Collection[int], outputs: int, activation: str) -> Sequential:
    """Return dense layers from images to [B, outputs], which for means and log-variances is 2 D."""
    return Sequential([layers.Flatten(), *_dense(hidden, activation), layers.Dense(outputs)])


def mlp_decoder(hidden: Collection[int], activation: str) -> Sequential:
    """Return dense layers from latents [B, D] to the logits of the pixels, [B, SIDE, SIDE, 1]."""
    return Sequential(
        [*_dense(hidden, activation), layers.Dense(PIXELS), layers.Reshape([SIDE, SIDE, 1])],
    )


def _dense(hidden: Collection[int], activation: str) -> list[layers.Layer]:
    return [layers.Dense(units, activation=activation) for units in hidden]


def halves(parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Split the output of a network into mean and log-variance, [B, 2 D] -> [B, D] each."""
    mean, log_var = tf.split(parameters, 2, axis=-1)
    return mean, log_var


class Sampling(layers.Layer):
    """Standard normal numbers as a sample of N(mean, exp(log_var)), all [B, D]; as a layer of a graph."""

    def call(self, mean: tf.Tensor, log_var: tf.Tensor, standard: tf.Tensor) -> tf.Tensor:
        return objectives.place(standard, mean, log_var)
