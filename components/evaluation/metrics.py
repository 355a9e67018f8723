"""The metrics of latent-variable models for TensorFlow Model Analysis.

A model's `evaluate` signature returns one value per example for each metric; here they are averaged and given
95 % confidence intervals, and TFMA slices them. One combiner carries all of them, since TFMA's cost is per
combiner; it gives the intervals as well, since TFMA's jackknife needs twenty copies of it.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow_model_analysis as tfma
from scipy import special
from tensorflow_model_analysis.metrics.metric_types import register_metric

from components.gate import evidence
from components.gate.verdict import Difference
from schemas import CLASSES, PIXELS

ACTIVE_VARIANCE = 0.01
"""A latent unit is active if its posterior mean varies more than this over the data. Burda et al. 2016."""

UNITS = {
    "elbo": "nats per image",
    "distortion": "nats per image",
    "rate": "nats per image",
    "rate_uniform": "nats per image",
    "iwelbo": "nats per image",
    "bits_per_dimension": f"bits per pixel ({PIXELS} pixels)",
    "reconstruction_mse": "squared grey level per pixel",
    "active_units": "latent units",
    "codebook_perplexity": "codes",
    "accuracy": "fraction",
    "cross_entropy": "nats per image",
}

ACCURACY = "accuracy"

MOST_FREEDOM = 1e9
"""Degrees of freedom of Student's distribution that stand for a known variance."""

MEANS = {
    "generative": ("elbo", "distortion", "rate", "iwelbo", "bits_per_dimension", "reconstruction_mse"),
    "classifier": (ACCURACY, "cross_entropy"),
}
"""Metrics that are plain means over the examples, by family."""

EXTRAS = ("rate_uniform",)
"""Means that only some variants have: reported where a model gives them."""

LATENTS = "latent_mean"
CODES = "codes"
GAIN, GAIN_LOWER, GAIN_UPPER = "gain", "gain_lower", "gain_upper"
"""Endings of the names of the mean paired difference and of the ends of its 95 % interval."""
LOWER, UPPER = "lower", "upper"
"""Endings of the names of the ends of a metric's 95 % interval, in evaluations since version 0.2."""
GROUPS = 20
"""Groups of images by which the spread of what is no mean of images is estimated."""
IMAGES, SMALLEST_CLASS, SKILL = "images", "smallest_class", "accuracy_above_constant"
"""What the slice can say: its images, those of its rarest class, and the skill of a model that classifies.

The skill is the lower end of the accuracy's 95 % interval less the share of the most frequent class, which a
constant answer reaches.
"""


@dataclasses.dataclass
class Sums:
    """What one slice has accumulated."""

    count: int = 0
    means: npt.NDArray[np.float64] | float = 0.0  # [2, M], sums of the metrics that are means, and squares
    extras: npt.NDArray[np.float64] | float = 0.0  # [2, len(EXTRAS)], nan where the model has none
    latents: npt.NDArray[np.float64] | float = 0.0  # [4, D], sums of the first four powers
    codes: npt.NDArray[np.float64] | float = 0.0  # [GROUPS, K], how often each group of images used each code
    labels: npt.NDArray[np.float64] | float = 0.0  # [CLASSES], how often each class occurs
    gain: npt.NDArray[np.float64] | float = 0.0  # [H], of the headline metrics over the baseline, by example
    gain_squared: npt.NDArray[np.float64] | float = 0.0  # [H]


class PerExampleMeans(tfma.metrics.Metric):
    """All metrics of a family, from the per-example outputs of the `evaluate` signature.

    headlines: the metrics that candidate and baseline are compared by, example by example. The comparison is
    reported as `<headline>_gain`, the mean paired difference, with `<headline>_gain_lower` and `_gain_upper`,
    the ends of its 95 % confidence interval: below zero, the upper end says that the candidate is worse than
    the baseline beyond noise of the test images. How much the slice can say is reported as IMAGES and, for
    models that classify, as SMALLEST_CLASS and SKILL.
    """

    def __init__(
        self, means: Iterable[str], headlines: Iterable[str], code_version: str = "", name: str = "means"
    ) -> None:
        # code_version only has to exist: it makes TFX's cache notice that this module has changed.
        super().__init__(
            _computations,
            means=tuple(means),
            headlines=tuple(headlines),
            code_version=code_version,
            name=name,
        )


register_metric(PerExampleMeans)


