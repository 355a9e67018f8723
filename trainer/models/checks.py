"""The checks that a Config makes of itself; messages say what was found and what was expected."""

from collections.abc import Collection
from typing import Any

OBJECTIVES = ("elbo", "source")
"""Training objectives of variants that correct their source: the bound, or the published objective."""

ESTIMATORS = ("analytic", "sampled")
"""Estimators of a Gaussian rate: the exact KL, or one sample of it."""


def one_of(field: str, value: Any, choices: Collection[Any]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(map(str, choices))}, got {value!r}")


def at_least(least: float, **fields: float) -> None:
    """Raise ValueError unless every field is at least `least`."""
    for field, value in fields.items():
        if not value >= least:
            raise ValueError(f"{field} must be at least {least:g}, got {value}")


def widths(field: str, value: Collection[int]) -> None:
    """Raise ValueError unless `value` is one or more layer widths of at least one unit."""
    if not value or any(units < 1 for units in value):
        raise ValueError(f"{field} must be one or more layer widths of at least 1 unit, got {value!r}")
