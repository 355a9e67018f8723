"""Estimate the likelihood of test images under an exported model by importance sampling.

log p(x) is estimated by log (1/S) sum_s w_s with w_s = p(x, z_s) / q(z_s | x), z_s ~ q(z | x); Burda et al.
2016. By Jensen's inequality the estimate falls short of log p(x) on average, less so with more samples.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.evaluation import saved_model
from schemas import PIXELS

SIGNATURE, FUNCTION = "log_weight", "log_weights"
ROWS = 500
"""Images times samples in one call of the model, by default."""
SAMPLES_A_CALL = 100
"""Most samples of an image in one call, where an image is encoded once per call: enough to hide its cost."""
FEWEST_EFFECTIVE = 2.0
"""Median effective sample size below which a single sample carries most images' estimates."""

Values = npt.NDArray[np.float64]
LogWeights = Callable[[Sequence[bytes], int, int], Values]
"""(serialized tf.Examples [B], seed, samples) -> log p(x, z) - log q(z|x), nats, [samples, B]."""


class LikelihoodError(ValueError):
    """The likelihood cannot be estimated; the message says why and what to do."""


class Likelihood(NamedTuple):
    """An estimate of the negative log-likelihood, in nats per image.

    standard_error: of `nll` as an estimate over all images of this kind; sampling noise included.
    sampling_error: the part of it that more samples would remove, by the delta method.
    effective_samples: effective sample size, (sum w)^2 / sum w^2, 1 to `samples`; median over the images.
    """

    nll: float
    standard_error: float
    sampling_error: float
    effective_samples: float
    images: int
    samples: int

    @property
    def believable(self) -> bool:
        """Whether more than one sample carries the estimates."""
        return self.effective_samples >= min(FEWEST_EFFECTIVE, self.samples)

    @property
    def bits_per_dimension(self) -> float:
        """Return the negative log-likelihood in bits per pixel."""
        return self.nll / (PIXELS * math.log(2.0))


@dataclasses.dataclass(frozen=True)
class Estimates:
    """Estimates of log p(x) per image, so far.

    Attributes:
      bounds: log (1/S) sum_s w_s, nats, [N].
      variances: of the bounds through sampling, nats squared, [N].
      effective: effective sample sizes, [N].
    """

    bounds: Values
    variances: Values
    effective: Values

    @classmethod
    def none(cls) -> "Estimates":
        """Return the estimates of no images."""
        return cls(np.zeros(0), np.zeros(0), np.zeros(0))

    def extended(self, sums: "Sums") -> "Estimates":
        """Return these estimates with those of the images of `sums` after them."""
        new = (sums.bound(), sums.variance(), sums.effective_samples())
        old = (self.bounds, self.variances, self.effective)
        return Estimates(*(np.concatenate(pair) for pair in zip(old, new, strict=True)))


def log_weights(model: str) -> LogWeights:
    """Return the log-weights of the SavedModel in folder `model`. Raises LikelihoodError."""
    loaded = saved_model.load(model, LikelihoodError)
    if SIGNATURE not in loaded.signatures:
        found = ", ".join(sorted(loaded.signatures)) or "none"
        classifier = {"classify"} <= set(loaded.signatures) and "sample" not in loaded.signatures
        reason = (
            "it is a classifier, which has no likelihood of images; give a generative model"
            if classifier
            else "export it again with this version of latentline"
        )
        raise LikelihoodError(f"{model} has no signature {SIGNATURE} (it has: {found}); {reason}")
    return weights_of(loaded)


def weights_of(loaded: Any) -> LogWeights:
    """Return the log-weights of a loaded SavedModel of a generative variant."""
    function = getattr(loaded, FUNCTION, None)  # models of 0.1 have the signature only
    if function is None:
        return repeating(loaded)

    def call(examples: Sequence[bytes], seed: int, samples: int) -> Values:
        outputs = function(
            tf.constant(list(examples)), tf.constant(seed, tf.int32), tf.constant(samples, tf.int32)
        )
        weights: Values = outputs.numpy().astype(np.float64)
        return weights

    call.keep_alive = loaded  # type: ignore[attr-defined]  # a function does not hold on to its variables
    return call


