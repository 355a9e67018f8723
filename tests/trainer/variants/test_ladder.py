"""The ladder's bounds, against densities written out with SciPy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from schemas import PIXELS, SIDE
from trainer import variants
from trainer.models import annealing
from trainer.models.model import Batch
from trainer.variants.ladder import Ladder, Place

SEED = tf.constant([1, 2])
SMALL = {"vectors": (3, 2), "coarse": (2,), "fine": (1,), "width": 4}


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    """A small ladder whose heads are not at zero, so that posteriors are not their priors."""
    keras.utils.set_random_seed(0)
    model = variants.load("ladder").build(SMALL)
    model.terms(batch(), SEED)
    dice = np.random.default_rng(0)
    for weight in model.learned():
        weight.assign_add(dice.normal(0, 0.1, weight.shape))
    assert isinstance(model, Ladder)
    return model


def batch(count: int = 3) -> Batch:
    pixels = np.random.default_rng(1).random([count, SIDE, SIDE, 1]) < 0.3
    return Batch(tf.constant(pixels, tf.float32), tf.zeros([count], tf.int64))


def parameters(model: Ladder, images: tf.Tensor, standard: tf.Tensor) -> list[tuple[np.ndarray, ...]]:
    """Latent, prior's and posterior's means and deviations of each rung on the way down."""
    features = model.features(images)
    read = (features.vector, features.coarse, features.fine)
    found = []

    def choose(place: Place, hidden: tf.Tensor) -> tf.Tensor:
        rung, drawn = place.rung, place.part(standard)
        mean, deviation = rung.placed(hidden, 0.0 * drawn), rung.placed(hidden, tf.ones_like(drawn))
        deviation -= mean
        shift, log_ratio = rung.corrected(hidden, read[place.level])
        own_mean, own_deviation = mean + deviation * shift, deviation * tf.exp(log_ratio)
        latent = own_mean + own_deviation * drawn
        found.append(
            tuple(x.numpy().reshape(len(x), -1) for x in (latent, mean, deviation, own_mean, own_deviation))
        )
        return latent

    model.descend(tf.shape(standard)[0], choose)
    return found


def test_the_weight_is_the_ratio_of_the_joint_density_to_the_posterior(ladder: Ladder) -> None:
    images = batch().images
    standard = tf.random.stateless_normal([3, ladder.latent], SEED)
    descent = ladder.infer(standard, ladder.features(images))
    expected = np.zeros(3)
    for latent, mean, deviation, own_mean, own_deviation in parameters(ladder, images, standard):
        expected += stats.norm.logpdf(latent, mean, deviation).sum(axis=1)
        expected -= stats.norm.logpdf(latent, own_mean, own_deviation).sum(axis=1)
    np.testing.assert_allclose(descent.log_ratio, expected, rtol=1e-3, atol=1e-3)


def test_a_layer_s_rate_is_the_divergence_of_two_normal_distributions(ladder: Ladder) -> None:
    images = batch().images
    standard = tf.random.stateless_normal([3, ladder.latent], SEED)
    found = ladder.infer(standard, ladder.features(images)).divergences.numpy()
    for place, (_, mean, deviation, own_mean, own_deviation) in enumerate(
        parameters(ladder, images, standard)
    ):
        ratio = (own_deviation / deviation) ** 2
        each = 0.5 * (ratio - 1.0 - np.log(ratio) + ((own_mean - mean) / deviation) ** 2)
        np.testing.assert_allclose(found[:, place], each.sum(axis=1), rtol=1e-3, atol=1e-4)


def test_before_training_every_posterior_is_its_prior() -> None:
    keras.utils.set_random_seed(0)
    model = variants.load("ladder").build(SMALL)
    assert isinstance(model, Ladder)
    assert np.abs(model.terms(batch(), SEED).rate).max() == 0.0


def test_the_bounds_agree_on_average(ladder: Ladder) -> None:
    one = batch(1)
    many = Batch(tf.repeat(one.images, 4_000, axis=0), tf.repeat(one.labels, 4_000))
    terms = ladder.terms(many, SEED)
    elbo = -(terms.distortion + terms.rate).numpy()
    weights = ladder.log_weights(one, tf.constant([5, 6]), 4_000).numpy()[:, 0]
    error = np.sqrt(elbo.var() / len(elbo) + weights.var() / len(weights))
    assert abs(elbo.mean() - weights.mean()) < 4 * error


def test_images_are_encoded_once_for_all_samples(ladder: Ladder) -> None:
    images = batch().images
    features = ladder.features(images)
    standard = tf.random.stateless_normal([3 * 2, ladder.latent], SEED)
    together = ladder.infer(standard, features, 2)
    apart = ladder.infer(standard, ladder.features(tf.repeat(images, 2, axis=0)))
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_a_prefix_of_all_layers_is_the_decoded_image_and_a_shorter_one_is_not(ladder: Ladder) -> None:
    images = batch().images
    latents = ladder.encode(images)
    prefixes = [ladder.prefix(latents, kept).numpy() for kept in range(len(ladder.rungs) + 1)]
    np.testing.assert_array_equal(prefixes[-1], ladder.decode(latents))
    assert all(np.abs(one - other).max() > 0 for one, other in itertools.pairwise(prefixes))
    assert np.abs(prefixes[0] - prefixes[0][:1]).max() == 0, "without latents all images are the same"


def test_the_warm_up_charges_upper_layers_less(ladder: Ladder) -> None:
    full = ladder.objective(batch(), SEED)
    with annealing.warming(tf.constant(0.0)):
        first = ladder.objective(batch(), SEED)
    rates = [full.terms[f"rate_z{place}"].numpy() for place in (1, 2, 3, 4)]
    expected = 0.1 * rates[0] + 0.1 * rates[1] + 0.5 * rates[2] + rates[3]
    np.testing.assert_allclose(first.loss - first.terms["distortion"], expected, rtol=1e-4)
    np.testing.assert_allclose(full.loss - full.terms["distortion"], sum(rates), rtol=1e-4)


def test_the_default_has_the_size_it_is_described_with() -> None:
    keras.utils.set_random_seed(0)
    model = variants.load("ladder").build({})
    assert isinstance(model, Ladder)
    assert model.latent == 16 + 16 + 49 * 8 + 49 * 8 + 196 * 2
    assert model.decode(model.encode(tf.zeros([2, SIDE, SIDE, 1]))).shape == [2, SIDE, SIDE, 1]
    assert int(np.prod(model.decode(model.encode(tf.zeros([1, SIDE, SIDE, 1]))).shape)) == PIXELS


@pytest.mark.parametrize(("field", "value"), [("vectors", []), ("coarse", [0]), ("start", [0.1, 2.0, 1.0])])
def test_settings_that_make_no_ladder_are_refused(field: str, value: list[float]) -> None:
    with pytest.raises(ValueError, match=field):
        variants.load("ladder").config({field: value})
