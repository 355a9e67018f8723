"""The alarm for slow decline: the newest nights of an era against all earlier ones."""

import math

import numpy as np

from components.gate.history import History
from components.gate.noise import Array, Noise
from components.gate.verdict import NO_VARIANCE

WINDOWS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 22, 30, 45, 60)
"""How many of the newest nights are compared with all earlier ones, each in turn."""

EARLIER = 5
"""Least number of earlier nights: before, the alarm is not armed."""

THRESHOLD_OF_ONE = 3.3
THRESHOLD_GROWTH = 1.9
"""The threshold for V variants is sqrt(THRESHOLD_OF_ONE**2 + THRESHOLD_GROWTH * log V)."""

KNOWN = 1e6
"""Degrees of freedom from which a variance counts as known."""


def threshold(variants: int) -> float:
    """Return the z at which a home of so many variants raises an alarm: 3.3 for one, 4.0 for sixteen.

    The tail of a normal distribution falls as exp(-z**2 / 2), so that its square grows with the logarithm of
    the number of variants, for fewer than one false alarm in two years in the whole home.
    """
    if variants < 1:
        raise ValueError(f"a home has at least 1 variant, got {variants}")
    return math.sqrt(THRESHOLD_OF_ONE**2 + THRESHOLD_GROWTH * math.log(variants))


def statistic(history: History, noise: Noise, correlation: float | Array = 0.0) -> Array:
    """Return the largest z over WINDOWS by which the newest nights lie below all earlier ones, [...].

    -inf where fewer than EARLIER earlier nights are known. Arguments as of `by_window`.
    """
    return by_window(history, noise, correlation).max(axis=-1)


def newest(history: History, noise: Noise, correlation: float | Array = 0.0) -> int:
    """Return how many of the newest nights of one variant lie furthest below all earlier ones."""
    return WINDOWS[int(by_window(history, noise, correlation).argmax(axis=-1))]


def by_window(history: History, noise: Noise, correlation: float | Array = 0.0) -> Array:
    """Return the z by which the newest nights lie below all earlier ones, [..., len(WINDOWS)].

    -inf where fewer than EARLIER earlier nights are known. noise: of one training, [...]. z is what a normal
    deviate as improbable as the loss would be, given how well the noise is known. correlation: of the
    trainings of successive nights; the mean of n nights then has the long-run variance
    s**2 (1 + correlation) / (1 - correlation) / n.
    """
    longrun = noise.variance * (1 + correlation) / (1 - correlation)
    kept = np.isfinite(history.clipped).sum(axis=-1)
    scores = np.cumsum(np.nan_to_num(history.clipped[..., ::-1]), axis=-1)
    tests = np.cumsum(np.nan_to_num(history.test_variances[..., ::-1]), axis=-1)
    found = []
    for length in WINDOWS:
        earlier = np.maximum(history.nights - length, 1)
        new, new_test = scores[..., length - 1], tests[..., length - 1]
        loss = (history.total - new) / earlier - new / length
        training = longrun * (1 / length + 1 / earlier)
        test = new_test / length**2 + (history.total_test_variance - new_test) / earlier**2
        variance = np.maximum(training + test, NO_VARIANCE)
        freedom = noise.freedom * (variance / np.maximum(training, NO_VARIANCE)) ** 2
        z = normal_deviate(loss / np.sqrt(variance), np.minimum(freedom, KNOWN))
        armed = (history.nights - length >= EARLIER) & (kept >= length)
        found.append(np.where(armed, z, -np.inf))
    return np.stack(found, axis=-1)


def normal_deviate(t: Array, freedom: Array) -> Array:
    """Return the normal deviate that is as improbable as Student's t, to 1 %. Wallace 1959.

    Closed form, since Student's distribution function is too small at 5 standard deviations to be inverted
    without loss and too slow for 13 windows of thousands of simulated nights.
    """
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return np.sign(t) * scale * np.sqrt(freedom * np.log1p(t**2 / freedom))
