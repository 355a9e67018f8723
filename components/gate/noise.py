"""How much one training differs from the next: declared by the recipe, and learned from past nights."""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CEILING = 3.0
"""The estimate is never above this many times the declared value: without it, anything would pass."""

FOREIGN_FACTOR = 2.0
FOREIGN_NIGHTS = 20
"""A value declared for other data or settings counts this many times until so many nights are known."""

QUANTILE = 0.75
NORMAL_QUANTILE = 1.1503493803760079
"""Of |N(0, 1)|: a share of QUANTILE lies below NORMAL_QUANTILE. A quarter of the nights may be nonsense."""

MIN_DIFFERENCES = 5
FREEDOM_PER_DIFFERENCE = 0.5
"""Below MIN_DIFFERENCES the estimate is biased; its variance is that of a chi-square with so many degrees.

Both are measured by simulation in tests/components/gate/test_noise.py.
"""


@dataclasses.dataclass(frozen=True)
class Declared:
    """The noise of training that a recipe declares.

    Attributes:
      value: standard deviation of the headline metric between trainings that differ in their seed only,
        in the metric's unit (nats per image, or accuracy as a fraction). A float or [...].
      seeds: trainings that it was measured with, at least 2.
      foreign: whether it was measured with another data set, protocol, configuration or recipe.
    """

    value: float | Array
    seeds: int
    foreign: bool = False

    def __post_init__(self) -> None:
        if not np.all((np.asarray(self.value) >= 0) & np.isfinite(self.value)):
            raise ValueError(
                f"the declared noise of training must be finite and at least 0, got {self.value}"
            )
        if self.seeds < 2:
            raise ValueError(f"the noise of training needs at least 2 seeds to be measured, got {self.seeds}")


class Noise(NamedTuple):
    """The noise of training as known tonight.

    variance: s**2 of one training, without test noise, [...]. freedom: degrees of freedom of that estimate,
    [...]. above_ceiling: whether the nights differ more than CEILING times the declared value, [...].
    """

    variance: Array
    freedom: Array
    above_ceiling: npt.NDArray[np.bool_]


def estimate(
    scores: Array, test_variances: Array, nights: Array, declared: Declared, correlation: float | Array = 0.0
) -> Noise:
    """Estimate the variance of one training from past nights and the declared value.

    The nights' part comes from successive differences, which a slow trend does not inflate: their
    QUANTILE, as a robust measure of twice the variance, less the test noise. It is pooled with the declared
    variance by degrees of freedom. Those of the nights' part are reduced by the share of test noise, since
    what is left after subtracting a large number is known less well (Satterthwaite 1946).

    scores: candidate minus anchor, [..., N], oldest first, nan where there was no night. test_variances: of
    the scores, squared standard errors, [..., N]. nights: known nights of the era, [...]. correlation: of
    the trainings of successive nights, which makes their differences smaller.
    """
    value = np.asarray(declared.value, np.float64)
    factor = np.where(declared.foreign & (nights < FOREIGN_NIGHTS), FOREIGN_FACTOR, 1.0)
    prior = (factor * value) ** 2
    prior_freedom = float(declared.seeds - 1)

    found, test, known = of_nights(scores, test_variances)
    enough = known >= MIN_DIFFERENCES
    found = found / (1 - correlation)

    training = np.maximum(found * (1 - correlation), prior)
    share = np.divide(training, training + test, out=np.zeros_like(training), where=training > 0)
    freedom = np.where(enough, FREEDOM_PER_DIFFERENCE * known * (1 - correlation) * share**2, 0.0)
    pooled = np.maximum((prior_freedom * prior + freedom * found) / (prior_freedom + freedom), 0.0)

    widest = FOREIGN_FACTOR if declared.foreign else 1.0
    ceiling = (CEILING * widest * value) ** 2
    return Noise(np.minimum(pooled, ceiling), prior_freedom + freedom, pooled > ceiling)


class OfNights(NamedTuple):
    """What the nights alone say of the noise beside that of the test split.

    variance: 0 with fewer than MIN_DIFFERENCES differences; below 0 where the test noise explains more than
    there is, [...]. test: mean squared standard error of the differences' nights, [...]. differences: known
    ones, [...].
    """

    variance: Array
    test: Array
    differences: npt.NDArray[np.int_]


def of_nights(scores: Array, test_variances: Array) -> OfNights:
    """Estimate the variance of a night from successive differences, as in `estimate`."""
    steps = np.diff(scores, axis=-1)
    differences = np.sort(np.abs(steps), axis=-1)  # nan last
    known = np.isfinite(differences).sum(axis=-1)
    total = (_quantile(differences, known) / NORMAL_QUANTILE) ** 2 / 2
    pairs = (test_variances[..., 1:] + test_variances[..., :-1]) / 2
    test = np.where(np.isfinite(steps), pairs, 0.0).sum(axis=-1) / np.maximum(known, 1)
    return OfNights(np.where(known >= MIN_DIFFERENCES, total - test, 0.0), test, known)


def undeclared(scores: Array, test_variances: Array) -> Noise:
    """Estimate the variance of a night from the nights alone, without a ceiling; 0 while they are too few."""
    found, test, known = of_nights(scores, test_variances)
    training = np.maximum(found, 0.0)
    share = np.divide(training, training + test, out=np.zeros_like(training), where=training > 0)
    freedom = np.maximum(FREEDOM_PER_DIFFERENCE * known * share**2, 1.0)
    return Noise(training, freedom, np.zeros(training.shape, np.bool_))


def _quantile(ordered: Array, known: npt.NDArray[np.int_]) -> Array:
    """The QUANTILE of the first `known` of the ordered values, [..., N], [...] -> [...]; 0 for none."""
    if not ordered.shape[-1]:
        return np.zeros(known.shape)
    place = QUANTILE * np.maximum(known - 1, 0)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, np.maximum(known - 1, 0))
    low, high = (np.take_along_axis(ordered, index[..., None], -1)[..., 0] for index in (below, above))
    found = low + (place - below) * (high - low)
    return np.where(known > 0, found, 0.0)
