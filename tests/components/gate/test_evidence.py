import itertools
import math

import numpy as np
import pytest
from scipy import stats

from components.gate import evidence
from components.gate.verdict import LEVEL

RNG = np.random.default_rng(19)


@pytest.mark.parametrize(("correct", "images"), [(0, 1), (1, 1), (2, 2), (95, 100), (9_500, 10_000), (7, 9)])
def test_wilsons_interval_is_scipys(correct: int, images: int) -> None:
    expected = stats.binomtest(correct, images).proportion_ci(method="wilson")
    assert evidence.wilson(correct, images) == pytest.approx((expected.low, expected.high))


def test_without_images_an_accuracy_may_be_anything() -> None:
    assert evidence.wilson(0, 0) == (0, 1)


def test_a_difference_of_means_is_students() -> None:
    values = RNG.standard_normal(37) - 0.4
    found = evidence.of_means(values.sum(), (values**2).sum(), 37)
    expected = stats.ttest_1samp(values, 0.0)
    assert found.mean / math.sqrt(found.variance) == pytest.approx(expected.statistic)
    assert found.freedom == expected.df


@pytest.mark.parametrize("images", [0, 1])
def test_of_fewer_than_two_images_nothing_is_known(images: int) -> None:
    assert evidence.of_means(0.0, 0.0, images).variance == math.inf


@pytest.mark.parametrize("images", [100, 150])
@pytest.mark.parametrize(("better", "worse"), [(0.01, 0.01), (0.05, 0.05), (0.1, 0.1)])
def test_equal_classifiers_are_told_apart_no_more_often_than_the_level_says(
    better: float, worse: float, images: int
) -> None:
    """Every outcome of the trinomial distribution, enumerated."""
    refused = 0.0
    quantile = stats.norm.ppf(LEVEL)
    for b, c in itertools.product(range(40), range(40)):
        if b + c <= images:
            found = evidence.of_accuracies(b, c, images)
            if found.mean < quantile * math.sqrt(found.variance):
                refused += stats.multinomial.pmf(
                    [b, c, images - b - c], images, [better, worse, 1 - better - worse]
                )
    assert refused <= 1.25 * LEVEL


@pytest.mark.parametrize(("better", "worse", "images"), [(0, 0, 100), (1, 0, 100), (5, 3, 1_000)])
def test_the_variance_of_a_difference_of_accuracies_is_never_zero(
    better: int, worse: int, images: int
) -> None:
    assert evidence.of_accuracies(better, worse, images).variance > 0


def test_on_many_images_a_difference_of_accuracies_is_the_plain_one() -> None:
    better, worse, images = 3_000, 4_000, 100_000
    outcomes = np.repeat([1.0, -1.0, 0.0], [better, worse, images - better - worse])
    found = evidence.of_accuracies(better, worse, images)
    assert found.mean == pytest.approx(outcomes.mean(), rel=1e-3)
    assert found.variance == pytest.approx(outcomes.var() / images, rel=1e-3)


@pytest.mark.parametrize("counts", [(-1, 0, 9), (0, 10, 9), (5, 5, 9)])
def test_counts_that_contradict_each_other_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 9 images"):
        evidence.of_accuracies(*counts)


@pytest.mark.parametrize(
    ("images", "by_class", "reason"),
    [
        (2, None, "has 2 images"),
        (99, None, "has 99 images"),
        (100, None, ""),
        (100, {"0": 50, "1": 50}, ""),
        (100, {"0": 91, "1": 9}, "9 of class 1"),
        (1_000, {"0": 1_000, "1": 0}, "0 of class 1"),
    ],
)
def test_a_verdict_needs_images_and_for_classifiers_of_each_class(
    images: int, by_class: dict[str, int] | None, reason: str
) -> None:
    found = evidence.too_little(images, by_class)
    assert (reason in found) if reason else not found


@pytest.mark.parametrize(
    ("correct", "by_class", "skilled"),
    [
        (950, {"0": 950, "1": 50}, False),
        (955, {"0": 950, "1": 50}, False),
        (980, {"0": 950, "1": 50}, True),
        (100, {"0": 100}, False),
        (59, {"0": 50, "1": 50}, False),
        (70, {"0": 50, "1": 50}, True),
        (0, {}, False),
    ],
)
def test_a_classifier_has_to_exceed_the_share_of_the_most_frequent_class(
    correct: int, by_class: dict[str, int], skilled: bool
) -> None:
    assert (evidence.no_better_than_constant(correct, by_class) == "") is skilled
