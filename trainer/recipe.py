"""How a variant is trained: optimizer, batch size, and a budget for each profile."""

import dataclasses
from collections.abc import Mapping
from typing import Any

PROFILES = {
    "smoke": "seconds; for tests of the line itself, not of the models",
    "quick": "up to about a minute of training a variant on 2 cores",
    "full": "the budget of the variant's source or paper",
}

PROTOCOLS = {
    "threshold": "pixel > 127 is 1, else 0",
    "stochastic": "one fixed Bernoulli sample of each image",
    "dynamic": "a new Bernoulli sample every training step, a fixed one in evaluation",
    "grey": "no binarization",
}

IMPORTANCE_SAMPLES = {"smoke": 2, "quick": 5, "full": 50}
"""K of the importance-weighted bound in evaluation, by profile."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """A value for each profile."""

    smoke: float
    quick: float
    full: float

    def of(self, profile: str) -> float:
        """The value for `profile`."""
        return float(getattr(self, profile))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a variant is trained and how good it has to be.

    Attributes:
      steps: optimizer steps, by profile.
      floor: least value of the family's headline metric (elbo in nats per image, or accuracy as a
        fraction) with which a model is blessed at all, by profile.
      optimizer: adam, rmsprop or sgd.
      learning_rate: of the optimizer.
      batch_size: images a step.
    """

    steps: Budget
    floor: Budget
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def with_overrides(self, values: Mapping[str, Any]) -> "Recipe":
        """This recipe with some fields replaced; `steps` or `floor` as a number holds for every profile."""
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"a recipe has no {', '.join(unknown)}; it takes {', '.join(known)}")
        budgets = {k: Budget(v, v, v) for k, v in values.items() if k in ("steps", "floor")}
        return dataclasses.replace(self, **{**values, **budgets})
