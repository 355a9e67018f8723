import math

import numpy as np
import pytest
from scipy import stats

from components.gate import alarm
from components.gate.history import History
from components.gate.noise import Noise

RNG = np.random.default_rng(17)


def known(variance: float) -> Noise:
    return Noise(np.asarray(variance), np.asarray(math.inf), np.asarray(False))


def lived(scores: np.ndarray, tests: np.ndarray) -> History:
    history = History.empty(*scores.shape[:-1])
    for night in range(scores.shape[-1]):
        history = history.with_night(scores[..., night], tests[night], np.asarray(1e6))  # nothing is clipped
    return history


@pytest.mark.parametrize("nights", [6, 20, 64, 90])
def test_the_statistic_is_the_largest_z_of_all_windows(nights: int) -> None:
    scores, tests = RNG.standard_normal(nights), RNG.uniform(0.1, 0.5, nights)
    by_hand = []
    for length in alarm.WINDOWS:
        if nights - length >= alarm.EARLIER:
            old, new = scores[:-length], scores[-length:]
            variance = (0.7 / len(old) + tests[:-length].sum() / len(old) ** 2) + (
                0.7 / length + tests[-length:].sum() / length**2
            )
            by_hand.append((old.mean() - new.mean()) / math.sqrt(variance))
    assert alarm.statistic(lived(scores, tests), known(0.7)) == pytest.approx(max(by_hand), rel=1e-5)


@pytest.mark.parametrize("nights", range(6))
def test_the_alarm_is_not_armed_before_five_nights_lie_before_the_newest(nights: int) -> None:
    history = lived(np.zeros(nights), np.ones(max(nights, 1)))
    assert alarm.statistic(history, known(1.0)) == -math.inf


def test_the_variance_of_means_of_correlated_nights_is_the_long_run_variance() -> None:
    size, nights, rho = 20_000, 200, 0.6
    luck = RNG.standard_normal(size)
    means = np.zeros(size)
    for _ in range(nights):
        luck = rho * luck + math.sqrt(1 - rho**2) * RNG.standard_normal(size)
        means += luck / nights
    assert means.var() * nights == pytest.approx((1 + rho) / (1 - rho), rel=0.05)
    history = lived(np.array([0.0] * 6 + [-1.0]), np.zeros(7))
    ratio = alarm.statistic(history, known(1.0)) / alarm.statistic(history, known(1.0), rho)
    assert ratio == pytest.approx(2.0)


@pytest.mark.parametrize("freedom", [5, 9, 30, 200])
@pytest.mark.parametrize("t", [-3.0, 0.5, 2.0, 4.0, 5.0])
def test_a_normal_deviate_is_as_improbable_as_students_t(freedom: float, t: float) -> None:
    exact = -stats.norm.ppf(stats.t.sf(t, freedom))
    assert alarm.normal_deviate(np.asarray(t), np.asarray(freedom)) == pytest.approx(exact, rel=0.01)


def test_noise_that_is_known_badly_raises_the_alarm_later() -> None:
    history = lived(np.array([0.0] * 6 + [-4.0]), np.zeros(7))
    badly = known(1.0)._replace(freedom=np.asarray(9.0))
    assert alarm.statistic(history, badly) < alarm.statistic(history, known(1.0))


def test_the_threshold_rises_with_the_number_of_variants() -> None:
    assert alarm.threshold(1) == pytest.approx(3.3)
    assert alarm.threshold(16) == pytest.approx(4.02, abs=0.01)
    one, sixteen = (stats.norm.sf(alarm.threshold(n)) for n in (1, 16))
    assert one / sixteen == pytest.approx(16, rel=0.3)
    with pytest.raises(ValueError, match="at least 1 variant"):
        alarm.threshold(0)


def test_without_any_noise_every_decline_is_an_alarm_and_no_change_is_none() -> None:
    still, fallen = (lived(np.array([0.0] * 6 + [last]), np.zeros(7)) for last in (0.0, -0.01))
    assert alarm.statistic(still, known(0.0)) == 0
    assert alarm.statistic(fallen, known(0.0)) > alarm.threshold(1000)
