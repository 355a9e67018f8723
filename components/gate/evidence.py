"""What a test split can say: differences with their uncertainty, and the least that a verdict needs."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from components.gate.verdict import Difference

MIN_IMAGES = 100
MIN_PER_CLASS = 10
"""Least images of a test split, and of each class for classifiers, that a model is pushed on."""

Z_95 = 1.959963984540054


class Interval(NamedTuple):
    """The ends of a 95 % confidence interval."""

    lower: float
    upper: float


def of_accuracies(better: float, worse: float, images: float) -> Difference:
    """Return the paired difference of two accuracies. Bonett & Price 2012, adjusted Wald.

    better: images that only the candidate gets right; worse: that only the other model gets right. One image
    of each kind is added, so that the variance is not 0 where the models agree on every image.
    """
    _check_counts(images, better=better, worse=worse, both=better + worse)
    right, wrong = (better + 1) / (images + 2), (worse + 1) / (images + 2)
    mean = right - wrong
    variance = (right + wrong - mean**2) / (images + 2)
    return Difference(np.asarray(mean), np.asarray(variance), np.asarray(math.inf))


def of_means(total: float, total_squared: float, images: float) -> Difference:
    """Return the paired difference of two means, from the sums of the images' differences; for nats. Student.

    With fewer than two images nothing is known of the variance: it is infinite.
    """
    if images < 2:
        mean = total / images if images else math.nan
        return Difference(np.asarray(mean), np.asarray(math.inf), np.asarray(1.0))
    mean = total / images
    variance = max(total_squared / images - mean**2, 0.0) / (images - 1)
    return Difference(np.asarray(mean), np.asarray(variance), np.asarray(images - 1.0))


def of_share(correct: float, images: float) -> Difference:
    """Return one model's accuracy with its variance, which is not 0 where all images are right or wrong.

    One image of each kind is added for the variance. Agresti & Coull 1998.
    """
    _check_counts(images, correct=correct)
    share = (correct + 1) / (images + 2)
    mean = correct / images if images else math.nan
    return Difference(np.asarray(mean), np.asarray(share * (1 - share) / (images + 2)), np.asarray(math.inf))


def wilson(correct: float, images: float) -> Interval:
    """Return the 95 % interval of one model's accuracy. Wilson 1927; [0, 1] without images."""
    _check_counts(images, correct=correct)
    if not images:
        return Interval(0.0, 1.0)
    share = correct / images
    scale = 1 + Z_95**2 / images
    center = (share + Z_95**2 / (2 * images)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / images + Z_95**2 / (4 * images**2)) / scale
    return Interval(max(center - half, 0.0), min(center + half, 1.0))


def too_little(images: int, by_class: Mapping[str, int] | None) -> str:
    """Return why a test split is too small for a verdict; an empty string where it is large enough.

    by_class: images of each class that the model distinguishes, absent ones with 0; None for models that do
    not classify.
    """
    if images < MIN_IMAGES:
        return f"the test split has {images} images; a verdict needs at least {MIN_IMAGES}"
    few = {name: number for name, number in (by_class or {}).items() if number < MIN_PER_CLASS}
    if few:
        listed = ", ".join(f"{number} of class {name}" for name, number in sorted(few.items()))
        return f"the test split has {listed}; a verdict needs at least {MIN_PER_CLASS} of each class"
    return ""


def no_better_than_constant(correct: float, by_class: Mapping[str, int]) -> str:
    """Return why an accuracy shows no skill; an empty string where it does.

    The lower end of its Wilson interval has to exceed the share of the most frequent class, which a model
    reaches that answers the same for every image.
    """
    images = sum(by_class.values())
    if not images:
        return "the test split has no images"
    name, most = max(by_class.items(), key=lambda item: item[1])
    lower = wilson(correct, images).lower
    if lower > most / images:
        return ""
    return (
        f"accuracy {correct / images:.4g} (95 % interval from {lower:.4g}) does not exceed "
        f"{most / images:.4g}, the share of class {name} in the test split: answering {name} for every "
        "image does as well"
    )


def _check_counts(images: float, **counts: float) -> None:
    for name, count in counts.items():
        if not 0 <= count <= images:
            raise ValueError(f"{name} must lie between 0 and {images} images, got {count}")
