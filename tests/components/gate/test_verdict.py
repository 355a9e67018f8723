import math

import numpy as np
import pytest
from scipy import stats

from components.gate.history import Level
from components.gate.noise import Noise
from components.gate.verdict import LEVEL, POWER, Difference, verdict, warnings

RNG = np.random.default_rng(11)
NO_LEVEL = Level(np.asarray(0.0), np.asarray(0.0), np.asarray(0.0))


def known(variance: float, freedom: float = math.inf) -> Noise:
    return Noise(np.asarray(variance), np.asarray(freedom), np.asarray(False))


def difference(mean: object, variance: float, freedom: float = math.inf) -> Difference:
    return Difference(np.asarray(mean, np.float64), np.asarray(variance), np.asarray(freedom))


@pytest.mark.parametrize("mean", [-3.0, -0.5, 0.0, 2.0])
def test_a_gain_over_production_has_twice_the_variance_of_one_training(mean: float) -> None:
    found = verdict(difference(mean, 0.49), None, NO_LEVEL, known(0.25))
    assert found.chance == pytest.approx(min(2 * stats.norm.cdf(mean / math.sqrt(0.5 + 0.49)), 1), rel=1e-4)


@pytest.mark.parametrize("nights", [1, 5, 40])
def test_a_score_has_the_variance_of_one_night_around_the_mean_of_the_others(nights: int) -> None:
    level = Level(np.asarray(0.3), np.asarray(float(nights)), np.asarray(0.49 / nights))
    found = verdict(difference(0.0, 0.49), difference(-2.0, 0.49), level, known(0.25))
    expected = stats.norm.cdf(-2.3 / math.sqrt((0.25 + 0.49) * (1 + 1 / nights)))
    assert found.chance == pytest.approx(2 * expected, rel=1e-4)
    assert found.against_level


def test_without_test_noise_the_quantile_is_students_for_the_trainings_that_were_declared() -> None:
    bound = stats.t.ppf(LEVEL, 9) * math.sqrt(2 * 0.25)
    above, below = (difference(bound + step, 0.0) for step in (1e-6, -1e-6))
    assert not verdict(above, None, NO_LEVEL, known(0.25, 9)).refused
    assert verdict(below, None, NO_LEVEL, known(0.25, 9)).refused


def test_the_degrees_of_freedom_of_a_sum_are_satterthwaites() -> None:
    found = verdict(difference(-1.0, 0.3, 99), None, NO_LEVEL, known(0.25, 9))
    freedom = 0.8**2 / (0.5**2 / 9 + 0.3**2 / 99)
    assert found.chance == pytest.approx(2 * stats.t.cdf(-1 / math.sqrt(0.8), freedom), rel=1e-9)


def test_equal_candidates_are_refused_as_often_as_the_level_says_though_the_noise_is_estimated() -> None:
    size = 400_000
    noise = Noise(RNG.chisquare(9, size) / 9, np.full(size, 9.0), np.zeros(size, bool))
    gain = Difference(math.sqrt(2) * RNG.standard_normal(size), np.zeros(size), np.full(size, 99.0))
    refused = verdict(gain, None, NO_LEVEL, noise).refused.mean()
    assert refused == pytest.approx(LEVEL, abs=4 * math.sqrt(LEVEL / size))


@pytest.mark.parametrize("nights", [0, 1, 30])
def test_the_detectable_loss_is_refused_as_often_as_it_says(nights: int) -> None:
    size = 200_000
    level = Level(np.asarray(0.0), np.asarray(float(nights)), np.asarray(0.0))
    ideal = verdict(difference(0.0, 0.49), difference(0.0, 0.49), level, known(0.25))
    errors = RNG.standard_normal((3, size)) * np.array([[0.5], [0.5], [0.7]])
    against_level = RNG.standard_normal(size) * 0.5 / math.sqrt(max(nights, 1))
    gain = errors[0] - errors[1] + errors[2] - ideal.detectable
    score = errors[0] - against_level + errors[2] - ideal.detectable
    refused = verdict(difference(gain, 0.49), difference(score, 0.49), level, known(0.25)).refused
    assert POWER - 0.002 <= refused.mean() <= 0.9995


@pytest.mark.parametrize("mean", [math.nan, -math.inf])
def test_a_score_that_is_not_a_number_is_refused(mean: float) -> None:
    level = Level(np.asarray(0.0), np.asarray(9.0), np.asarray(0.0))
    bad, good = difference(mean, 1.0), difference(1.0, 1.0)
    assert verdict(bad, None, NO_LEVEL, known(1.0)).refused
    assert verdict(good, bad, level, known(1.0)).refused
    assert verdict(bad, good, level, known(1.0)).refused


def test_an_unknown_variance_of_the_test_is_not_taken_for_proof() -> None:
    assert not verdict(difference(-1.0, math.nan), None, NO_LEVEL, known(1.0)).chance >= LEVEL


def test_models_that_are_identical_on_noiseless_nights_are_accepted_and_any_loss_is_refused() -> None:
    assert not verdict(difference(0.0, 0.0), None, NO_LEVEL, known(0.0)).refused
    assert verdict(difference(-1e-6, 0.0), None, NO_LEVEL, known(0.0)).refused


def by_hand(chances: list[float], level: float) -> list[bool]:
    """Holm's procedure as in a textbook: reject the smallest while it is below level / (remaining)."""
    left = dict(enumerate(chances))
    found = [False] * len(chances)
    while left:
        index = min(left, key=left.__getitem__)
        if left[index] > level / len(left):
            break
        found[index] = True
        del left[index]
    return found


def test_warnings_are_those_of_holms_procedure() -> None:
    for chances in RNG.random((500, 6)) ** 6:
        assert list(warnings(chances, 0.02)) == by_hand(list(chances), 0.02)


@pytest.mark.parametrize("variants", [1, 2, 16])
def test_equal_variants_warn_on_no_more_nights_than_the_level_says(variants: int) -> None:
    nights = 50_000
    share = warnings(RNG.random((nights, variants)), 0.02).any(axis=-1).mean()
    assert share <= 0.02 + 3 * math.sqrt(0.02 / nights)


def test_a_chance_that_is_not_a_number_is_a_warning() -> None:
    assert list(warnings(np.array([math.nan, 0.5]))) == [True, False]
