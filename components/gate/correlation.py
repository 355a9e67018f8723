"""How far the trainings of successive nights resemble each other, by warm starts or overlapping spans."""

import numpy as np

from components.gate.history import History
from components.gate.noise import Array

ASSUMED = 0.6
"""Between the trainings of successive nights that start from each other or share most of their data."""

MIN_NIGHTS = 30
"""Nights from which the correlation is estimated; before, ASSUMED counts alone."""

ASSUMED_NIGHTS = 60
"""Nights that ASSUMED counts for beside those that are known, since too low an estimate raises alarms."""

LARGEST = 0.8
"""Largest estimate: a decline of half a standard deviation per night would pass for more."""


def of_nights(history: History, assumed: float = ASSUMED) -> Array:
    """Return the correlation of the trainings of successive nights, [...]; 0 where `assumed` is 0.

    Trainings follow y[t+1] = r y[t] + e. Half the mean squared difference of nights k apart, less the test
    noise, is then s**2 (1 - r**k), so that the ratio for k = 2 and k = 1 is 1 + r. A slow decline, which is
    what the alarm looks for, hardly changes differences; in the covariances of the scores it would pass for
    correlation. The estimate is pooled with `assumed` by nights, of which those count less
    whose differences are mostly test noise.
    """
    known = np.isfinite(history.clipped)
    test = np.where(known, history.test_variances, 0.0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
    near, far = (_half_squared_difference(history.clipped, apart) - test for apart in (1, 2))
    learnt = (history.nights >= MIN_NIGHTS) & (near > 0) & (assumed > 0)
    found = np.clip(np.divide(far, near, out=np.ones_like(near), where=learnt) - 1, 0.0, LARGEST)
    share = np.divide(near, near + test, out=np.zeros_like(near), where=learnt)
    nights = np.where(learnt, known.sum(axis=-1) * share**2, 0.0)
    pooled: Array = (ASSUMED_NIGHTS * assumed + nights * found) / (ASSUMED_NIGHTS + nights)
    return pooled


def _half_squared_difference(scores: Array, apart: int) -> Array:
    """Return half the mean squared difference of nights that lie so far apart, [..., N] -> [...]."""
    differences = scores[..., apart:] - scores[..., :-apart]
    known = np.isfinite(differences)
    squared = np.where(known, differences, 0.0) ** 2
    found: Array = squared.sum(axis=-1) / np.maximum(known.sum(axis=-1), 1) / 2
    return found
