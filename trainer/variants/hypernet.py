"""The guide's hypernetwork: a small network makes the weights of a 784-64-10 classifier, anew for each image.

Run: latentline run --variants hypernet --profile full
Measured: mean loss over the 1,000 steps 1.54 ± 0.06 nats (published 1.54, 1.62), test accuracy 65 % (grey).
Source: the Keras guide for researchers, "End-to-end experiment example 2: hypernetworks": 784-16(relu)-50890
(sigmoid), Adam 1e-4, batches of one image, 1,000 steps.

This variant is kept as published, with its flaw: the sigmoid makes every generated weight positive, so that
the relu of the hidden layer never gates and the classifier is linear in its hidden layer. hypernet_scaled is
the fixed form.
"""

import dataclasses
import math

from schemas import CLASSES, PIXELS
from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "classifier"

RECIPE = Recipe(
    steps=Budget(smoke=40, quick=1_000, full=1_000),
    floor=Budget(smoke=0.05, quick=0.30, full=0.30),
    optimizer="adam",
    learning_rate=1e-4,
    batch_size=1,
    cores=2,
)

EVALUATED_AT_ONCE = 64
"""Images whose weights exist at the same time in evaluation; 200 kB each at 64 hidden units."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The generator and the classifier that it generates.

    Attributes:
      embedding: units of the generator's hidden layer.
      hidden: units of the generated classifier's hidden layer.
    """

    embedding: int = 16
    hidden: int = 64

    def __post_init__(self) -> None:
        checks.at_least(1, embedding=self.embedding, hidden=self.hidden)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the generated tensors, in the order in which the generator puts them out."""
        return ((PIXELS, self.hidden), (self.hidden,), (self.hidden, CLASSES), (CLASSES,))


# The model: only a process that builds it runs the file from here on.
import tensorflow as tf
from keras import Sequential, layers

from trainer.models.model import Hypernetwork


class Hypernet(Hypernetwork):
    """logits(x) = relu(x W1(x) + b1(x)) W2(x) + b2(x), where (W1, b1, W2, b2)(x) = generator(x)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.generator = Sequential(
            [
                layers.Dense(config.embedding, activation="relu"),
                layers.Dense(sum(math.prod(shape) for shape in config.shapes), activation="sigmoid"),
            ]
        )

    def generated(self, flat: tf.Tensor) -> list[tf.Tensor]:
        """Return each image's own weights: [B, PIXELS] -> [B, *shape] for each of the shapes."""
        sizes = [math.prod(shape) for shape in self.config.shapes]
        parts = tf.split(self.generator(flat), sizes, axis=-1)
        return [tf.reshape(part, [-1, *shape]) for part, shape in zip(parts, self.config.shapes, strict=True)]

    def first_kernel(self, images: tf.Tensor) -> tf.Tensor:
        return self.generated(tf.reshape(images, [-1, PIXELS]))[0]

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Return the logits; without a seed (evaluation) for EVALUATED_AT_ONCE images at a time."""
        flat = tf.reshape(images, [-1, PIXELS])
        if seed is not None:
            return self._classify(flat)
        count = tf.shape(flat)[0]
        rows = tf.maximum(count, 1)
        size = tf.minimum(rows, EVALUATED_AT_ONCE)
        padded = tf.pad(flat, [[0, rows - count + -rows % size], [0, 0]])
        groups = tf.reshape(padded, [-1, size, PIXELS])
        logits = tf.map_fn(
            self._classify,
            groups,
            parallel_iterations=1,
            fn_output_signature=tf.TensorSpec([None, CLASSES], tf.float32),
        )
        return tf.reshape(logits, [-1, CLASSES])[:count]

    def _classify(self, flat: tf.Tensor) -> tf.Tensor:
        """Classify each image with its own weights in batched products, [B, PIXELS] -> [B, CLASSES]."""
        kernel1, bias1, kernel2, bias2 = self.generated(flat)
        hidden = tf.nn.relu(tf.linalg.matvec(kernel1, flat, transpose_a=True) + bias1)
        return tf.linalg.matvec(kernel2, hidden, transpose_a=True) + bias2


def build(config: Config) -> Hypernet:
    """Build the hypernetwork; its layers create their weights at their first call."""
    return Hypernet(config)
