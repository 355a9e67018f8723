import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.reporting import charts
from components.reporting.charts import Scale

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(finite, finite.filter(lambda width: abs(width) > 1e-3), st.floats(0, 1))
def test_a_scale_maps_its_ends_to_the_ends_of_the_axis(low: float, width: float, share: float) -> None:
    scale = Scale(low, low + abs(width))
    assert (scale(scale.low), scale(scale.high)) == (0, 100)
    value = scale.low + share * (scale.high - scale.low)
    assert scale(value) == pytest.approx(100 * share, abs=0.02)
    assert scale.side(value) == 0


def test_what_is_off_the_scale_is_moved_to_the_nearer_edge() -> None:
    scale = Scale(0.0, 10.0)
    assert [scale.clipped(value) for value in (-5.0, 5.0, 50.0)] == [0, 50, 100]
    assert [scale.side(value) for value in (-5.0, 5.0, 50.0)] == [-1, 0, 1]


def test_error_rates_are_on_a_logarithmic_axis() -> None:
    scale = Scale(0.0, 0.99, charts.error_rate)
    assert scale(0.9) == pytest.approx(50)
    assert scale(1.0) > 100
    assert math.isfinite(scale(1.0))


@given(finite, st.floats(1e-3, 1e5), st.integers(2, 8))
def test_ticks_are_round_few_and_on_the_axis(low: float, width: float, most: int) -> None:
    ticks = charts.linear_ticks(Scale(low, low + width), most)
    assert 1 <= len(ticks) <= most + 1
    assert all(-0.02 <= tick.at <= 100.02 for tick in ticks)
    assert len({tick.text for tick in ticks}) == len(ticks)  # decimals enough to tell them apart


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (-120.0, 20.0, "\N{MINUS SIGN}120"),
        (0.25, 0.25, "0.25"),
        (-0.0, 1.0, "0"),
        (12000.0, 2000.0, "12\u202f000"),
    ],
)
def test_ticks_are_written_with_true_minus_signs_and_thin_spaces(
    value: float, step: float, text: str
) -> None:
    assert charts.number(value, step) == text


def test_logarithmic_ticks_are_powers_of_ten_with_steps_between_on_short_axes() -> None:
    assert [tick.text for tick in charts.log_ticks(Scale(0.9, 25.0, math.log))] == ["1", "2", "5", "10", "20"]
    assert [tick.text for tick in charts.log_ticks(Scale(0.9, 2e4, math.log))][:3] == ["1", "10", "100"]


@given(st.lists(finite, min_size=1))
def test_the_best_value_is_never_off_the_axis(values: list[float]) -> None:
    low, high = charts.within(values)
    assert high == max(values)
    assert low in values


def test_an_outlier_is_off_the_axis_and_the_middle_half_is_on_it() -> None:
    assert charts.within([-100.0, -110.0, -120.0, -130.0, -16_000.0]) == (-130.0, -100.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.just("name")), max_size=20))
def test_labels_never_cover_one_another(points: list[tuple[float, float, str]]) -> None:
    labels = charts.placed(points, 1.5, 4.0)
    assert len(labels) == len(points)
    boxes = []
    for (x, y, text), label in zip(points, labels, strict=True):
        long = 1.5 * len(text)
        corner = {
            "right": (x + 1.2, y - 2), "left": (x - 1.2 - long, y - 2),
            "above": (x - long / 2, y - 6), "below": (x - long / 2, y + 2),
        }  # fmt: skip
        if label.side:
            boxes.append((*corner[label.side], corner[label.side][0] + long, corner[label.side][1] + 4))
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart or one == other


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(-100, 100)), min_size=1))
def test_the_front_is_what_nothing_as_cheap_beats(points: list[tuple[float, float]]) -> None:
    chosen = set(charts.front(points))
    for index, (cost, score) in enumerate(points):
        beaten = any(
            (other_cost <= cost and other_score > score) or (other_cost < cost and other_score >= score)
            for other_cost, other_score in points
        )
        if beaten:
            assert index not in chosen
    assert {points[i] for i in chosen} == {
        point for point in points
        if not any((c <= point[0] and s > point[1]) or (c < point[0] and s >= point[1]) for c, s in points)
    }  # fmt: skip


def test_a_path_goes_through_its_points_and_stays_near_the_chart() -> None:
    assert charts.path([(0, 10), (50, 1e9)]) == "M0.0 10.0L50.0 130.0"
    assert re.fullmatch(r"", charts.path([]))
