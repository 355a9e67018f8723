"""Plain classifier of the Keras guide: two hidden layers of 32 units.

Run: latentline run --variants mlp --profile full
Source: the Keras guide "Making new layers and models via subclassing".
"""

import dataclasses

import tensorflow as tf
from keras import Sequential, layers

from schemas import CLASSES
from trainer.model import Classifier
from trainer.recipe import Budget, Recipe

FAMILY = "classifier"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=10_000, full=1_875),
    floor=Budget(smoke=0.15, quick=0.80, full=0.85),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=64,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """hidden: units of each hidden layer."""

    hidden: tuple[int, ...] = (32, 32)


class Mlp(Classifier):
    """Dense layers over the flattened image."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden = [layers.Dense(units, activation="relu") for units in config.hidden]
        self.network = Sequential([layers.Flatten(), *hidden, layers.Dense(CLASSES)])

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        return self.network(images)


def build(config: Config) -> Mlp:
    """The network, with fresh weights."""
    return Mlp(config)
