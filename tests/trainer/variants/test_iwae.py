import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import SIDE
from trainer import variants
from trainer.models import objectives
from trainer.models.model import Batch
from trainer.variants.iwae import Iwae

SMALL = {"hidden": (4,), "latent": 2, "samples": 4}
SEEDS = 300


def model_with(**config: object) -> Iwae:
    """The same weights for every config; a posterior far from the prior, so that weights differ."""
    keras.utils.set_random_seed(0)
    model = variants.load("iwae").build({**SMALL, **config})
    model.objective(some_batch(), tf.constant([0, 0]))
    return model


def some_batch(count: int = 8) -> Batch:
    images = tf.cast(tf.random.stateless_uniform([count, SIDE, SIDE, 1], [1, 1]) < 0.2, tf.float32)
    return Batch(images, tf.zeros([count], tf.int64))


def gradients(model: Iwae, batch: Batch, seed: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.objective(batch, seed).loss)
    return tape.gradient(loss, model.learned())


def test_the_plain_gradient_weighs_each_sample_by_its_share() -> None:
    """Burda et al. 2016, eq. 14: the gradient of sum_k v_k log w_k with the shares v held fixed."""
    model, batch, seed = model_with(gradient="plain"), some_batch(), tf.constant([1, 2])
    with tf.GradientTape() as tape:
        log_weights = model.log_weights(batch, seed, 4)
        weights = np.exp(log_weights - np.max(log_weights, axis=0))
        shares = tf.constant(weights / weights.sum(axis=0))
        weighted = -tf.reduce_mean(tf.reduce_sum(shares * log_weights, axis=0))
    for expected, found in zip(
        tape.gradient(weighted, model.learned()), gradients(model, batch, seed), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_both_estimators_report_the_bound_and_move_the_decoder_alike() -> None:
    plain, dreg, batch, seed = model_with(gradient="plain"), model_with(), some_batch(), tf.constant([1, 2])
    bound = plain.importance_weighted(batch, seed, 4)
    for model in (plain, dreg):
        np.testing.assert_allclose(model.objective(batch, seed).loss, -bound, rtol=1e-6)
    decoders = [gradients(model, batch, seed)[-4:] for model in (plain, dreg)]
    for one, other in zip(*decoders, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_the_doubly_reparameterised_gradient_is_unbiased_and_varies_less() -> None:
    batch = some_batch()
    steps = [
        tf.function(lambda seed, model=model: gradients(model, batch, seed)[2:4])
        for model in (model_with(), model_with(gradient="plain"))
    ]
    draws = np.array(
        [
            [np.concatenate([np.ravel(part) for part in step(tf.constant([7, i]))]) for step in steps]
            for i in range(SEEDS)
        ]
    )  # [SEEDS, 2, parameters of the encoder's last layer]
    gap = draws[:, 0] - draws[:, 1]
    error = gap.std(axis=0) / math.sqrt(SEEDS)
    assert (np.abs(gap.mean(axis=0)) < 4.5 * error).all()
    assert (np.abs(draws.mean(axis=(0, 1))) > 10 * error).any()  # or zero would pass as unbiased
    assert draws[:, 0].var(axis=0).sum() < draws[:, 1].var(axis=0).sum()


def test_one_sample_is_the_sampled_elbo() -> None:
    model, batch, seed = model_with(samples=1), some_batch(), tf.constant([1, 2])
    model.estimator = "sampled"
    terms = model.terms(batch, seed)
    np.testing.assert_allclose(model.objective(batch, seed).loss, terms.distortion + terms.rate, rtol=1e-5)


def test_no_weight_mixes_two_images() -> None:
    model, batch, seed = model_with(), some_batch(), tf.constant([1, 2])
    other = Batch(tf.concat([batch.images[:1], 1.0 - batch.images[1:]], axis=0), batch.labels)
    one, two = model.objective(batch, seed).loss.numpy(), model.objective(other, seed).loss.numpy()
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    assert (one[1:] != two[1:]).all()


def test_the_source_objective_mixes_images_in_its_groups() -> None:
    model, batch, seed = model_with(objective="source"), some_batch(), tf.constant([1, 2])
    terms = model.terms(batch, seed)
    log_weights = -(terms.distortion + terms.rate).numpy().reshape(2, 4)
    shares = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        model.objective(batch, seed).loss, -(shares * log_weights).sum(axis=1), rtol=1e-5
    )


def test_the_bound_is_the_mean_of_repeated_images() -> None:
    """The base class repeats the image itself, this one only its posterior: the same numbers."""
    model, batch, seed = model_with(), some_batch(), tf.constant([1, 2])
    repeated = Batch(tf.repeat(batch.images, 4, axis=0), tf.repeat(batch.labels, 4))
    log_weights = tf.reshape(model.log_weight(repeated, seed), [-1, 4])
    expected = objectives.importance_bound(tf.transpose(log_weights))
    np.testing.assert_allclose(model.importance_weighted(batch, seed, 4), expected, rtol=1e-5)
