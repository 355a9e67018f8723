import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer import variants
from trainer.models import noise
from trainer.models.model import Batch

SEED = tf.constant([2, 3])


@pytest.fixture
def batch() -> Batch:
    images = tf.random.stateless_uniform([3, SIDE, SIDE, 1], [1, 1])
    return Batch(images, tf.zeros([3], tf.int64))


def test_the_source_objective_is_the_book_s(batch: Batch) -> None:
    keras.utils.set_random_seed(0)
    model = variants.load("vae_conv").build({"objective": "source"})
    loss = model.objective(batch, SEED).loss
    mean, log_var = np.split(model.encoder(batch.images).numpy(), 2, axis=-1)
    latents = mean + np.exp(log_var) * noise.normal([3, 2], SEED).numpy()
    error = keras.losses.binary_crossentropy(batch.images, model.decode(tf.constant(latents)))
    divergence = -5e-4 * np.mean(1 + log_var - mean**2 - np.exp(log_var), axis=-1)
    np.testing.assert_allclose(loss, np.mean(error, axis=(1, 2)) + divergence, rtol=1e-5)


def test_the_source_s_weights_are_a_beta_of_0_392(batch: Batch) -> None:
    """A latent's KL, in the loss times PIXELS, against the same KL in nats."""
    model = variants.load("vae_conv").build({"objective": "source"})
    objective = model.objective(batch, SEED)
    weighted = PIXELS * (objective.loss - objective.terms["cross_entropy"])
    np.testing.assert_allclose(weighted / objective.terms["divergence"], 0.392, rtol=2e-2)


def test_the_reported_posterior_is_the_one_that_was_sampled(batch: Batch) -> None:
    model = variants.load("vae_conv").build({"objective": "source"})
    _, log_var = np.split(model.encoder(batch.images).numpy(), 2, axis=-1)
    np.testing.assert_allclose(model.posterior(batch.images)[1], 2 * log_var, rtol=1e-6)


def test_the_bound_is_the_default(batch: Batch) -> None:
    model = variants.load("vae_conv").build({})
    objective, terms = model.objective(batch, SEED), model.terms(batch, SEED)
    np.testing.assert_allclose(objective.loss, terms.distortion + terms.rate, rtol=1e-6)
