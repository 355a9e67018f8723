"""The statistics of experiments against SciPy, enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from components.evaluation.comparison import LEVEL, Pair, Sample, compare, holm, holm_levels, summary

RANDOM = np.random.default_rng


def sample(name: str, scores: np.ndarray, first_seed: int = 0) -> Sample:
    return Sample(name, tuple(range(first_seed, first_seed + len(scores))), scores)


def drawn(
    random: np.random.Generator,
    means: tuple[float, ...],
    seeds: int,
    images: int,
    over_seeds: float,
    over_images: float,
) -> list[Sample]:
    """Experiments with these true means: images are shared, with an own effect of each experiment on each."""
    shared = random.normal(0, 5, images)
    return [
        sample(
            str(place),
            mean
            + shared
            + random.normal(0, over_images, images)
            + random.normal(0, over_seeds, [seeds, 1])
            + random.normal(0, 0.5, [seeds, images]),
        )
        for place, mean in enumerate(means)
    ]


def signed(pair: Pair) -> tuple[float, float]:
    """The interval of the first drawn experiment minus the other one."""
    low, high = pair.lower, pair.upper
    return (low, high) if pair.first < pair.second else (-high, -low)


def test_a_summary_has_the_spread_of_seeds_and_the_interval_of_images() -> None:
    scores = RANDOM(0).normal(-90, 8, [3, 200])
    found = summary(sample("wide", scores))
    expected = stats.t.interval(0.95, 199, scores.mean(), stats.sem(scores.mean(axis=0)))
    assert found.mean == pytest.approx(scores.mean())
    assert found.deviation == pytest.approx(np.std(scores.mean(axis=1), ddof=1))
    assert (found.lower, found.upper) == pytest.approx(expected)
    assert math.isnan(summary(sample("one", scores[:1])).deviation)


def test_without_noise_of_seeds_the_comparison_is_the_paired_test_over_images() -> None:
    random = RANDOM(1)
    first, second = random.normal(0, 1, [1, 300]), random.normal(0.3, 1, [1, 300])
    one = sample("a", np.repeat(first, 3, axis=0)), sample("b", np.repeat(second, 3, axis=0))
    [pair] = compare(one)
    expected = stats.ttest_rel(second[0], first[0])
    interval = expected.confidence_interval(0.95)
    assert pair.first == "b"
    assert pair.chance == pytest.approx(expected.pvalue)
    assert (pair.lower, pair.upper) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("paired", [True, False])
def test_without_noise_of_images_the_comparison_is_the_test_over_seeds(paired: bool) -> None:
    random = RANDOM(2)
    a, b = random.normal(0, 1, 4), random.normal(1, 2, 4 if paired else 6)
    images = np.zeros(50)
    [pair] = compare(
        [sample("a", a[:, None] + images), sample("b", b[:, None] + images, first_seed=0 if paired else 9)]
    )
    expected = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
    assert pair.paired is paired
    assert pair.chance == pytest.approx(expected.pvalue)
    assert pair.freedom == pytest.approx(expected.df)


def test_seeds_are_paired_whatever_their_order() -> None:
    scores = RANDOM(3).normal(0, 1, [3, 40])
    other = scores + RANDOM(4).normal(1, 0.1, [3, 1])
    straight = compare([Sample("a", (0, 1, 2), scores), Sample("b", (0, 1, 2), other)])
    turned = compare([Sample("a", (0, 1, 2), scores), Sample("b", (2, 1, 0), other[::-1])])
    assert turned[0] == pytest.approx(straight[0])


def test_holm_is_the_closure_of_bonferroni() -> None:
    """A hypothesis is rejected if Bonferroni's test rejects every intersection that it is part of."""
    random = RANDOM(5)
    for count in range(1, 7):
        chances = random.choice([0.001, 0.004, 0.012, 0.02, 0.049, 0.3], count)
        closed = [
            max(
                min(1.0, len(among) * chances[list(among)].min())
                for size in range(1, count + 1)
                for among in itertools.combinations(range(count), size)
                if place in among
            )
            for place in range(count)
        ]
        assert holm(chances.tolist()) == pytest.approx(closed)