def _computations(
    means: tuple[str, ...],
    headlines: tuple[str, ...],
    code_version: str,
    name: str,
    eval_config: tfma.EvalConfig,
    model_names: list[str],
    **unused: Any,
) -> list[Any]:
    baseline = next((spec.name for spec in eval_config.model_specs if spec.is_baseline), None)
    found = []
    for model in model_names or [""]:
        compared = baseline if model != baseline and len(eval_config.model_specs) > 1 else None
        found.append(
            tfma.metrics.MetricComputation(
                keys=[tfma.metrics.MetricKey(name=name, model_name=model)],
                preprocessors=None,
                combiner=SumsFn(means, headlines, model, compared),
            )
        )
    return found


class SumsFn(beam.CombineFn):
    """Adds up examples and turns the sums into metrics."""

    def __init__(
        self, means: Sequence[str], headlines: Sequence[str], model: str, baseline: str | None
    ) -> None:
        self.means, self.headlines, self.model, self.baseline = means, headlines, model, baseline

    def create_accumulator(self) -> Sums:
        return Sums()

    def add_input(self, sums: Sums, element: Any) -> Sums:
        outputs = element.get_by_key("predictions", self.model)
        sums.count += 1
        means = np.array([float(np.squeeze(outputs[m])) for m in self.means])
        sums.means = sums.means + np.stack([means, means**2])
        extras = np.array([float(np.squeeze(outputs.get(m, np.nan))) for m in EXTRAS])
        sums.extras = sums.extras + np.stack([extras, extras**2])
        if LATENTS in outputs:
            latents = np.asarray(outputs[LATENTS], np.float64)
            squares = latents**2
            sums.latents = sums.latents + np.stack([latents, squares, latents * squares, squares**2])
        if CODES in outputs:
            codes = np.asarray(outputs[CODES], np.float64)
            if not np.ndim(sums.codes):
                sums.codes = np.zeros([GROUPS, len(codes)])
            np.asarray(sums.codes)[sums.count % GROUPS] += codes
        if ACCURACY in self.means:
            [label] = np.ravel(element.get_by_key("labels", self.model)).astype(int)
            sums.labels = sums.labels + np.eye(CLASSES)[label]
        if self.baseline is not None:
            other = element.get_by_key("predictions", self.baseline)
            gain = np.array(
                [float(np.squeeze(outputs[n])) - float(np.squeeze(other[n])) for n in self.headlines]
            )
            sums.gain = sums.gain + gain
            sums.gain_squared = sums.gain_squared + gain**2
        return sums

    def merge_accumulators(self, accumulators: Iterable[Sums]) -> Sums:
        total = Sums()
        for sums in accumulators:
            for field in dataclasses.fields(Sums):
                setattr(total, field.name, getattr(total, field.name) + getattr(sums, field.name))
        return total

    def extract_output(self, sums: Sums) -> dict[Any, float]:
        def key(name: str, is_diff: bool = False) -> Any:
            # example_weighted=None is what TFMA looks for under the thresholds of a whole MetricsSpec.
            return tfma.metrics.MetricKey(
                name=name, model_name=self.model, is_diff=is_diff, example_weighted=None
            )

        def add(name: str, value: float, ends: evidence.Interval | None) -> None:
            found[key(name)] = value
            if ends and sums.count > 1:  # a single image says nothing of the spread
                found[key(f"{name}_{LOWER}")], found[key(f"{name}_{UPPER}")] = ends

        found: dict[Any, float] = {}
        for name, total, squared in zip(
            self.means, *np.broadcast_to(np.asarray(sums.means), [2, len(self.means)]), strict=True
        ):
            value = float(total) / max(sums.count, 1)
            add(name, value, mean_interval(name, float(total), float(squared), sums.count))
        if np.ndim(sums.extras):
            for name, total, squared in zip(EXTRAS, *np.asarray(sums.extras), strict=True):
                if not np.isnan(total):
                    ends = mean_interval(name, float(total), float(squared), sums.count)
                    add(name, float(total) / sums.count, ends)
        if np.ndim(sums.latents):
            add("active_units", *active_units(np.asarray(sums.latents), sums.count))
        if np.ndim(sums.codes):
            add("codebook_perplexity", *perplexity(np.asarray(sums.codes)))
        found[key(IMAGES)] = float(sums.count)
        if ACCURACY in self.means:
            labels = np.broadcast_to(np.asarray(sums.labels), [CLASSES])
            found[key(SMALLEST_CLASS)] = float(labels.min())
            found[key(SKILL)] = skill(found[key(ACCURACY)], labels)
        if self.baseline is not None:
            for headline, gains in zip(self.headlines, self._gains(sums), strict=True):
                for name, value in zip((GAIN, GAIN_LOWER, GAIN_UPPER), gains, strict=True):
                    found[key(f"{headline}_{name}", is_diff=True)] = value
        return found

    def _gains(self, sums: Sums) -> list[tuple[float, float, float]]:
        shape = [len(self.headlines)]
        totals, squares = (
            np.broadcast_to(np.asarray(each), shape) for each in (sums.gain, sums.gain_squared)
        )
        return [
            interval(difference(headline, total, squared, sums.count))
            for headline, total, squared in zip(self.headlines, totals, squares, strict=True)
        ]


