"""The sum over classes against explicit enumeration, and the evidence against quadrature."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, SIDE
from trainer import variants
from trainer.models import noise
from trainer.models.model import Batch
from trainer.variants.m2 import M2, balanced

SMALL = {"latent": 1, "hidden": 4, "labels": 20, "labelled_batch": 5, "dropout": 0.0}
SEED = tf.constant([3, 4])


def some_batch(count: int = 3) -> Batch:
    images = tf.cast(tf.random.stateless_uniform([count, SIDE, SIDE, 1], [1, 1]) < 0.2, tf.float32)
    return Batch(images, tf.range(count, dtype=tf.int64) % CLASSES)


@pytest.fixture
def model() -> M2:
    """Small, the class probabilities of its images far from uniform."""
    keras.utils.set_random_seed(0)
    model = variants.load("m2").build(SMALL)
    model.metrics_per_example(some_batch(), SEED, 1)
    model.initialise(lambda chosen: some_batch(len(chosen)), np.arange(40) % CLASSES, 0)
    kernel, bias = model.classifier_out.get_weights()
    model.classifier_out.set_weights([3 * kernel, bias])
    return model


def softplus(values: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, values)


def given_by_hand(model: M2, image: np.ndarray, digit: int, standard: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distortion and log p(z) - log q(z|x,y) of an image and class for samples [N, 1], and the exact rate."""
    [kernel, bias] = model.image_to_hidden.get_weights()
    hidden = softplus(image.ravel() @ kernel + bias + model.class_to_hidden.get_weights()[0][digit])
    kernel, bias = model.hidden_to_latent.get_weights()
    mean, log_var = np.split(hidden @ kernel + bias, 2)
    latents = mean + np.exp(log_var / 2) * standard
    kernel, bias = model.latent_to_decoder.get_weights()
    hidden = softplus(latents @ kernel + bias + model.class_to_decoder.get_weights()[0][digit])
    kernel, bias = model.decoder_to_pixels.get_weights()
    logits = hidden @ kernel + bias
    distortion = (softplus(logits) - image.ravel() * logits).sum(axis=1)
    log_ratio = 0.5 * (standard**2 + log_var - latents**2).sum(axis=1)
    rate = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum()
    return distortion, log_ratio, rate


def test_the_unlabelled_bound_is_the_sum_over_the_classes(model: M2) -> None:
    batch = some_batch()
    standard = noise.normal([3, 1], SEED).numpy()
    terms = model.terms(batch, SEED)
    for i in range(3):
        logits = model.logits(batch.images)[i].numpy().astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum()
        assert 0.12 < shares.max() < 0.99  # or the average would not differ from one class
        distortion = rate = 0.0
        for digit in range(CLASSES):
            image = batch.images[i].numpy().astype(np.float64)
            cost, _, divergence = given_by_hand(model, image, digit, standard[i][None])
            distortion += shares[digit] * cost[0]
            rate += shares[digit] * (divergence + math.log(shares[digit]) + math.log(CLASSES))
        assert float(terms.distortion[i]) == pytest.approx(distortion, rel=1e-5)
        assert float(terms.rate[i]) == pytest.approx(rate, rel=1e-4)


def test_the_importance_weights_average_to_the_evidence(model: M2) -> None:
    """p(x) = mean over the classes of the integral over z, by Gauss-Hermite around q(z|x,y)."""
    image, repeats = some_batch(1).images, 20_000
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    logs = []
    for digit in range(CLASSES):
        distortion, log_ratio, _ = given_by_hand(
            model, image[0].numpy().astype(np.float64), digit, nodes[:, None]
        )
        integrand = log_ratio - distortion
        peak = integrand.max()
        logs.append(peak + math.log((weights / weights.sum() * np.exp(integrand - peak)).sum()))
    evidence = np.logaddexp.reduce(logs) - math.log(CLASSES)
    many = Batch(tf.repeat(image, repeats, axis=0), tf.zeros([repeats], tf.int64))
    ratios = np.exp(model.log_weight(many, SEED).numpy().astype(np.float64) - evidence)
    error = 4.5 * ratios.std() / math.sqrt(repeats)
    assert abs(ratios.mean() - 1.0) < error < 0.2


