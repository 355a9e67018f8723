import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer import variants
from trainer.loop.data import Examples
from trainer.loop.fit import fit
from trainer.models.model import Batch
from trainer.variants.aae import AdversarialAutoencoder

SMALL = {"latent": 2, "hidden": (6,), "discriminator": (5,)}
MOVED = {
    "reconstruction": {"encoder", "decoder"},
    "discriminator": {"discriminator"},
    "encoder": {"encoder"},
}


@pytest.fixture
def examples() -> Examples:
    generator = np.random.default_rng(0)
    pixels = (generator.random((64, PIXELS)) < 0.2).astype(np.uint8)
    return Examples(pixels, np.zeros(64, np.int64))


def snapshot(model: AdversarialAutoencoder) -> dict[str, list[np.ndarray]]:
    return {name: getattr(model, name).get_weights() for name in ("encoder", "decoder", "discriminator")}


@pytest.mark.parametrize("name", MOVED)
def test_each_update_moves_only_its_own_weights(name: str, examples: Examples) -> None:
    keras.utils.set_random_seed(0)
    variant = variants.load("aae")
    model = variant.build(SMALL)
    batch = Batch(tf.zeros([2, SIDE, SIDE, 1]), tf.zeros([2], tf.int64))
    phases = model.phases()
    for phase in phases:
        phase.objective(batch, tf.constant([0, 0]))
    before = snapshot(model)
    model.phases = lambda: [phase for phase in phases if phase.name == name]
    recipe = variant.recipe.with_overrides({"batch_size": 8, "learning_rate": 1e-2})
    fit(model, examples, recipe=recipe, steps=2, protocol="threshold", seed=0, name="aae")
    moved = {
        network
        for network, weights in snapshot(model).items()
        if any((one != other).any() for one, other in zip(weights, before[network], strict=True))
    }
    assert moved == MOVED[name]


def test_the_encoder_s_noise_has_a_floor_and_is_free_above_it() -> None:
    model = variants.load("aae").build({**SMALL, "least_log_var": -3.0})
    images = tf.ones([1, SIDE, SIDE, 1])
    model.posterior(images)
    kernel, _ = model.encoder.layers[-1].get_weights()
    found = []
    for log_var in (-50.0, -3.0, 4.0):
        model.encoder.layers[-1].set_weights([0 * kernel, np.array([0, 0, log_var, log_var], np.float32)])
        found.append(model.posterior(images)[1].numpy()[0, 0])
    np.testing.assert_allclose(found, [-3.0, -3.0 + np.log(2.0), 4.0 + np.log1p(np.exp(-7.0))], rtol=1e-5)


def test_the_discriminator_s_losses_are_the_two_cross_entropies() -> None:
    model = variants.load("aae").build(SMALL)
    batch = Batch(tf.ones([4, SIDE, SIDE, 1]), tf.zeros([4], tf.int64))
    seed = tf.constant([1, 2])
    encoded = model.encoded(batch, seed)
    prior = tf.random.stateless_normal([4, 2], seed + tf.constant([0, 1]))
    probability = tf.sigmoid(model.discriminator(encoded)).numpy()[:, 0]
    real = tf.sigmoid(model.discriminator(prior)).numpy()[:, 0]
    expected = -0.5 * (np.log(real) + np.log(1 - probability))
    np.testing.assert_allclose(model.discriminate(batch, seed).loss, expected, rtol=1e-5)
    np.testing.assert_allclose(model.deceive(batch, seed).loss, -np.log(probability), rtol=1e-5)
