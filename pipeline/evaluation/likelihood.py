"""Estimate the likelihood of test images under an exported model by importance sampling.

log p(x) is estimated by log (1/S) sum_s w_s with w_s = p(x, z_s) / q(z_s | x), z_s ~ q(z | x); Burda et al.
2016. By Jensen's inequality the estimate falls short of log p(x) on average, less so with more samples.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.evaluation import saved_model
from schemas import PIXELS

SIGNATURE = "log_weight"
ROWS = 500
"""Images times samples in one call of the model, by default."""

Values = npt.NDArray[np.float64]
LogWeight = Callable[[Sequence[bytes], int], Values]
"""(serialized tf.Examples [B], seed) -> one log p(x, z) - log q(z|x) each, nats, [B]."""


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
    def bits_per_dimension(self) -> float:
        """Return the negative log-likelihood in bits per pixel."""
        return self.nll / (PIXELS * math.log(2.0))


def log_weight(model: str) -> LogWeight:
    """Return the log-weights of the SavedModel in folder `model`. Raises LikelihoodError."""
    if not tf.saved_model.contains_saved_model(model):
        raise LikelihoodError(
            f"{model} is not a SavedModel; give a folder that holds saved_model.pb, such as "
            "out/serving/<variant>/<version>"
        )
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
    signature = loaded.signatures[SIGNATURE]

    def call(examples: Sequence[bytes], seed: int) -> Values:
        outputs = signature(examples=tf.constant(list(examples)), seed=tf.constant(seed, tf.int32))
        weights: Values = outputs[SIGNATURE].numpy().astype(np.float64)
        return weights

    call.keep_alive = loaded  # type: ignore[attr-defined]  # a signature does not hold on to its variables
    return call


def estimate(
    weigh: LogWeight,
    examples: Sequence[bytes],
    *,
    samples: int,
    seed: int = 0,
    rows: int = ROWS,
    advance: Callable[[int], Any] = lambda done: None,
) -> Likelihood:
    """Estimate the negative log-likelihood of `examples` with `samples` importance samples per image.

    rows: images times samples in one call of `weigh`, which bounds the memory. seed: the calls take the seeds
    from `seed` up. advance: called with the images times samples done since the last call.
    Raises LikelihoodError for no images, fewer than one sample or row, and weights that are not numbers.
    """
    if not examples:
        raise LikelihoodError("there are no images to estimate the likelihood of; give at least 1")
    if samples < 1 or rows < 1:
        raise LikelihoodError(f"samples and rows must be at least 1, got {samples} and {rows}")
    bounds: list[Values] = []
    variances: list[Values] = []
    effective: list[Values] = []
    for start in range(0, len(examples), rows):
        batch = examples[start : start + rows]
        sums = Sums(len(batch))
        while sums.samples < samples:
            copies = min(max(rows // len(batch), 1), samples - sums.samples)
            weights = weigh(list(batch) * copies, seed).reshape(copies, len(batch))
            if not np.isfinite(weights).all():
                raise LikelihoodError(
                    "the model gives log-weights that are not finite, so it diverged in training; train it "
                    "again with a smaller learning rate"
                )
            sums.add(weights)
            seed += 1
            advance(copies * len(batch))
        bounds.append(sums.bound())
        variances.append(sums.variance())
        effective.append(sums.effective_samples())
    values, count = np.concatenate(bounds), len(examples)
    spread = float(values.std(ddof=1)) if count > 1 else math.nan
    return Likelihood(
        nll=-float(values.mean()),
        standard_error=spread / math.sqrt(count),
        sampling_error=math.sqrt(float(np.concatenate(variances).sum())) / count,
        effective_samples=float(np.median(np.concatenate(effective))),
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
