"""Classifier with dropout: noise in training, none in evaluation and in the exported model.

Run: latentline run --variants mlp_dropout --profile full
Measured: test accuracy 92.6 % (grey).
Source: the Keras guide for researchers, "Training mode & inference mode": Linear 32, relu, dropout 0.5, and
Linear to the logits. Where the guide passes a `training` flag, a seed is passed here: a model trains when it
has a seed, and the same seed drops the same units.
"""

import dataclasses

from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "classifier"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=1_876, full=1_876),
    floor=Budget(smoke=0.15, quick=0.80, full=0.80),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=64,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The hidden layer and its dropout.

    Attributes:
      hidden: units of the hidden layer.
      rate: fraction of the units that is dropped in training.
    """

    hidden: int = 32
    rate: float = 0.5

    def __post_init__(self) -> None:
        checks.at_least(1, hidden=self.hidden)
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, got {self.rate}")


# The model: only a process that builds it runs the file from here on.
import tensorflow as tf

from schemas import CLASSES, PIXELS
from trainer.models.layers import Dropout, Linear
from trainer.models.model import Classifier


class DropoutMlp(Classifier):
    """Linear, relu, dropout, Linear."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first = Linear(config.hidden)
        self.dropout = Dropout(config.rate)
        self.second = Linear(CLASSES)

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        hidden = tf.nn.relu(self.first(tf.reshape(images, [-1, PIXELS])))
        return self.second(self.dropout(hidden, seed))


def build(config: Config) -> DropoutMlp:
    """Build the network; its layers create their weights at their first call."""
    return DropoutMlp(config)
