import dataclasses

import pytest

from components.reporting import display
from schemas.records import Gain, Metric


def metric(value: float, half: float) -> Metric:
    return Metric(value, value - half, value + half, "nats per image")


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (-155.93, 0.61, "-155.9 ±0.6"),
        (-160.787, 1.199, "-160.8 ±1.2"),
        (0.94661, 0.00527, "0.947 ±0.005"),
        (5.27851, 0.02597, "5.279 ±0.026"),
        (-155.93, 12.4, "-156 ±12"),
        (2.0, 0.0, "2"),
        (0.5, float("nan"), "0.5"),
        (float("nan"), float("nan"), "nan"),
    ],
)
def test_a_metric_has_the_digits_that_its_interval_leaves(value: float, half: float, shown: str) -> None:
    assert display.interval(metric(value, half)) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (2_000, "2.0k"), (69_989, "70.0k"), (99_960, "100k"), (12_345_678, "12.3M")],
)
def test_counts_are_short(number: int, shown: str) -> None:
    assert display.count(number) == shown


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (0.534, "0.53 s"), (12.34, "12.3 s"), (59.94, "59.9 s"), (59.97, "1 min 00 s"), (245.2, "4 min 05 s"),
        (3599.7, "1 h 00 min"), (7800, "2 h 10 min"),
    ],
)  # fmt: skip
def test_durations_have_their_unit(duration: float, shown: str) -> None:
    assert display.seconds(duration) == shown


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.8, 1.2, 1.6), "+1.2 [+0.8, +1.6]"),
        ((-0.04, -0.03, -0.02), "-0.030 [-0.040, -0.020]"),
        ((880.0, 900.0, 920.0), "+900 [+880, +920]"),
        ((0.0, 0.0, 0.0), "+0.000 [+0.000, +0.000]"),
    ],
)
def test_a_gain_has_its_sign_and_the_digits_of_its_interval(
    ends: tuple[float, float, float], text: str
) -> None:
    lower, value, upper = ends
    difference = Gain(value, lower, upper, "nats per image", "elbo", version=17)
    assert display.gain(difference) == text
    assert display.against(difference) == f"{text} against version 17"
    assert (
        display.against(dataclasses.replace(difference, version=None)) == f"{text} against an earlier model"
    )


@pytest.mark.parametrize(
    ("ends", "text"),
    [((0.8, 1.2, 1.6), "+1.2 ±0.4"), ((-0.04, -0.03, -0.02), "-0.030 ±0.010"), ((0, 0, 0), "+0.000 ±0.000")],
)
def test_a_short_gain_has_half_its_interval(ends: tuple[float, float, float], text: str) -> None:
    lower, value, upper = ends
    assert display.short_gain(Metric(value, lower, upper, "nats per image")) == text
