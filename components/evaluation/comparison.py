"""Comparing experiments over seeds and test images.

A score varies for two reasons: another seed trains another model, and other test images are easier or
harder. A claim about a configuration has to hold for other seeds and other images, so both are random
effects, crossed: every seed's model sees every image. For two experiments A and B, on the same N images, the
difference of their means has the variance

    var(d) / N  +  variance of the means over seeds

where d [N] is, per image, the mean over A's seeds minus that over B's. The second term is var(e) / S where
both have the same seeds: e [S] are the differences of the means with the same seed, which draws the same
batches, so that two trainings are a pair. Otherwise it is Welch's var(a) / S_A + var(b) / S_B of the means
per seed. A mixed model with random seeds and images estimates the same sum, but needs an iterative fit that
with 2 to 5 seeds often ends at a variance of zero. Here both terms have a closed form. The interaction of
seeds and images is in each of them, so that the sum is too large by it, rather than too small.

Degrees of freedom are Satterthwaite's (1946; Welch 1947). An experiment with one seed says nothing of the
variance over seeds: its comparisons cover images only and are not among those that are judged.

Of m judged comparisons, Holm's procedure (1979) says which differ, with at most LEVEL chance of any false
claim. The interval of the comparison at rank k of the ordered p-values has the level 1 - LEVEL / (m - k + 1),
and from the first that is not rejected on, that one's level. So it excludes zero exactly where Holm rejects,
and each covers its own difference with at least 95 per cent.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.05
"""Chance of any false claim among the comparisons of one metric."""
PSEUDO = 2
"""Images added to a comparison of accuracies, one in favour of each side (Bonett and Price 2012).

Without them, two classifiers that agree on every image would differ by zero without any doubt.
"""

Array = npt.NDArray[np.float64]


class Sample(NamedTuple):
    """The scores of one experiment: one row per seed, [S, N], on the same images for every experiment."""

    name: str
    seeds: tuple[int, ...]
    scores: Array


class Summary(NamedTuple):
    """One experiment.

    mean: over seeds and images. deviation: standard deviation of the means over seeds, nan for one seed.
    lower, upper: 95 % interval of the mean over test images alone, for these very models. by_seed: the means.
    """

    name: str
    seeds: tuple[int, ...]
    mean: float
    deviation: float
    lower: float
    upper: float
    by_seed: tuple[float, ...]


class Pair(NamedTuple):
    """Two experiments, the one with the higher mean first.

    difference: of their means, at least 0. error: its standard error; freedom: degrees of freedom of that.
    chance: p-value of no difference, two-sided. adjusted: by Holm, over the judged pairs. lower, upper: of
    the interval, corrected by Holm. judged: whether both have several seeds; where not, these are about
    images only and not corrected. paired: whether the seeds were taken as pairs.
    """

    first: str
    second: str
    difference: float
    error: float
    freedom: float
    chance: float
    adjusted: float
    lower: float
    upper: float
    judged: bool
    paired: bool

    @property
    def differs(self) -> bool:
        """Whether the first experiment is better, by more than seeds and images explain."""
        return self.judged and self.adjusted <= LEVEL


def summary(sample: Sample) -> Summary:
    """Return the mean of an experiment with both of its errors."""
    by_seed = sample.scores.mean(axis=1)
    per_image = sample.scores.mean(axis=0)
    count = len(per_image)
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1) * per_image.std(ddof=1) / math.sqrt(count))
    mean = float(per_image.mean())
    deviation = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else math.nan
    return Summary(
        sample.name, sample.seeds, mean, deviation, mean - half, mean + half, tuple(map(float, by_seed))
    )


def compare(
    samples: Sequence[Sample], binary: bool = False, wanted: Collection[frozenset[str]] | None = None
) -> list[Pair]:
    """Return pairs of experiments, corrected for their number, in the order of their means, best first.

    binary: whether scores are 0 or 1, as of accuracies. wanted: the pairs, by name; None for all. Raises
    ValueError for scores on different numbers of images or on fewer than two.
    """
    sizes = {sample.scores.shape[1] for sample in samples}
    if len(sizes) > 1 or min(sizes, default=2) < 2:
        raise ValueError(f"experiments are compared on the same two or more images, got {sorted(sizes)}")
    ordered = sorted(samples, key=lambda sample: -sample.scores.mean())
    pairs = [
        _pair(first, second, binary)
        for place, first in enumerate(ordered)
        for second in ordered[place + 1 :]
        if wanted is None or frozenset((first.name, second.name)) in wanted
    ]
    judged = [pair for pair in pairs if pair.judged]
    adjusted = dict(zip(map(id, judged), holm([pair.chance for pair in judged]), strict=True))
    levels = dict(zip(map(id, judged), holm_levels([pair.chance for pair in judged]), strict=True))
    found = []
    for pair in pairs:
        level = levels.get(id(pair), LEVEL)
        half = pair.error * float(stats.t.ppf(1 - level / 2, pair.freedom))
        found.append(
            pair._replace(
                adjusted=adjusted.get(id(pair), pair.chance),
                lower=pair.difference - half,
                upper=pair.difference + half,
            )
        )
    return found


def _pair(first: Sample, second: Sample, binary: bool) -> Pair:
    """Return a pair whose interval and adjusted p-value are still to be found."""
    per_image = first.scores.mean(axis=0) - second.scores.mean(axis=0)
    difference, count = float(per_image.mean()), len(per_image)
    added = PSEUDO if binary else 0
    squares = float(((per_image - difference) ** 2).sum()) + added
    terms = [(squares / (count + added - 1) / (count + added), count + added - 1.0)]
    judged = min(len(first.seeds), len(second.seeds)) > 1
    paired = judged and set(first.seeds) == set(second.seeds)
    if paired:
        order = [second.seeds.index(seed) for seed in first.seeds]
        by_seed = first.scores.mean(axis=1) - second.scores[order].mean(axis=1)
        terms.append(_of_mean(by_seed))
    elif judged:
        terms += [_of_mean(sample.scores.mean(axis=1)) for sample in (first, second)]
    variance = sum(value for value, _ in terms)
    freedom = variance**2 / sum(value**2 / degrees for value, degrees in terms) if variance else terms[-1][1]
    error = math.sqrt(variance)
    ratio = difference / error if error else (math.inf if difference else 0.0)
    chance = float(2 * stats.t.sf(ratio, freedom))
    return Pair(first.name, second.name, difference, error, freedom, chance, chance, 0.0, 0.0, judged, paired)


def _of_mean(values: Array) -> tuple[float, float]:
    """Return the variance of the mean of values, and its degrees of freedom."""
    return float(values.var(ddof=1)) / len(values), len(values) - 1.0


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm (1979), in the order of `chances`."""
    order = np.argsort(chances, kind="stable")
    count = len(order)
    found = np.zeros(count)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (count - rank) * chances[place]))
        found[place] = least
    return [float(value) for value in found]


def holm_levels(chances: Sequence[float], level: float = LEVEL) -> list[float]:
    """Return for each comparison the level of its interval, which excludes zero exactly where Holm rejects.

    The level is that of Holm's step that the comparison was decided in, `level` / (m - k + 1); steps end at
    the first that is not rejected, and all comparisons from there on have its level.
    """
    order = np.argsort(chances, kind="stable")
    count = len(order)
    found = np.zeros(count)
    steps = 0
    while steps < count and chances[order[steps]] <= level / (count - steps):
        steps += 1
    for rank, place in enumerate(order):
        found[place] = level / (count - min(rank, steps))
    return [float(value) for value in found]
