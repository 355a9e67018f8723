"""The two-layer bound on a model small enough for Gauss-Hermite quadrature."""

import math
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import SIDE
from trainer import variants
from trainer.models import objectives
from trainer.models.model import Batch
from trainer.variants.hvae import HierarchicalVae

REPEATS = 20_000
NODES = 60


class Quadrature(NamedTuple):
    """Nodes of a standard normal and what they weigh; weights sum to one."""

    nodes: np.ndarray
    weights: np.ndarray


def hermite() -> Quadrature:
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return Quadrature(nodes, weights / weights.sum())


def tiny(objective: str) -> HierarchicalVae:
    """One latent a layer, each depending on the other; variances fixed, so that quadrature is exact."""
    keras.utils.set_random_seed(3)
    model = variants.load("hvae").build({"latents": (1, 1), "hidden": (3, 3), "objective": objective})
    model.terms(one_image(1), tf.constant([0, 0]))
    for network, log_var in (
        (model.bottom_posterior, 0.3),
        (model.top_posterior, 0.2),
        (model.bottom_prior, -0.3),
    ):
        kernel, bias = network.layers[-1].get_weights()
        kernel[:, 1], bias[1] = 0.0, log_var
        network.layers[-1].set_weights([kernel, bias])
    model.decoder.set_weights([0.4 * w for w in model.decoder.get_weights()])
    return model


def one_image(count: int) -> Batch:
    image = tf.cast(tf.random.stateless_uniform([1, SIDE, SIDE, 1], [1, 1]) < 0.2, tf.float32)
    return Batch(tf.repeat(image, count, axis=0), tf.zeros([count], tf.int64))


def gaussian(network: keras.Layer, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log-variance that a net gives for scalar inputs [N], [N] each."""
    found = network(tf.constant(inputs.reshape(-1, 1), tf.float32)).numpy().astype(np.float64)
    return found[:, 0].reshape(inputs.shape), found[:, 1].reshape(inputs.shape)


def log_normal(value: np.ndarray, mean: np.ndarray | float, log_var: np.ndarray | float) -> np.ndarray:
    return -0.5 * (math.log(2 * math.pi) + log_var + (value - mean) ** 2 * np.exp(-log_var))


def log_likelihood(model: HierarchicalVae, bottom: np.ndarray) -> np.ndarray:
    """log p(x|z1) of the one image, for z1 of any shape."""
    flat = tf.constant(bottom.reshape(-1, 1), tf.float32)
    images = one_image(bottom.size).images
    logits = model.decoder(flat)
    return -objectives.bernoulli_distortion(images, logits).numpy().reshape(bottom.shape).astype(np.float64)


def exact(model: HierarchicalVae) -> tuple[float, float]:
    """log p(x) and the bound, by quadrature over both layers."""
    nodes, weights = hermite()
    joint = weights[:, None] * weights[None, :]

    mean, log_var = gaussian(model.bottom_prior, nodes)  # of z1 for each z2 of the prior
    bottom = mean[:, None] + np.exp(log_var / 2)[:, None] * nodes
    likelihood = log_likelihood(model, bottom)
    peak = likelihood.max()
    log_evidence = peak + math.log((joint * np.exp(likelihood - peak)).sum())

    parameters = model.bottom_posterior(one_image(1).images).numpy()[0].astype(np.float64)
    z1 = parameters[0] + np.exp(parameters[1] / 2) * nodes  # [N]
    top_mean, top_log_var = gaussian(model.top_posterior, z1)
    z2 = top_mean[:, None] + np.exp(top_log_var / 2)[:, None] * nodes  # [N, N], rows by z1
    prior_mean, prior_log_var = gaussian(model.bottom_prior, z2)
    log_q = log_normal(z1, *parameters)[:, None] + log_normal(z2, top_mean[:, None], top_log_var[:, None])
    if model.source:
        fresh = prior_mean[..., None] + np.exp(prior_log_var / 2)[..., None] * nodes
        reconstruction = (log_likelihood(model, fresh) * weights).sum(axis=-1)
        log_p = log_normal(z1, 0.0, 0.0)[:, None] + log_normal(z2, 0.0, 0.0)
    else:
        reconstruction = log_likelihood(model, z1)[:, None]
        log_p = log_normal(z1[:, None], prior_mean, prior_log_var) + log_normal(z2, 0.0, 0.0)
    return log_evidence, float((joint * (reconstruction + log_p - log_q)).sum())


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean, and four and a half standard errors of it."""
    return float(values.mean()), 4.5 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("objective", ["elbo", "source"])
def test_the_terms_average_to_the_bound_that_quadrature_gives(objective: str) -> None:
    model = tiny(objective)
    evidence, bound = exact(model)
    terms = model.terms(one_image(REPEATS), tf.constant([1, 2]))
    found, error = mean_and_error(-(terms.distortion + terms.rate).numpy().astype(np.float64))
    assert abs(found - bound) < error
    assert bound < evidence
    weights = model.log_weight(one_image(REPEATS), tf.constant([5, 2])).numpy().astype(np.float64)
    found, error = mean_and_error(weights)
    assert abs(found - bound) < error


@pytest.mark.parametrize("objective", ["elbo", "source"])
def test_the_importance_weights_average_to_the_evidence_that_quadrature_gives(objective: str) -> None:
    model = tiny(objective)
    evidence, bound = exact(model)
    log_weights = model.log_weight(one_image(REPEATS), tf.constant([1, 2])).numpy().astype(np.float64)
    found, error = mean_and_error(np.exp(log_weights - evidence))
    assert abs(found - 1.0) < error
    assert error < 0.2  # or the weights vary so much that nothing has been shown
    assert evidence - bound > 0.05


def test_training_charges_the_bound_unless_a_layer_is_below_its_free_nats() -> None:
    batch, seed = one_image(4), tf.constant([1, 2])
    charged = tiny("elbo")
    charged.free_nats = 0.0
    terms = charged.terms(batch, seed)
    np.testing.assert_allclose(charged.objective(batch, seed).loss, terms.distortion + terms.rate, rtol=1e-5)
    free = tiny("elbo")
    free.free_nats = 1e6
    np.testing.assert_allclose(free.objective(batch, seed).loss, terms.distortion + 2e6, rtol=1e-6)


def test_samples_are_drawn_from_the_top_down() -> None:
    """Their mean is the expectation of p(x|z1) over p(z2) p(z1|z2), by quadrature."""
    model = tiny("elbo")
    nodes, weights = hermite()
    mean, log_var = gaussian(model.bottom_prior, nodes)
    bottom = mean[:, None] + np.exp(log_var / 2)[:, None] * nodes
    images = model.decode(tf.constant(bottom.reshape(-1, 1), tf.float32)).numpy()
    joint = (weights[:, None] * weights[None, :]).reshape(-1, 1, 1, 1)
    samples = model.sample(tf.constant(REPEATS), tf.constant([1, 2])).numpy()
    error = samples.std(axis=0) / math.sqrt(REPEATS)
    assert (np.abs(samples.mean(axis=0) - (joint * images).sum(axis=0)) < 5 * error + 1e-4).all()


def test_both_layers_are_among_the_units_that_evaluation_counts() -> None:
    model = variants.load("hvae").build({"latents": (3, 2), "hidden": (4, 4)})
    metrics = model.metrics_per_example(one_image(2), tf.constant([0, 0]), 2)
    assert metrics["latent_mean"].shape == [2, 5]
    assert model.encode(one_image(2).images).shape == [2, 3]
