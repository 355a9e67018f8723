"""The task of one Trainer node, as it crosses TFX's custom_config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from schemas import strict
from trainer.recipe import PROFILES, PROTOCOLS


@dataclasses.dataclass(frozen=True)
class Job:
    """One variant, trained once.

    Attributes:
      variant: name of a module in trainer/variants.
      dataset: where the images came from, for reports.
      protocol: binarization protocol (trainer.recipe.PROTOCOLS).
      profile: budget of the variant's recipe: smoke, quick or full.
      seed: of weights, batches and noise; same seed, same data, same machine -> same weights.
      config: overrides of the variant's Config, by field name.
      recipe: overrides of the variant's RECIPE, by field name; `steps` as a plain number.
    """

    variant: str
    dataset: str
    protocol: str = "threshold"
    profile: str = "quick"
    seed: int = 0
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {self.protocol!r}; choose from {', '.join(PROTOCOLS)}")
        if self.profile not in PROFILES:
            raise ValueError(f"unknown profile {self.profile!r}; choose from {', '.join(PROFILES)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be between 0 and {2**31 - 1}, got {self.seed}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """Return the job in `values`. Raises ValueError for an unknown field or a wrong value."""
        return strict.from_mapping(cls, values, "job")

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-serialisable values."""
        return dataclasses.asdict(self)
