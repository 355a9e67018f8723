"""The VampPrior's densities beside SciPy's, and its bound beside quadrature."""

import math

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from scipy import special, stats

from schemas import SIDE
from trainer import variants
from trainer.models import objectives
from trainer.models.model import Batch
from trainer.variants.vamp import VampVae

COMPONENTS = 3
REPEATS = 20_000
NODES = 40

Floats = npt.NDArray[np.float64]


def images(count: int, seed: int = 1) -> tf.Tensor:
    return tf.cast(tf.random.stateless_uniform([count, SIDE, SIDE, 1], [seed, 1]) < 0.2, tf.float32)


def small(layers: int, latent: int) -> VampVae:
    """A model whose pseudo-inputs differ, with fresh weights."""
    keras.utils.set_random_seed(3)
    model = variants.load("vamp").build(
        {"layers": layers, "components": COMPONENTS, "latent": latent, "hidden": (5,)}
    )
    model.initialise(lambda chosen: Batch(images(len(chosen)), tf.zeros([len(chosen)])), np.zeros(9), 0)
    model.terms(Batch(images(1), tf.zeros([1])), tf.constant([0, 0]))
    model.decoder.set_weights([0.4 * weights for weights in model.decoder.get_weights()])
    return model


def doubles(pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a mean and a log-variance."""
    mean, log_var = (part.numpy().astype(np.float64) for part in pair)
    return mean, np.exp(log_var / 2)


def mixture(model: VampVae, latents: Floats) -> Floats:
    """log p(z) of the prior, [N]; latents: [N, D]."""
    means, deviations = doubles(model.components())
    each = stats.norm.logpdf(latents[:, None], means, deviations).sum(axis=-1)
    return np.asarray(special.logsumexp(each, axis=1)) - math.log(COMPONENTS)


def test_the_prior_is_the_mixture_of_the_posteriors_of_the_pseudo_inputs() -> None:
    model = small(1, 4)
    latents = np.random.default_rng(0).normal(size=(50, 4))
    found = model.log_prior(tf.constant(latents, tf.float32)).numpy()
    np.testing.assert_allclose(found, mixture(model, latents), rtol=1e-5)
    pseudo = tf.sigmoid(model.pseudo_logits)
    np.testing.assert_array_equal(model.components()[0], model.encode(pseudo)[:, -4:])


@pytest.mark.parametrize("layers", [1, 2])
def test_a_weight_is_the_ratio_of_the_densities_at_the_sampled_latents(layers: int) -> None:
    model, batch, seed = small(layers, 4), images(6), tf.constant([7, 8])
    latents = model.path(batch, seed).latents.numpy().astype(np.float64)
    top = latents[:, -4:]
    log_q = stats.norm.logpdf(top, *doubles(model.top(batch))).sum(axis=-1)
    log_p = mixture(model, top)
    if layers == 2:
        given = tf.constant(top, tf.float32)
        prior = tf.split(model.bottom_prior(given), 2, axis=-1)
        log_q += stats.norm.logpdf(latents[:, :4], *doubles(model.bottom(batch, given))).sum(axis=-1)
        log_p += stats.norm.logpdf(latents[:, :4], *doubles(tuple(prior))).sum(axis=-1)
    pixels = model.decode(tf.constant(latents, tf.float32)).numpy().astype(np.float64)
    log_p += stats.bernoulli.logpmf(batch.numpy(), pixels).sum(axis=(1, 2, 3))
    found = model.log_weight(Batch(batch, tf.zeros([6])), seed)
    np.testing.assert_allclose(found, log_p - log_q, rtol=1e-4)


def evidence(model: VampVae, image: tf.Tensor) -> float:
    """log p(x) of one image by Gauss-Hermite quadrature over each component of the prior; D = 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    means, deviations = doubles(model.components())
    top = (means + deviations * nodes).reshape(-1, 1)  # [K * N, 1]
    share = np.tile(weights, COMPONENTS) / COMPONENTS
    latents = top
    if model.two:
        prior = tf.split(model.bottom_prior(tf.constant(top, tf.float32)), 2, axis=-1)
        mean, deviation = doubles(tuple(prior))
        bottom = (mean + deviation * nodes).reshape(-1, 1)  # [K * N * N, 1]
        latents = np.concatenate([bottom, np.repeat(top, NODES, axis=0)], axis=1)
        share = (share[:, None] * weights).reshape(-1)
    logits = model.logits(tf.constant(latents, tf.float32))
    distortion = objectives.bernoulli_distortion(tf.repeat(image, len(latents), axis=0), logits)
    return float(special.logsumexp(-distortion.numpy().astype(np.float64), b=share))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_importance_weights_average_to_the_evidence_that_quadrature_gives(layers: int) -> None:
    model, image = small(layers, 1), images(1)
    exact = evidence(model, image)
    weights = model.log_weights(Batch(image, tf.zeros([1])), tf.constant([1, 2]), REPEATS)[:, 0]
    ratios = np.exp(weights.numpy().astype(np.float64) - exact)
    assert abs(ratios.mean() - 1.0) < 4.5 * ratios.std() / math.sqrt(REPEATS)
    assert weights.numpy().mean() < exact


@pytest.mark.parametrize("layers", [1, 2])
def test_latents_are_sampled_from_the_prior(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(layers, 2)
    monkeypatch.setattr(model, "decode", lambda latents: latents)
    top = model.sample(tf.constant(REPEATS), tf.constant([3, 4])).numpy()[:, -2:]
    means, deviations = doubles(model.components())
    variance = (deviations**2).mean(axis=0) + means.var(axis=0)
    error = 4.5 * np.sqrt(variance / REPEATS)
    np.testing.assert_array_less(np.abs(top.mean(axis=0) - means.mean(axis=0)), error)
    np.testing.assert_allclose(top.var(axis=0), variance, rtol=0.06)


def test_pseudo_inputs_begin_as_training_images_and_are_trained() -> None:
    model = small(2, 2)
    np.testing.assert_allclose(
        tf.sigmoid(model.pseudo_logits), 0.5 + 0.9 * (images(COMPONENTS) - 0.5), atol=1e-6
    )
    with tf.GradientTape() as tape:
        loss = model.objective(Batch(images(4), tf.zeros([4])), tf.constant([0, 1])).loss
    slopes = tape.gradient(loss, model.learned())
    assert all(slope is not None and bool(tf.reduce_any(slope != 0.0)) for slope in slopes)
    assert any(variable is model.pseudo_logits.value for variable in model.learned())
