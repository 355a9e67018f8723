import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import SIDE
from trainer import variants
from trainer.models import objectives
from trainer.models.model import Batch
from trainer.variants.vqvae import GRID, REVIVED_BELOW, Codebook, VqVae

CELLS = GRID * GRID
SMALL = {"codes": 7, "width": 3, "prior_width": 8, "prior_blocks": 1, "prior_every": 1}
SEED = tf.constant([1, 2])


def some_batch(count: int = 4) -> Batch:
    images = tf.cast(tf.random.stateless_uniform([count, SIDE, SIDE, 1], [1, 1]) < 0.2, tf.float32)
    return Batch(images, tf.zeros([count], tf.int64))


def small(**config: object) -> VqVae:
    """A model whose codebook has seen data, so that several codes are in use."""
    keras.utils.set_random_seed(0)
    model = variants.load("vqvae").build({**SMALL, **config})
    model.initialise(lambda chosen: some_batch(len(chosen)), np.zeros(8, np.int64), 0)
    model.terms(some_batch(), SEED)
    return model


def gradient(model: VqVae, part: Callable[[], tf.Tensor]) -> list[np.ndarray]:
    """Of the batch mean of a value over the encoder's weights."""
    variables = [weight.value for weight in model.encoder.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(part())
    return [np.asarray(slope) for slope in tape.gradient(loss, variables)]


def test_every_vector_goes_to_the_nearest_code() -> None:
    book = Codebook(6, 3, decay=0.9)
    vectors = np.random.default_rng(0).normal(scale=0.1, size=(50, 3)).astype(np.float32)
    distances = ((vectors[:, None] - book.vectors.numpy()) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(book.nearest(tf.constant(vectors)), distances.argmin(axis=1))


def test_gradients_pass_the_quantiser_straight_through() -> None:
    """The encoder's gradient is the decoder's input gradient, as if the quantiser were not there."""
    model, batch = small(commitment=0.0), some_batch()
    chosen = tf.reshape(model.codebook.lookup(model.codes(model.encoder(batch.images))), [4, GRID, GRID, 3])
    with tf.GradientTape() as tape:
        tape.watch(chosen)
        loss = tf.reduce_mean(objectives.bernoulli_distortion(batch.images, model.decoder(chosen)))
    slope = tape.gradient(loss, chosen)
    assert np.abs(slope).max() > 1e-3
    variables = [weight.value for weight in model.encoder.trainable_variables]
    with tf.GradientTape() as tape:
        vectors = model.encoder(batch.images)
    expected = tape.gradient(vectors, variables, output_gradients=slope)
    found = gradient(model, lambda: model.objective(batch, SEED).loss)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_the_commitment_pulls_vectors_to_their_codes() -> None:
    model, batch = small(), some_batch()
    vectors = model.encoder(batch.images)
    chosen = tf.reshape(model.codebook.lookup(model.codes(vectors)), vectors.shape)
    expected = 0.25 * tf.reduce_sum(tf.square(vectors - chosen), axis=[1, 2, 3])
    objective = model.objective(batch, SEED)
    np.testing.assert_allclose(objective.terms["commitment"], expected, rtol=1e-5)
    parts = objective.terms["distortion"] + objective.terms["rate"] + expected
    np.testing.assert_allclose(objective.loss, parts, rtol=1e-5)


def test_the_codebook_follows_the_moving_averages() -> None:
    book = Codebook(3, 2, decay=0.9)
    start = np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]], np.float32)
    book.restart(tf.constant(start))
    share, sums = np.full(3, 1 / 3), start / 3
    generator = np.random.default_rng(1)
    for step in range(3):
        vectors = generator.normal(loc=0.5, size=(20, 2)).astype(np.float32)
        codes = generator.integers(0, 2, 20).astype(np.int32)  # never the third
        book.follow(tf.constant(vectors)[:, None], tf.constant(codes)[:, None], tf.constant([step, 0]))
        assigned = np.eye(3)[codes]
        share = 0.9 * share + 0.1 * assigned.mean(axis=0)
        sums = 0.9 * sums + 0.1 * assigned.T @ vectors / 20
    np.testing.assert_allclose(book.share, share, rtol=1e-5)
    np.testing.assert_allclose(book.vectors, sums / share[:, None], rtol=1e-4)
    np.testing.assert_allclose(book.vectors.numpy()[2], start[2], rtol=1e-5)  # unused, and not yet dead