def test_the_labels_of_the_batch_are_never_looked_at(model: M2) -> None:
    batch = some_batch()
    other = Batch(batch.images, (batch.labels + 1) % CLASSES)
    np.testing.assert_array_equal(model.objective(batch, SEED).loss, model.objective(other, SEED).loss)


def test_the_loss_is_the_bound_and_what_the_labelled_images_add(model: M2) -> None:
    objective, terms = model.objective(some_batch(), SEED), model.terms(some_batch(), SEED)
    labelled = objective.terms["labelled_bound"], objective.terms["labelled_cross_entropy"]
    added = model.config.labelled_weight * labelled[0] + model.config.alpha * labelled[1]
    np.testing.assert_allclose(objective.loss, terms.distortion + terms.rate + added, rtol=1e-5)


def test_dropout_is_training_noise_and_leaves_the_mean_of_the_hidden_layer() -> None:
    keras.utils.set_random_seed(0)
    model, images = variants.load("m2").build({**SMALL, "dropout": 0.5}), some_batch().images
    np.testing.assert_array_equal(model.logits(images), model.logits(images))
    assert (model.logits(images, SEED).numpy() != model.logits(images).numpy()).any()
    np.testing.assert_array_equal(model.logits(images, SEED), model.logits(images, SEED))
    kept = model.dropout(tf.ones([100, 500]), SEED).numpy()
    assert kept.mean() == pytest.approx(1.0, abs=5 / math.sqrt(kept.size))
    np.testing.assert_allclose(np.unique(kept), [0.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("count", [10, 100])
def test_the_labelled_images_are_balanced_and_depend_on_the_seed_alone(count: int) -> None:
    labels = np.random.default_rng(0).integers(0, CLASSES, 2_000)
    chosen = balanced(labels, count, seed=1)
    np.testing.assert_array_equal(np.bincount(labels[chosen], minlength=CLASSES), count // CLASSES)
    assert len(set(chosen)) == count
    np.testing.assert_array_equal(chosen, balanced(labels, count, seed=1))
    assert (chosen != balanced(labels, count, seed=2)).any()


def test_too_few_images_of_a_class_are_an_error_that_says_what_would_do() -> None:
    labels = np.repeat(np.arange(CLASSES), 7)
    with pytest.raises(ValueError, match="100 labels take 10 .* only 7; set labels to at most 70"):
        balanced(labels, 100, seed=0)


def test_training_keeps_the_labelled_images_it_was_given() -> None:
    model = variants.load("m2").build(SMALL)
    labels = np.repeat(np.arange(CLASSES), 3)
    pictures = tf.random.stateless_uniform([30, SIDE, SIDE, 1], [0, 0])
    model.initialise(lambda chosen: Batch(tf.gather(pictures, chosen), tf.gather(labels, chosen)), labels, 0)
    kept = model.labelled_images.numpy()
    np.testing.assert_array_equal(np.sort(model.labelled_classes), np.repeat(np.arange(CLASSES), 2))
    for image, digit in zip(kept, model.labelled_classes.numpy(), strict=True):
        assert any((image == pictures[i]).numpy().all() for i in np.flatnonzero(labels == digit))


def test_samples_go_through_the_classes_in_turn(model: M2) -> None:
    samples = model.sample(tf.constant(25), SEED).numpy()
    latents = tf.random.stateless_normal([25, 1], SEED).numpy()
    classes = np.eye(CLASSES, dtype=np.float32)[np.arange(25) % CLASSES]
    np.testing.assert_allclose(samples, model.decode(np.concatenate([classes, latents], axis=1)), atol=1e-6)
    other = model.decode(np.concatenate([np.roll(classes, 1, axis=0), latents], axis=1)).numpy()
    assert np.abs(samples - other).max() > 1e-3


def test_evaluation_has_the_metrics_of_both_families(model: M2) -> None:
    metrics = model.metrics_per_example(some_batch(), SEED, 2)
    assert {"elbo", "iwelbo", "accuracy", "cross_entropy"} <= set(metrics)
    assert metrics["latent_mean"].shape == [3, 1]


@pytest.mark.parametrize("labels", [0, 5, 101])
def test_labels_that_cannot_be_balanced_are_refused(labels: int) -> None:
    with pytest.raises(ValueError, match=f"labels must be a multiple of {CLASSES}.*got {labels}"):
        variants.load("m2").build({"labels": labels})
