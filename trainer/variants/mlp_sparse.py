"""Classifier whose hidden activations are penalised, so that an image needs only few of them.

Run: latentline run --variants mlp_sparse --profile full
Measured: loss of `source` 2.320 ± 0.001 nats at step 900 (published 2.31 to 2.32); test accuracy of
`per_example` 94.8 % (grey).
Source: the Keras guide for researchers, "Tracking losses created by layers": Linear 32, relu, an activity
regularisation of rate 1e-2 through add_loss, Linear to the logits; SGD 1e-3, batch 64, one epoch.

Objectives: `source` is the guide's. It adds the activations of the whole batch to the mean cross-entropy, a
penalty 64 times as large as its rate says: the hidden units die, and the loss ends at log 10 = 2.303 nats
plus the rest of the penalty. `per_example`, the default, penalises the sum of an image's own activations.
"""

import dataclasses

from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "classifier"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=1_876, full=1_876),
    floor=Budget(smoke=0.15, quick=0.85, full=0.85),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=64,
)

OBJECTIVES = ("per_example", "source")


@dataclasses.dataclass(frozen=True)
class Config:
    """The hidden layer and its penalty.

    Attributes:
      hidden: units of the hidden layer.
      rate: penalty per unit of activation, in nats.
      objective: `per_example` or `source`.
    """

    hidden: int = 32
    rate: float = 1e-2
    objective: str = "per_example"

    def __post_init__(self) -> None:
        checks.at_least(1, hidden=self.hidden)
        checks.at_least(0, rate=self.rate)
        checks.one_of("objective", self.objective, OBJECTIVES)


# The model: only a process that builds it runs the file from here on.
import tensorflow as tf
from keras import layers

from schemas import CLASSES, PIXELS
from trainer.models.layers import ActivityRegularization, Linear, functional
from trainer.models.model import Batch, Classifier, Objective, correct, cross_entropy


class SparseMlp(Classifier):
    """Linear, relu, penalty and Linear as one functional model whose `losses` hold the penalty."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = functional(
            PIXELS,
            Linear(config.hidden),
            layers.ReLU(),
            ActivityRegularization(config.rate),
            Linear(CLASSES),
        )

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        return self.network(tf.reshape(images, [-1, PIXELS]))

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return the cross-entropy plus the penalty of the whole batch (`source`), or plus its mean."""
        logits = self.logits(batch.images, seed)
        [penalty] = self.network.losses
        if self.config.objective == "per_example":
            penalty /= tf.cast(tf.shape(logits)[0], penalty.dtype)
        loss = cross_entropy(batch.labels, logits)
        terms = {"accuracy": correct(batch.labels, logits), "penalty": tf.fill(tf.shape(loss), penalty)}
        return Objective(loss + penalty, terms)


def build(config: Config) -> SparseMlp:
    """Build the network, with fresh weights."""
    return SparseMlp(config)