def mean_interval(name: str, total: float, total_squared: float, images: int) -> evidence.Interval:
    """Return the 95 % interval of a mean over images, from sums of the values and their squares.

    Student's; Wilson's for accuracy, as the gate asks how far it lies above a constant answer.
    """
    if name == ACCURACY and math.isfinite(total):
        return evidence.wilson(total, images)
    _, lower, upper = interval(evidence.of_means(total, total_squared, images))
    return evidence.Interval(lower, upper)


def active_units(powers: npt.NDArray[np.float64], count: int) -> tuple[float, evidence.Interval]:
    """Return the latent units whose variance over the data exceeds ACTIVE_VARIANCE, and a 95 % interval.

    powers: sums over the images of the first four powers of the posterior means, [4, D]. The ends count the
    units of which each one's own 95 % interval for its variance lies above the threshold, and of which it
    reaches above. The interval is the delta method's: a variance s^2 of n values with the fourth central
    moment m4 has the variance (m4 - s^4) / n.
    """
    first, second, third, fourth = powers / count
    variance = second - first**2
    moment = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    half = evidence.Z_95 * np.sqrt(np.maximum(moment - variance**2, 0.0) / count)
    value, lower, upper = (
        float(np.sum(each > ACTIVE_VARIANCE)) for each in (variance, variance - half, variance + half)
    )
    return value, evidence.Interval(lower, upper)


def perplexity(counts: npt.NDArray[np.float64]) -> tuple[float, evidence.Interval]:
    """Return exp of the entropy of the codes' use, 1 to K, and its 95 % interval.

    counts: how often each group of images used each code, [G, K]; codes of one image depend on each other,
    so that images and not codes have to vary. The interval is the delta method's, with Student's quantile of
    one degree of freedom less than there are groups.
    """
    groups = counts[counts.sum(axis=1) > 0]
    groups = groups[:, groups.sum(axis=0) > 0]
    total = groups.sum()
    used = groups.sum(axis=0) / total
    value = float(np.exp(-np.sum(used * np.log(used))))
    if len(groups) < 2:
        return value, evidence.Interval(1.0, float(counts.shape[1]))
    # The derivative of the perplexity P in the share p of a code is -P (log p + 1).
    moved = (groups - groups.sum(axis=1, keepdims=True) * used) / total
    effects = -value * moved @ np.log(used)
    freedom = len(groups) - 1
    variance = float(np.sum(effects**2)) * len(groups) / freedom
    half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(variance)
    return value, evidence.Interval(max(value - half, 1.0), value + half)


def skill(accuracy: float, labels: npt.NDArray[np.float64]) -> float:
    """The lower 95 % end of an accuracy less the share of the most frequent class; labels [K] -> a fraction.

    Not a number where the accuracy is none, or without examples.
    """
    images = float(labels.sum())
    if not images or not math.isfinite(accuracy):
        return math.nan
    return evidence.wilson(accuracy * images, images).lower - float(labels.max()) / images


def difference(headline: str, total: float, total_squared: float, images: int) -> Difference:
    """The paired difference of a headline metric, from the sums of the examples' differences.

    Accuracies differ by -1, 0 or 1 in each example, so that the sums say how often each model alone is right.
    """
    if headline != ACCURACY or not math.isfinite(total):
        return evidence.of_means(total, total_squared, images)
    return evidence.of_accuracies(
        round((total_squared + total) / 2), round((total_squared - total) / 2), images
    )


def difference_between(headline: str, lower: float, upper: float, images: int) -> Difference:
    """The difference whose 95 % interval has these ends: the inverse of `interval`."""
    freedom = np.inf if headline == ACCURACY else max(images - 1.0, 1.0)
    half = float(special.stdtrit(min(freedom, MOST_FREEDOM), 0.975))
    variance = ((upper - lower) / 2 / half) ** 2
    return Difference(np.asarray((lower + upper) / 2), np.asarray(variance), np.asarray(freedom))


def interval(found: Difference) -> tuple[float, float, float]:
    """The mean of a difference, and the lower and upper end of its 95 % confidence interval."""
    freedom = min(float(found.freedom), MOST_FREEDOM)
    half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(found.variance)
    mean = float(found.mean)
    return mean, mean - half, mean + half
