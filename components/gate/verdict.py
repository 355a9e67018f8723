"""The verdict on one candidate: against production, and against the era's earlier nights."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from components.gate.history import Level
from components.gate.noise import Array, Noise

LEVEL = 0.005
"""Chance that either comparison refuses a candidate that is as good as those before it."""

WARNING_LEVEL = 0.02
"""Chance that a home with equally good candidates warns on a night, whatever its number of variants."""

NO_VARIANCE = 1e-30
"""Least variance of a difference: without any noise every loss is very many standard deviations."""

POWER = 0.99
"""Chance with which the loss called detectable is refused."""


class Difference(NamedTuple):
    """A mean paired difference over a test split.

    mean: candidate minus the other model, [...]. variance: of `mean`, its squared standard error, [...].
    freedom: degrees of freedom of `variance`, inf where it is known.
    """

    mean: Array
    variance: Array
    freedom: Array


class Verdict(NamedTuple):
    """What the gate says of a candidate.

    chance: of a result this bad or worse from a candidate as good as those before it, over both comparisons
    (twice the smaller one), [...]. refused: whether that is below the level, or not a number. detectable:
    loss that would be refused with probability POWER, [...]. sigma: standard deviation of the comparison that
    `detectable` belongs to, [...]. against_level: whether the era's level, not production, gave `chance`.
    """

    chance: Array
    refused: npt.NDArray[np.bool_]
    detectable: Array
    sigma: Array
    against_level: npt.NDArray[np.bool_]


def verdict(
    gain: Difference,
    score: Difference | None,
    level: Level,
    noise: Noise,
    alpha: float = LEVEL,
    correlation: float | Array = 0.0,
) -> Verdict:
    """Compare a candidate with production and with the level of the era's earlier nights.

    gain: candidate minus production. score: candidate minus anchor, None where the era has no anchor.
    level: of the earlier nights, clipped. noise: of one training. alpha: one-sided level of each comparison.
    correlation: of the trainings of successive nights, which makes the level known less well.

    Production holds the luck of one training, so that a gain has the variance 2 s**2 + se**2. Past nights
    average out, so that a score has (s**2 + se**2)(1 + 1/n) around the mean of n nights: the second
    comparison finds smaller losses, the first one is there from the first night.
    """
    production = _test(gain, 2.0, gain.variance, noise, alpha)
    if score is None:
        chance, sigma, detectable = production
        against = np.zeros(chance.shape, np.bool_)
    else:
        nights = np.maximum(level.nights, 1)
        longrun = (1 + correlation) / (1 - correlation)
        shifted = score._replace(mean=score.mean - level.mean)
        test = score.variance + level.test_variance
        of_level = _test(shifted, 1 + longrun / nights, test, noise, alpha)
        absent = level.nights == 0
        chances = np.where(absent, np.inf, of_level.chance)
        against = chances < production.chance
        chance = np.where(np.isnan(chances), np.nan, np.minimum(chances, production.chance))
        better = ~absent & (of_level.detectable < production.detectable)
        sigma, detectable = (
            np.where(better, one, other) for one, other in zip(of_level[1:], production[1:], strict=True)
        )
    refused = ~(chance >= alpha)
    return Verdict(np.minimum(2 * chance, 1.0), refused, detectable, sigma, against)


class _Tested(NamedTuple):
    chance: Array
    sigma: Array
    detectable: Array


def _test(
    difference: Difference, trainings: float | Array, test: Array, noise: Noise, alpha: float
) -> _Tested:
    """One-sided test that a difference is below 0, of variance `trainings` s**2 + `test`.

    The degrees of freedom of the sum are Satterthwaite's.
    """
    training = trainings * noise.variance
    variance = np.maximum(training + test, NO_VARIANCE)
    uncertainty = training**2 / noise.freedom + test**2 / difference.freedom
    freedom = variance**2 / np.maximum(uncertainty, 1e-9 * variance**2)
    sigma = np.sqrt(variance)
    chance = special.stdtr(freedom, difference.mean / sigma)
    quantile = -special.stdtrit(freedom, alpha)
    return _Tested(chance, sigma, (quantile + special.ndtri(POWER)) * sigma)


def warnings(chances: Array, level: float = WARNING_LEVEL) -> npt.NDArray[np.bool_]:
    """Return which variants of a run are worse than what chance does among so many. Holm 1979.

    chances: `Verdict.chance` of every variant of the run, refused or not, [..., V]; nan counts as 0. Of
    equally good candidates, some variant is named on a share of nights of at most `level`.
    """
    known = np.nan_to_num(chances, nan=0.0)
    order = np.argsort(known, axis=-1)
    variants = known.shape[-1]
    passed = np.take_along_axis(known, order, -1) <= level / (variants - np.arange(variants))
    named = np.zeros(known.shape, np.bool_)
    np.put_along_axis(named, order, np.logical_and.accumulate(passed, axis=-1), -1)
    return named
