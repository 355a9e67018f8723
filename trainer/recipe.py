"""How a variant is trained: optimizer, batch size, and a budget for each profile."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from schemas import strict

PROFILES = {
    "smoke": "seconds; tests the pipeline, not the models",
    "quick": "up to about a minute of training per variant on 2 cores",
    "full": "the budget of the variant's source or paper",
}

PROTOCOLS = {
    "threshold": "pixel > 127 is 1, else 0",
    "stochastic": "one fixed Bernoulli sample of each image",
    "dynamic": "a new Bernoulli sample in every training step, a fixed one in evaluation",
    "grey": "no binarization",
}

OPTIMIZERS = ("adam", "rmsprop", "sgd")
DECAYS = ("constant", "cosine")

IMPORTANCE_SAMPLES = {"smoke": 2, "quick": 5, "full": 50}
"""K of the importance-weighted bound in evaluation, by profile."""

REMOVED = {
    "patience": "early stopping was removed in 0.2; set `steps` to the number of steps to train for",
    "skip_non_finite": "skipping non-finite steps was removed in 0.2; set `clip_norm` or a smaller "
    "`learning_rate` instead",
}
"""Fields of 0.1 -> what to do without them."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """A value for each profile."""

    smoke: float
    quick: float
    full: float

    def of(self, profile: str) -> float:
        """Return the value for `profile`."""
        return float(getattr(self, profile))


NOTHING = Budget(smoke=0.0, quick=0.0, full=0.0)
ONE_IF_TRAINED = Budget(smoke=0.0, quick=1.0, full=1.0)
BUDGETS = ("steps", "floor", "min_active_units", "min_codes", "max_detectable_loss")
"""Fields of a Recipe that have a value for each profile."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a variant is trained, and the least metric with which it is blessed.

    Attributes:
      steps: optimizer steps, by profile.
      floor: least value of the family's headline metric (`elbo` in nats per image, or `accuracy` as a
        fraction) with which a model is blessed, by profile.
      min_active_units: least number of active latent units of a generative model, by profile; 0 for any.
      min_codes: least perplexity of a codebook's use, by profile; 0 for any.
      max_detectable_loss: of the headline metric, by profile: a WARNING says when a night's test split is so
        small, or trainings differ so much, that a loss below this would not surely be refused; 0 for any.
      optimizer: adam, rmsprop or sgd.
      learning_rate: of the optimizer.
      warm_up: steps over which the learning rate rises linearly to `learning_rate`; 0 for none.
      decay: of the learning rate after its warm-up, until the last step: `constant` or `cosine` (to zero).
      kl_warm_up: steps over which the weight of a generative model's rate in its loss rises to 1; 0 for none.
      batch_size: images per step, over all replicas.
      clip_norm: largest global norm of an update's gradients, which are scaled down to it; 0 for no limit.
      ema_decay: decay of the exponential moving average of the weights that the model ends with, warmed up
        as (1 + step) / (10 + step); 0 for the weights themselves.
      cores: processor cores that a step is laid out for (trainer.devices.cores): 1 for steps of less than
        about a millisecond, else 2 or as many as the machine has. Another number rounds differently.
      jit_compile: whether to compile the step with XLA, which was slower on CPUs wherever measured.
      mixed_precision: whether TensorFlow computes in 16 bits where that is safe, with weights in 32; on CPUs
        that is bfloat16.
    """

    steps: Budget
    floor: Budget
    min_active_units: Budget = ONE_IF_TRAINED
    min_codes: Budget = NOTHING
    max_detectable_loss: Budget = NOTHING
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    warm_up: int = 0
    decay: str = "constant"
    kl_warm_up: int = 0
    batch_size: int = 128
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    cores: int = 1
    jit_compile: bool = False
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for profile in PROFILES:
            steps = self.steps.of(profile)
            if steps < 1 or steps != int(steps):
                raise ValueError(f"steps must be a whole number of at least 1, got {steps:g} for {profile}")
            if self.max_detectable_loss.of(profile) < 0:
                raise ValueError(
                    "max_detectable_loss must be at least 0, 0 for any, got "
                    f"{self.max_detectable_loss.of(profile):g} for {profile}"
                )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {', '.join(DECAYS)}, got {self.decay!r}")
        for name in ("warm_up", "kl_warm_up"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0 steps, got {getattr(self, name)}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.cores < 1:
            raise ValueError(f"cores must be at least 1, got {self.cores}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm must be at least 0, got {self.clip_norm}")

    def resolved(self, profile: str) -> dict[str, Any]:
        """Return every field with its value under `profile`, JSON-serialisable."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.of(profile) if isinstance(value, Budget) else value for name, value in values.items()
        }

    def with_overrides(self, values: Mapping[str, Any], at: str = "recipe") -> "Recipe":
        """Return this recipe with some fields replaced.

        A budget given as a number holds for every profile. at: path of `values`, for messages.
        Raises ValueError for an unknown field or a wrong value.
        """
        for name in values:
            if name in REMOVED:
                raise ValueError(f"{at}.{name}: {REMOVED[name]}")
        fields = dict(values)
        for name in BUDGETS:
            if name in fields and not isinstance(fields[name], Mapping | Budget):
                number = strict.typed(float, fields[name], f"{at}.{name}")
                fields[name] = Budget(number, number, number)
        typed_fields = strict.typed_fields(type(self), fields, at)
        try:
            return dataclasses.replace(self, **typed_fields)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from error