def test_a_code_out_of_use_restarts_at_a_vector_of_the_batch() -> None:
    book = Codebook(3, 2, decay=0.5)
    book.restart(tf.constant([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0]]))
    vectors = tf.constant(np.random.default_rng(1).uniform(size=(20, 2)).astype(np.float32))
    steps = math.ceil(math.log(REVIVED_BELOW) / math.log(0.5))
    for step in range(steps):
        assert book.vectors.numpy()[2, 0] == pytest.approx(50.0)
        book.follow(vectors[:, None], book.nearest(vectors)[:, None], tf.constant([step, 0]))
    revived = book.vectors.numpy()[2]
    assert (np.abs(vectors.numpy() - revived).max(axis=1) < 1e-5).any()
    assert book.share.numpy()[2] == pytest.approx(1 / 3)
    assert (book.share.numpy()[:2] > 0.3).all()


def test_training_starts_from_codes_that_are_encoded_training_images() -> None:
    model = small()
    vectors = tf.reshape(model.encoder(some_batch(8).images), [-1, 3]).numpy()
    distances = np.abs(model.codebook.vectors.numpy()[:, None] - vectors).max(axis=-1)
    np.testing.assert_allclose(distances.min(axis=1), 0.0, atol=1e-6)


def test_evaluation_leaves_the_codebook_alone() -> None:
    model = small()
    before = [variable.numpy() for variable in model.state()]
    model.metrics_per_example(some_batch(), SEED, 2)
    for one, other in zip(before, model.state(), strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_the_rate_is_known_under_both_priors() -> None:
    model, batch = small(), some_batch()
    metrics = model.metrics_per_example(batch, SEED, 3)
    codes = tf.cast(model.encode(batch.images), tf.int32)
    np.testing.assert_allclose(metrics["rate"], -model.prior.log_prob(codes), rtol=1e-6)
    np.testing.assert_allclose(metrics["rate_uniform"], CELLS * math.log(7), rtol=1e-6)
    np.testing.assert_array_equal(metrics["iwelbo"], metrics["elbo"])
    counts = [np.bincount(row, minlength=7) for row in codes.numpy()]
    np.testing.assert_array_equal(metrics["codes"], counts)


def test_the_rate_trains_the_prior_and_nothing_else() -> None:
    model, batch = small(), some_batch()
    with tf.GradientTape() as tape:
        rate = model.objective(batch, SEED).terms["rate"]
    learned = model.learned()
    prior = {id(weight.value) for weight in model.prior.trainable_variables}
    for variable, slope in zip(learned, tape.gradient(rate, learned), strict=True):
        assert (slope is not None) == (id(variable) in prior)


def test_decoding_the_codes_gives_the_reconstruction_and_any_number_decodes() -> None:
    model, batch = small(), some_batch()
    codes = model.encode(batch.images)
    np.testing.assert_array_equal(model.decode(codes), model.reconstruct(batch.images))
    np.testing.assert_array_equal(model.decode(codes + 0.3), model.decode(codes))
    assert np.isfinite(model.decode(tf.fill([2, CELLS], 99.0))).all()


def test_the_source_objective_passes_nothing_through_the_quantiser_and_moves_the_codes_itself() -> None:
    model, batch = small(objective="source"), some_batch()
    found = gradient(model, lambda: model.objective(batch, SEED).loss)

    def commitment() -> tf.Tensor:
        vectors = model.encoder(batch.images)
        chosen = tf.reshape(model.codebook.lookup(model.codes(vectors)), vectors.shape)
        return 0.25 * tf.reduce_mean(tf.square(vectors - tf.stop_gradient(chosen)), axis=[1, 2, 3])

    for one, other in zip(found, gradient(model, commitment), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-8)
    assert any(variable is model.codebook.vectors.value for variable in model.learned())
    assert not any(variable is small().codebook.vectors.value for variable in small().learned())
