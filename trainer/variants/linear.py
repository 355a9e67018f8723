"""Logistic regression from a hand-written linear layer: the guide's first model.

Run: latentline run --variants linear --profile full
Measured: loss 1.64 ± 0.03 nats at step 900 (published 1.63 to 1.70), test accuracy 65 % (grey).
Source: the Keras guide for researchers, "Layer gradients": one epoch of plain gradient descent.
"""

import dataclasses

from trainer.recipe import Budget, Recipe

FAMILY = "classifier"

RECIPE = Recipe(
    steps=Budget(smoke=400, quick=938, full=938),
    floor=Budget(smoke=0.12, quick=0.50, full=0.50),
    optimizer="sgd",
    learning_rate=1e-3,
    batch_size=64,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """No choices: the model has no hidden layer."""


# The model: only a process that builds it runs the file from here on.
import tensorflow as tf

from schemas import CLASSES, PIXELS
from trainer.models.layers import Linear
from trainer.models.model import Classifier


class LinearClassifier(Classifier):
    """logits = x W + b."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(CLASSES)

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        return self.linear(tf.reshape(images, [-1, PIXELS]))


def build(config: Config) -> LinearClassifier:
    """Build the layer; it creates its weights at its first call."""
    return LinearClassifier()
