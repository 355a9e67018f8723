"""Hypernetwork with hyperfan-in initialisation: the weights of a 784-64-10 classifier, anew for each image.

Run: latentline run --variants hypernet_scaled --profile full
Source: the TensorFlow guide's hypernetwork, with the initialisation of Chang et al. 2020 ("Principled Weight
Initialization for Hypernetworks").
"""

import dataclasses
import math

import keras
import tensorflow as tf
from keras import layers

from schemas import CLASSES, PIXELS
from trainer.model import Classifier
from trainer.recipe import Budget, Recipe

FAMILY = "classifier"

RECIPE = Recipe(
    steps=Budget(smoke=40, quick=600, full=4_700),
    floor=Budget(smoke=0.15, quick=0.80, full=0.90),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=128,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """embedding: width of the image's embedding; hidden: hidden units of the generated classifier."""

    embedding: int = 16
    hidden: int = 64

    def __post_init__(self) -> None:
        if self.embedding < 1 or self.hidden < 1:
            raise ValueError(f"embedding and hidden must be at least 1, got {self}")


class ScaledHypernet(Classifier):
    """theta(x) = theta_0 + H e(x): a shared classifier and what each image changes of it.

    e(x) is [B, E]; H has one row a generated number. The generated kernel of the first layer is never laid
    out for a batch (it would be [B, PIXELS, hidden]): x (K_0 + sum_e e_e K_e) = x K_0 + sum_e e_e (x K_e),
    so one matrix product of the images with all K_e, then a weighted sum, gives the same numbers.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed = layers.Dense(config.embedding, activation="relu")
        self.first = GeneratedDense(PIXELS, config.hidden, config.embedding)
        self.second = GeneratedDense(config.hidden, CLASSES, config.embedding)

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        flat = tf.reshape(images, [-1, PIXELS])
        embedding = self.embed(flat)  # [B, E]
        return self.second.apply(tf.nn.relu(self.first.apply(flat, embedding)), embedding)


class GeneratedDense(layers.Layer):
    """A dense layer whose kernel and bias depend linearly on an embedding of the example."""

    def __init__(self, fan_in: int, units: int, embedding: int) -> None:
        super().__init__()
        self.fan_in, self.units, self.embedding = fan_in, units, embedding
        base = keras.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
        # Hyperfan-in: with e of variance about 1 in each of E entries, the generated kernel's variance is
        # E var(H) = 1 / fan_in, that of a kernel drawn directly.
        head = keras.initializers.RandomNormal(stddev=math.sqrt(1.0 / (fan_in * embedding)))
        self.base_kernel = self.add_weight(shape=[fan_in, units], initializer=base, name="base_kernel")
        self.base_bias = self.add_weight(shape=[units], initializer="zeros", name="base_bias")
        self.kernels = self.add_weight(shape=[fan_in, embedding * units], initializer=head, name="kernels")
        self.biases = self.add_weight(shape=[embedding, units], initializer="zeros", name="biases")

    def generated(self, embedding: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The weights made for each example: kernels [B, fan_in, units] and biases [B, units]."""
        kernels = tf.reshape(self.kernels, [self.fan_in, self.embedding, self.units])
        return (
            self.base_kernel + tf.einsum("be,ieo->bio", embedding, kernels),
            self.base_bias + tf.matmul(embedding, self.biases),
        )

    def apply(self, inputs: tf.Tensor, embedding: tf.Tensor) -> tf.Tensor:
        """inputs [B, fan_in], embedding [B, E] -> [B, units], each example through its own weights."""
        products = tf.reshape(tf.matmul(inputs, self.kernels), [-1, self.embedding, self.units])
        changed = tf.reduce_sum(embedding[:, :, None] * products, axis=1)  # [B, units]
        return (
            tf.matmul(inputs, self.base_kernel) + changed + self.base_bias + tf.matmul(embedding, self.biases)
        )


def build(config: Config) -> ScaledHypernet:
    """The hypernetwork, with fresh weights."""
    return ScaledHypernet(config)
