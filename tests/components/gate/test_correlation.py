import numpy as np
import pytest

from components.gate import correlation
from components.gate.correlation import ASSUMED, ASSUMED_NIGHTS, MIN_NIGHTS
from components.gate.history import History

RNG = np.random.default_rng(23)


def lived(linked: float, nights: int, error: float = 0.0, fall: float = 0.0, size: int = 4_000) -> History:
    """Nights of trainings with standard deviation 1 that follow each other as AR(1) with this correlation."""
    luck, history = RNG.standard_normal(size), History.empty(size)
    for night in range(nights):
        luck = linked * luck + np.sqrt(1 - linked**2) * RNG.standard_normal(size)
        score = luck - fall * night + error * RNG.standard_normal(size)
        history = history.with_night(score, np.full(size, error**2), np.full(size, 1e6))  # nothing is clipped
    return history


def pooled(linked: float, nights: float) -> float:
    """What the estimate is for a correlation that is known from so many nights."""
    return (ASSUMED_NIGHTS * ASSUMED + nights * linked) / (ASSUMED_NIGHTS + nights)


@pytest.mark.parametrize("fall", [0.0, 0.05])
@pytest.mark.parametrize("linked", [0.3, 0.6])
def test_a_known_correlation_is_found_as_far_as_sixty_nights_outweigh_what_is_assumed(
    linked: float, fall: float
) -> None:
    found = correlation.of_nights(lived(linked, 60, fall=fall))
    assert found.mean() == pytest.approx(pooled(linked, 60), abs=0.03)


def test_test_noise_does_not_pass_for_a_lower_correlation() -> None:
    quiet, noisy = (correlation.of_nights(lived(0.6, 60, error=error)) for error in (0.0, 0.4))
    assert noisy.mean() == pytest.approx(quiet.mean(), abs=0.03)


def test_nights_that_are_mostly_test_noise_hardly_count() -> None:
    found = correlation.of_nights(lived(0.0, 60, error=3.0))
    assert found.mean() == pytest.approx(ASSUMED, abs=0.06)


@pytest.mark.parametrize("nights", [0, 1, 2, MIN_NIGHTS - 1])
def test_under_thirty_nights_the_assumed_correlation_counts_alone(nights: int) -> None:
    assert np.all(correlation.of_nights(lived(0.0, nights, size=50)) == pytest.approx(ASSUMED))


def test_where_trainings_begin_anew_nothing_is_estimated() -> None:
    assert np.all(correlation.of_nights(lived(0.9, 60, size=50), assumed=0.0) == 0)


def test_the_variance_of_means_of_nights_is_nearer_to_the_true_one_than_that_of_the_assumed_correlation() -> (
    None
):
    def longrun(linked: np.ndarray) -> np.ndarray:
        return (1 + linked) / (1 - linked)

    for linked in (0.2, 0.8):
        found = np.median(longrun(correlation.of_nights(lived(linked, 60))))
        true, assumed = longrun(np.array([linked, ASSUMED]))
        assert abs(found - true) < 0.85 * abs(assumed - true)
