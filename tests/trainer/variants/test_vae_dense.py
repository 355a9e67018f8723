import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer import variants
from trainer.models import noise
from trainer.models.model import Batch

SEED = tf.constant([2, 3])
SMALL = {"hidden": 6, "latent": 4}


def grey_batch(count: int = 5) -> Batch:
    images = tf.random.stateless_uniform([count, SIDE, SIDE, 1], [1, 1])
    return Batch(images, tf.zeros([count], tf.int64))


def in_numpy(weights: list[np.ndarray], images: np.ndarray, standard: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, log-variance and pixel means of the 784-H-D-H-784 network, in double precision."""
    hidden = np.maximum(images.reshape(-1, PIXELS) @ weights[0] + weights[1], 0)
    mean, log_var = hidden @ weights[2] + weights[3], hidden @ weights[4] + weights[5]
    latents = mean + np.exp(log_var / 2) * standard
    logits = np.maximum(latents @ weights[6] + weights[7], 0) @ weights[8] + weights[9]
    return mean, log_var, 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("name", ["vae_dense", "vae_functional"])
def test_the_source_objective_averages_over_pixels_and_latents(name: str) -> None:
    keras.utils.set_random_seed(0)
    model, batch = variants.load(name).build({**SMALL, "objective": "source"}), grey_batch()
    loss = model.objective(batch, SEED).loss
    standard = noise.normal([5, 4], SEED).numpy()
    mean, log_var, means = in_numpy(model.get_weights(), batch.images.numpy(), standard)
    error = np.mean((batch.images.numpy().reshape(-1, PIXELS) - means) ** 2)
    divergence = -0.5 * np.mean(log_var - mean**2 - np.exp(log_var) + 1)
    assert np.mean(loss) == pytest.approx(error + divergence, rel=1e-5)


def test_the_kl_is_a_loss_that_the_layer_adds() -> None:
    model = variants.load("vae_dense").build(SMALL)
    batch = grey_batch()
    standard = tf.zeros([5, 4])
    for _ in range(2):  # a second call replaces the first one's loss
        model(batch.images, standard)
        [divergence] = model.losses
    rate = model.terms(batch, SEED).rate
    assert float(divergence) == pytest.approx(float(tf.reduce_mean(rate)), rel=1e-5)


@pytest.mark.parametrize("objective", ["elbo", "source"])
def test_the_subclassed_and_the_functional_vae_agree_with_the_same_weights(objective: str) -> None:
    batch, config = grey_batch(), {**SMALL, "objective": objective}
    layered, functional = (variants.load(name).build(config) for name in ("vae_dense", "vae_functional"))
    for model in (layered, functional):
        model.objective(batch, SEED)
    functional.set_weights(layered.get_weights())
    losses, gradients = [], []
    for model in (layered, functional):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.objective(batch, SEED).loss)
        losses.append(loss)
        gradients.append(tape.gradient(loss, model.learned()))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for metric, value in layered.metrics_per_example(batch, SEED, 3).items():
        other = functional.metrics_per_example(batch, SEED, 3)[metric]
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-5, err_msg=metric)


def test_an_unknown_objective_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="objective must be one of elbo, source, got 'bound'"):
        variants.load("vae_dense").build({"objective": "bound"})
