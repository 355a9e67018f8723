"""Everything that training changes, in one place: what a checkpoint holds and what a resumed run restores."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.loop import optimizers
from trainer.models.model import Model, Phase
from trainer.recipe import Recipe

VARIABLE = "variable_{:04d}"


class TrainState:
    """A model's variables, the slots of its optimizers, and the running averages of its weights.

    Create it in the scope of the run's strategy, after the model has all its variables. steps: of the whole
    run, over which the learning rate decays.

    Attributes:
      model: whose variables they are.
      optimizers: one per phase, in the order of the phases.
    """

    def __init__(self, model: Model, phases: list[Phase], recipe: Recipe, steps: int) -> None:
        self.model, self._decay = model, recipe.ema_decay
        self.optimizers = [optimizers.make(recipe.optimizer, _rate(recipe, steps)) for _ in phases]
        for phase, optimizer in zip(phases, self.optimizers, strict=True):
            optimizer._create_all_weights(phase.variables())  # before tracing, which must create none
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self._weights = model.learned() if recipe.ema_decay else []
        self._averages = [
            tf.Variable(weight.numpy(), trainable=False, aggregation=first) for weight in self._weights
        ]

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the values of all variables, by name."""
        return {VARIABLE.format(i): variable.numpy() for i, variable in enumerate(self._variables())}

    def restore(self, snapshot: Mapping[str, npt.NDArray[Any]]) -> None:
        """Assign the values that `snapshot` returned."""
        for i, variable in enumerate(self._variables()):
            variable.assign(snapshot[VARIABLE.format(i)])

    def update_averages(self, step: tf.Tensor) -> None:
        """Move the averages towards the weights after `step`; the decay warms up as (1 + t) / (10 + t)."""
        if not self._averages:
            return
        steps = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1.0 + steps) / (10.0 + steps))
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign(average + (1.0 - decay) * (weight - average))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model its averaged weights inside the context, where the recipe averages them."""
        own = [weight.numpy() for weight in self._weights]
        self.take_averages()
        try:
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.assign(value)

    def take_averages(self) -> None:
        """Give the model its averaged weights for good, where the recipe averages them."""
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.assign(average.numpy())

    def finite(self) -> bool:
        """Return whether every learned number is finite."""
        return all(np.isfinite(weight.numpy()).all() for weight in self.model.learned())

    def _variables(self) -> list[tf.Variable]:
        slots = [variable for optimizer in self.optimizers for variable in optimizer.variables()]
        return [*self.model.state(), *slots, *self._averages]


def _rate(recipe: Recipe, steps: int) -> float | optimizers.WarmUpAndCosine:
    cosine = recipe.decay == "cosine"
    if not recipe.warm_up and not cosine:
        return recipe.learning_rate
    return optimizers.WarmUpAndCosine(recipe.learning_rate, recipe.warm_up, steps, cosine)
