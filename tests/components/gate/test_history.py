import json
import math

import numpy as np
import pytest

from components.gate.history import CLIP, KEPT, History

RNG = np.random.default_rng(13)


def lived(scores: np.ndarray, test: float = 0.25, training: float = 1.0) -> History:
    """The history of these scores, [..., N], one night each."""
    history = History.empty(*scores.shape[:-1])
    for night in range(scores.shape[-1]):
        history = history.with_night(scores[..., night], np.asarray(test), np.asarray(training))
    return history


@pytest.mark.parametrize("nights", [1, 7, KEPT, KEPT + 40])
def test_the_level_is_the_mean_of_all_nights_however_many_are_kept(nights: int) -> None:
    scores = 0.3 * RNG.standard_normal(nights)
    level = lived(scores).level()
    assert level.mean == pytest.approx(scores.mean())
    assert level.nights == nights
    assert level.test_variance == pytest.approx(0.25 / nights)


def test_without_nights_there_is_no_level() -> None:
    level = History.empty().level()
    assert [float(value) for value in level] == [0.0, 0.0, 0.0]


def test_a_night_counts_no_more_than_its_share_of_standard_deviations() -> None:
    history = lived(np.array([0.0] * 9 + [-40.0]))
    assert history.clipped[-1] == pytest.approx(-CLIP * math.sqrt(1.0 * 1.1 + 0.25))
    assert history.scores[-1] == -40.0


def test_a_first_night_of_nonsense_does_not_become_the_level() -> None:
    assert lived(np.array([-40.0])).level().mean == pytest.approx(-CLIP * math.sqrt(2.25))


@pytest.mark.parametrize("score", [math.nan, -math.inf, math.inf])
def test_a_score_that_is_no_number_counts_as_the_lowest_that_a_night_can_have(score: float) -> None:
    assert lived(np.array([0.0, score])).clipped[-1] == lived(np.array([0.0, -99.0])).clipped[-1]


@pytest.mark.parametrize("nights", [0, 3, KEPT + 5])
def test_a_history_comes_back_from_what_is_stored_and_goes_on_alike(nights: int) -> None:
    history = lived(RNG.standard_normal(nights))
    back = History.from_json(json.loads(json.dumps(history.to_json())))
    for one in (history, back):
        again = one.with_night(np.asarray(0.5), np.asarray(0.1), np.asarray(1.0))
        assert again.total == pytest.approx(history.total + 0.5)
    np.testing.assert_array_equal(back.scores, history.scores)
    np.testing.assert_array_equal(back.clipped, history.clipped)


@pytest.mark.parametrize(
    "change",
    [
        {"nights": 1},
        {"scores": [0.1]},
        {"nights": -1},
        {"total": math.nan},
        {"scores": [1.0, math.inf]},
        {"scores": [[1.0, 2.0]]},
        {"unknown": 1},
    ],
)
def test_a_stored_history_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    stored = lived(np.array([0.1, 0.2])).to_json() | change
    with pytest.raises(ValueError, match="the gate's history"):
        History.from_json(stored)


def test_variants_of_a_batch_live_apart_and_begin_new_eras_alone() -> None:
    scores = RNG.standard_normal((2, 30))
    both = lived(scores)
    one = lived(scores[1])
    np.testing.assert_array_equal(both.clipped[1], one.clipped)
    renewed = both.renewed(np.array([True, False]))
    assert list(renewed.nights) == [0, 30]
    np.testing.assert_array_equal(renewed.clipped[1], one.clipped)
    assert np.isnan(renewed.clipped[0]).all()


@pytest.mark.parametrize(
    ("nights", "back"), [(9, 3), (40, 22), (KEPT, 59), (KEPT + 40, 16), (KEPT + 40, KEPT)]
)
def test_nights_taken_back_are_as_if_they_had_never_been(nights: int, back: int) -> None:
    scores = 0.3 * RNG.standard_normal(nights)
    found, expected = lived(scores).without_newest(back), lived(scores[:-back])
    assert found.level() == pytest.approx(expected.level())
    assert found.clipped[back:] == pytest.approx(expected.clipped[back:], nan_ok=True)
    assert History.from_json(found.to_json()).to_json() == found.to_json()


@pytest.mark.parametrize(("nights", "back"), [(0, 1), (5, 5), (5, 60), (70, 61)])
def test_more_nights_than_are_kept_leave_none(nights: int, back: int) -> None:
    assert lived(np.zeros(nights)).without_newest(back).nights == 0
