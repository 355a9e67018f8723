"""How far trainings of a variant differ by chance: measured by `make measure-noise`, read by the gate."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence

FILE = pathlib.Path(__file__).with_name("spread.json")
"""The measurements: a list of the fields of Spread."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """One measurement.

    Attributes:
      variant, profile, dataset, protocol: of the trainings, with the variant's own configuration and recipe.
      metric: that differs, elbo in nats per image or accuracy as a fraction.
      value: standard deviation over trainings that differ in their seed only, test split the same.
      seeds: number of trainings.
      command: what measured it.
    """

    variant: str
    profile: str
    dataset: str
    protocol: str
    metric: str
    value: float
    seeds: int
    command: str

    def __post_init__(self) -> None:
        if not self.value >= 0:
            raise ValueError(f"value must be at least 0, got {self.value}")
        if self.seeds < 10:
            raise ValueError(f"a spread is measured with at least 10 seeds, got {self.seeds}")


@functools.cache
def measured() -> tuple[Spread, ...]:
    """Return all measurements. Raises ValueError where FILE is damaged."""
    return tuple(Spread(**each) for each in json.loads(FILE.read_text()))


def as_json(found: Sequence[Spread]) -> str:
    """Return measurements in the form of FILE."""
    return json.dumps([dataclasses.asdict(each) for each in found], indent=1) + "\n"


def write(found: Sequence[Spread]) -> None:
    """Replace FILE by these measurements."""
    FILE.write_text(as_json(found))
    measured.cache_clear()


def of(variant: str, profile: str) -> dict[str, Spread]:
    """Return the measurements of a variant in a profile by metric; empty where there is none."""
    return {each.metric: each for each in measured() if (each.variant, each.profile) == (variant, profile)}