def test_an_interval_excludes_zero_exactly_where_holm_rejects() -> None:
    random = RANDOM(6)
    for _ in range(200):
        pairs = compare(drawn(random, (0, 0.2, 0.5, 2), seeds=3, images=60, over_seeds=0.1, over_images=1))
        assert [pair.lower > 0 for pair in pairs] == [pair.adjusted <= LEVEL for pair in pairs]
        levels = holm_levels([pair.chance for pair in pairs])
        assert all(LEVEL / len(pairs) <= level <= LEVEL for level in levels)


@pytest.mark.parametrize(("over_seeds", "over_images"), [(0.0, 1.0), (0.3, 0.0), (0.1, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("unpaired", [False, True])
def test_intervals_cover_and_false_claims_are_rare(
    over_seeds: float, over_images: float, unpaired: bool
) -> None:
    """Over seeds and images that are drawn anew each time; the bounds are four standard errors off."""
    random, runs, means = RANDOM(7), 600, (0.0, 0.0, 0.0, 0.4)
    covered = np.zeros(6)
    false = 0
    for _ in range(runs):
        samples = drawn(random, means, 3, 80, over_seeds, over_images)
        if unpaired:
            samples = [
                each._replace(seeds=tuple(s + 9 * i for s in each.seeds)) for i, each in enumerate(samples)
            ]
        pairs = sorted(compare(samples), key=lambda pair: sorted((pair.first, pair.second)))
        for place, pair in enumerate(pairs):
            low, high = signed(pair)
            one, other = sorted((int(pair.first), int(pair.second)))
            covered[place] += low <= means[one] - means[other] <= high
        false += any(pair.differs and means[int(pair.first)] == means[int(pair.second)] for pair in pairs)
    slack = 4 * math.sqrt(LEVEL * (1 - LEVEL) / runs)
    assert (covered / runs >= 1 - LEVEL - slack).all()
    assert false / runs <= LEVEL + slack


def test_ignoring_seeds_would_claim_differences_that_are_none() -> None:
    """The same simulation finds the fault that the variance over seeds prevents."""
    random, runs = RANDOM(8), 200
    naive = sum(
        stats.ttest_rel(
            *(each.scores.mean(axis=0) for each in drawn(random, (0, 0), 3, 2_000, 0.3, 1))
        ).pvalue
        < LEVEL
        for _ in range(runs)
    )
    assert naive / runs > 0.5


def test_one_seed_covers_images_only_and_is_no_claim() -> None:
    random = RANDOM(9)
    several = drawn(random, (0, 5), 3, 100, 0.1, 1)
    alone = sample("alone", random.normal(50, 1, [1, 100]))
    pairs = {(pair.first, pair.second): pair for pair in compare([*several, alone])}
    pair = pairs["alone", "1"]
    assert not pair.judged
    assert not pair.differs
    assert pair.lower > 0
    expected = stats.ttest_rel(alone.scores[0], several[1].scores.mean(axis=0))
    assert pair.chance == pytest.approx(expected.pvalue)
    assert pairs["1", "0"].adjusted == pairs["1", "0"].chance  # it alone is judged, so nothing is corrected


def test_classifiers_that_agree_on_every_image_are_not_known_to_be_equal() -> None:
    right = np.ones([3, 200])
    [pair] = compare([sample("a", right), sample("b", right)], binary=True)
    assert pair.difference == 0
    assert pair.lower < -0.005
    assert pair.upper > 0.005
    assert not pair.differs


def test_experiments_on_different_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"the same two or more images, got \[3, 4\]"):
        compare([sample("a", np.zeros([2, 3])), sample("b", np.zeros([2, 4]))])
