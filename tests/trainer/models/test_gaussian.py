"""The bounds on a linear-Gaussian model, whose log p(x) is known exactly."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from trainer.models import objectives
from trainer.models.gaussian import GaussianVae
from trainer.models.model import Batch

PIXELS, LATENT, VARIANCE = 4, 2, 0.5
REPEATS = 4_000


class LinearGaussian(GaussianVae):
    """z ~ N(0, I), x = W z + noise of VARIANCE; q(z|x) = N(A x, S I), near the posterior but not it."""

    def __init__(self, estimator: str = "analytic") -> None:
        self.weights_ = np.random.default_rng(5).normal(size=(PIXELS, LATENT)).astype(np.float32)
        precision = np.eye(LATENT) + self.weights_.T @ self.weights_ / VARIANCE
        self.covariance = np.linalg.inv(precision)
        gain = self.covariance @ self.weights_.T / VARIANCE
        self.gain = tf.constant(0.8 * gain, tf.float32)
        super().__init__(encoder=self.guess, decoder=None, latent=LATENT, estimator=estimator)

    def guess(self, images: tf.Tensor) -> tf.Tensor:
        mean = tf.matmul(tf.reshape(images, [-1, PIXELS]), self.gain, transpose_b=True)
        log_var = tf.math.log(tf.constant(np.diag(self.covariance), tf.float32)) + 0.3
        return tf.concat([mean, tf.zeros_like(mean) + log_var], axis=-1)

    def distortion(self, images: tf.Tensor, latents: tf.Tensor) -> tf.Tensor:
        mean = tf.matmul(latents, tf.constant(self.weights_), transpose_b=True)
        return -objectives.log_normal(tf.reshape(images, [-1, PIXELS]), mean, math.log(VARIANCE))

    def log_evidence(self, images: np.ndarray) -> np.ndarray:
        covariance = self.weights_ @ self.weights_.T + VARIANCE * np.eye(PIXELS)
        return stats.multivariate_normal(np.zeros(PIXELS), covariance).logpdf(images.reshape(-1, PIXELS))

    def exact_elbo(self, images: np.ndarray) -> np.ndarray:
        """log p(x) - KL(q || posterior), both Gaussian."""
        flat = images.reshape(-1, PIXELS)
        parameters = self.guess(tf.constant(images)).numpy().astype(np.float64)
        mean, variance = parameters[:, :LATENT], np.exp(parameters[:, LATENT:])
        posterior_mean = flat @ (self.covariance @ self.weights_.T / VARIANCE).T
        precision = np.linalg.inv(self.covariance)
        gap = mean - posterior_mean
        trace = variance @ np.diag(precision)
        log_ratio = np.log(np.linalg.det(self.covariance)) - np.log(variance).sum(axis=1)
        quadratic = np.einsum("bi,ij,bj->b", gap, precision, gap)
        return self.log_evidence(images) - 0.5 * (trace + quadratic - LATENT + log_ratio)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(3, 2, 2, 1)).astype(np.float32)


def many(images: np.ndarray) -> Batch:
    """Each image REPEATS times, so that one call gives that many independent estimates."""
    return Batch(tf.constant(np.repeat(images, REPEATS, axis=0)), tf.zeros([3 * REPEATS], tf.int64))


def mean_and_error(values: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the REPEATS estimates of each image: their mean, and four standard errors of it."""
    rows = values.numpy().astype(np.float64).reshape(3, REPEATS)
    return rows.mean(axis=1), 4 * rows.std(axis=1) / math.sqrt(REPEATS)


@pytest.mark.parametrize("estimator", ["analytic", "sampled"])
def test_both_estimators_of_the_rate_average_to_the_exact_bound(estimator: str, images: np.ndarray) -> None:
    model = LinearGaussian(estimator)
    terms = model.terms(many(images), tf.constant([1, 2]))
    found, error = mean_and_error(-(terms.distortion + terms.rate))
    assert (np.abs(found - model.exact_elbo(images)) < error).all()


def test_the_importance_weighted_bound_rises_from_the_elbo_to_the_evidence(images: np.ndarray) -> None:
    model = LinearGaussian()
    evidence, below = model.log_evidence(images), model.exact_elbo(images)
    below_error = np.zeros_like(below)
    for samples in (1, 2, 5, 20, 80):
        found, error = mean_and_error(model.importance_weighted(many(images), tf.constant([1, 2]), samples))
        assert (found > below - below_error - error).all(), samples
        assert (found < evidence + error).all(), samples
        below, below_error = found, error
    assert (np.abs(found - evidence) < 0.02).all()
    assert (model.exact_elbo(images) < evidence - 0.1).any()  # or the test would not tell the bounds apart


def test_one_importance_sample_is_the_elbo(images: np.ndarray) -> None:
    model = LinearGaussian("sampled")
    batch, seed = Batch(tf.constant(images), tf.zeros([3], tf.int64)), tf.constant([1, 2])
    terms = model.terms(batch, seed)
    np.testing.assert_allclose(
        model.importance_weighted(batch, seed, 1), -(terms.distortion + terms.rate), rtol=1e-5
    )


def test_the_mean_importance_weight_is_the_evidence(images: np.ndarray) -> None:
    model = LinearGaussian()
    weights = tf.exp(model.log_weight(many(images), tf.constant([3, 4])))
    found, error = mean_and_error(weights)
    assert (np.abs(found - np.exp(model.log_evidence(images))) < error).all()


def test_an_unknown_estimator_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="estimator must be one of analytic, sampled, got 'exact'"):
        LinearGaussian("exact")