def repeating(loaded: Any) -> LogWeights:
    """Return the log-weights of a loaded SavedModel by its signature, which encodes an image per sample."""
    signature = loaded.signatures[SIGNATURE]

    def call(examples: Sequence[bytes], seed: int, samples: int) -> Values:
        repeated = tf.constant(list(examples) * samples)
        outputs = signature(examples=repeated, seed=tf.constant(seed, tf.int32))
        weights: Values = outputs[SIGNATURE].numpy().astype(np.float64)
        return weights.reshape(samples, len(examples))

    call.keep_alive = loaded  # type: ignore[attr-defined]  # a signature does not hold on to its variables
    return call


def estimate(
    weigh: LogWeights,
    examples: Sequence[bytes],
    *,
    samples: int,
    seed: int = 0,
    rows: int = ROWS,
    advance: Callable[[int], Any] = lambda done: None,
    start: Estimates | None = None,
    keep: Callable[[Estimates], Any] = lambda estimates: None,
) -> Likelihood:
    """Estimate the negative log-likelihood of `examples` with `samples` importance samples per image.

    rows: images times samples in one call of `weigh`, which bounds the memory. seed: each batch of images and
    each call of it has a seed of its own. advance: called with the images times samples done since the last
    call. start: estimates of the first images from an earlier call with the same arguments; keep: called with
    all estimates after each batch of images, for such a start.
    Raises LikelihoodError for no images, fewer than one sample or row, and weights that are not numbers.
    """
    if not examples:
        raise LikelihoodError("there are no images to estimate the likelihood of; give at least 1")
    if samples < 1 or rows < 1:
        raise LikelihoodError(f"samples and rows must be at least 1, got {samples} and {rows}")
    size = max(1, min(len(examples), rows // min(samples, SAMPLES_A_CALL)))
    calls = math.ceil(samples / max(1, rows // size))
    found = start or Estimates.none()
    advance(len(found.bounds) * samples)
    for first in range(len(found.bounds), len(examples), size):
        batch = examples[first : first + size]
        sums = Sums(len(batch))
        for call in range(calls):
            count = min(max(1, rows // size), samples - sums.samples)
            weights = weigh(batch, seed + first // size * calls + call, count)
            if not np.isfinite(weights).all():
                raise LikelihoodError(
                    "the model gives log-weights that are not finite, so it diverged in training; train it "
                    "again with a smaller learning rate"
                )
            sums.add(weights)
            advance(count * len(batch))
        found = found.extended(sums)
        keep(found)
    return summarised(found, samples)


def summarised(found: Estimates, samples: int) -> Likelihood:
    """Return the mean over images of estimates with `samples` samples, and its errors."""
    count = len(found.bounds)
    spread = float(found.bounds.std(ddof=1)) if count > 1 else math.nan
    return Likelihood(
        nll=-float(found.bounds.mean()),
        standard_error=spread / math.sqrt(count),
        sampling_error=math.sqrt(float(found.variances.sum())) / count,
        effective_samples=float(np.median(found.effective)),
        images=count,
        samples=samples,
    )


class Sums:
    """Running sums of the weights of a batch of images, each scaled by the largest weight seen so far."""

    def __init__(self, images: int) -> None:
        self.samples = 0
        self._largest = np.full(images, -np.inf)
        self._first = np.zeros(images)
        self._second = np.zeros(images)

    def add(self, log_weights: Values) -> None:
        """Add log-weights [S, B]."""
        largest = np.maximum(self._largest, log_weights.max(axis=0))
        shrink = np.exp(self._largest - largest)
        scaled = np.exp(log_weights - largest)
        self._first = self._first * shrink + scaled.sum(axis=0)
        self._second = self._second * shrink**2 + (scaled**2).sum(axis=0)
        self._largest = largest
        self.samples += len(log_weights)

    def bound(self) -> Values:
        """Return log (1/S) sum_s w_s, [B], nats."""
        result: Values = self._largest + np.log(self._first) - math.log(self.samples)
        return result

    def effective_samples(self) -> Values:
        """Return the effective sample size, (sum w)^2 / sum w^2, [B]; Kong 1992."""
        result: Values = self._first**2 / self._second
        return result

    def variance(self) -> Values:
        """Return the variance of the bound, [B], nats squared: var(w) / (S mean(w)^2); NaN for one sample."""
        if self.samples < 2:
            return np.full(len(self._first), np.nan)
        relative = self.samples / self.effective_samples() - 1.0  # (mean(w^2) - mean(w)^2) / mean(w)^2
        result: Values = relative / (self.samples - 1)
        return result
