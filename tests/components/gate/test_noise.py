import numpy as np
import pytest

from components.gate import noise
from components.gate.noise import Declared, estimate

RNG = np.random.default_rng(7)
UNKNOWN = Declared(1e3, seeds=2)
"""A declared value whose ceiling is far away."""


def alone(scores: np.ndarray, test: float = 0.0, correlation: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The nights' own estimate and its freedom, solved from what is pooled with UNKNOWN's one degree."""
    found = estimate(
        scores,
        np.full(scores.shape, test),
        np.isfinite(scores).sum(axis=-1),
        UNKNOWN,
        correlation,
    )
    freedom = found.freedom - 1
    return (found.variance * found.freedom - 1e6) / freedom, freedom


@pytest.mark.parametrize("nights", [6, 9, 15, 31, 60])
def test_the_estimate_from_differences_is_unbiased_and_as_uncertain_as_its_freedom_says(nights: int) -> None:
    variance, freedom = alone(RNG.standard_normal((40_000, nights)))
    assert variance.mean() == pytest.approx(1.0, abs=0.03)
    assert 2 * variance.mean() ** 2 / variance.var() == pytest.approx(freedom.mean(), rel=0.12)


def test_a_steady_decline_does_not_inflate_the_noise() -> None:
    scores = RNG.standard_normal((20_000, 60)) - 0.3 * np.arange(60)
    variance, _ = alone(scores)
    assert variance.mean() == pytest.approx(1.0 + 0.3**2 / 2, abs=0.05)


def test_nights_of_nonsense_hardly_inflate_the_noise() -> None:
    scores = RNG.standard_normal((20_000, 60))
    scores[:, [10, 30, 50]] -= 20
    variance, _ = alone(scores)
    assert variance.mean() < 1.5


def test_test_noise_is_subtracted() -> None:
    scores = np.hypot(1.0, 0.7) * RNG.standard_normal((40_000, 60))
    variance, _ = alone(scores, test=0.7**2)
    assert variance.mean() == pytest.approx(1.0, abs=0.03)


def test_successive_trainings_that_are_correlated_do_not_hide_the_noise() -> None:
    fresh = RNG.standard_normal((20_000, 60))
    scores = [fresh[:, 0]]
    for night in range(1, 60):
        scores.append(0.6 * scores[-1] + 0.8 * fresh[:, night])
    variance, _ = alone(np.stack(scores, axis=-1), correlation=0.6)
    assert variance.mean() == pytest.approx(1.0, abs=0.03)


def test_nights_and_declared_value_are_pooled_by_degrees_of_freedom() -> None:
    scores = np.tile([0.0, 1.0], 8)  # 15 differences of 1, all at the same quantile
    mine = (1 / noise.NORMAL_QUANTILE) ** 2 / 2
    found = estimate(scores, np.zeros(16), np.asarray(16), Declared(2.0, seeds=11))
    assert found.freedom == pytest.approx(10 + 7.5)
    assert found.variance == pytest.approx((10 * 4.0 + 7.5 * mine) / 17.5)


def test_before_there_are_enough_nights_the_declared_value_counts_alone() -> None:
    found = estimate(np.full(60, np.nan), np.full(60, np.nan), np.asarray(0), Declared(0.5, seeds=10))
    assert [float(value) for value in found] == [0.25, 9.0, 0.0]


@pytest.mark.parametrize(("nights", "factor"), [(0, 2), (19, 2), (20, 1)])
def test_a_value_declared_for_other_data_is_doubled_until_twenty_nights_are_known(
    nights: int, factor: int
) -> None:
    absent = np.full(60, np.nan)
    found = estimate(absent, absent, np.asarray(nights), Declared(0.5, seeds=10, foreign=True))
    assert found.variance == (factor * 0.5) ** 2


def test_the_estimate_stays_below_its_ceiling_and_says_so() -> None:
    scores = 32.0 * RNG.standard_normal(60)
    found = estimate(scores, np.zeros(60), np.asarray(60), Declared(1.0, seeds=10))
    assert found.variance == 9.0
    assert found.above_ceiling


def test_the_estimate_is_never_negative() -> None:
    found = estimate(np.zeros(60), np.full(60, 25.0), np.asarray(60), Declared(0.0, seeds=10))
    assert found.variance == 0.0


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_declared_value_that_is_no_standard_deviation_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        Declared(value, seeds=10)


def test_one_seed_measures_no_noise() -> None:
    with pytest.raises(ValueError, match="at least 2 seeds"):
        Declared(0.5, seeds=1)
