"""How a variant is trained: optimizer, batch size, and a budget for each profile."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from schemas import strict

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

OPTIMIZERS = ("adam", "rmsprop", "sgd")

IMPORTANCE_SAMPLES = {"smoke": 2, "quick": 5, "full": 50}
"""K of the importance-weighted bound in evaluation, by profile."""

HELD_OUT = 5_000
"""Images at the end of the training split that early stopping judges by."""


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
      batch_size: images a step, over all replicas.
      clip_norm: largest global norm of an update's gradients, above which they are scaled down to it; 0: any.
      skip_non_finite: most steps of a run that may be left out because loss or gradient is not finite; 0: the
        first one stops training. On one device only.
      ema_decay: the model ends with an exponential moving average of its weights with this decay, which
        warms up as (1 + step) / (10 + step); 0: with the weights themselves.
      cores: of the processor, that a step is laid out for (trainer.devices.cores): 1 for steps of less than
        about a millisecond, else 2 or as many as the machine has. Another number rounds differently.
      patience: training stops after this many evaluations without a better bound (or cross-entropy) on the
        last HELD_OUT images of the training split, which it then does not train on, and the model ends with
        the best weights; 0: trains on everything, for all steps.
      jit_compile: compile the step with XLA. It was slower on CPUs wherever measured.
      mixed_precision: let TensorFlow compute in 16 bits where that is safe, weights staying in 32; on CPUs
        that is bfloat16.
    """

    steps: Budget
    floor: Budget
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 128
    clip_norm: float = 0.0
    skip_non_finite: int = 0
    ema_decay: float = 0.0
    cores: int = 1
    patience: int = 0
    jit_compile: bool = False
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for profile in PROFILES:
            steps = self.steps.of(profile)
            if steps < 1 or steps != int(steps):
                raise ValueError(f"steps must be a whole number of at least 1, got {steps:g} for {profile}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.cores < 1:
            raise ValueError(f"cores must be at least 1, got {self.cores}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        for name in ("clip_norm", "skip_non_finite", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def with_overrides(self, values: Mapping[str, Any], at: str = "recipe") -> "Recipe":
        """Return this recipe with some fields replaced.

        `steps` or `floor` as a number holds for every profile. at: path of `values`, for messages.
        Raises ValueError for an unknown field or a wrong value.
        """
        fields = dict(values)
        for name in ("steps", "floor"):
            if name in fields and not isinstance(fields[name], Mapping | Budget):
                number = strict.typed(float, fields[name], f"{at}.{name}")
                fields[name] = Budget(number, number, number)
        typed_fields = strict.typed_fields(type(self), fields, at)
        try:
            return dataclasses.replace(self, **typed_fields)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from error
