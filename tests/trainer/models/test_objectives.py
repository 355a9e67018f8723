import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats

from trainer.models import objectives

ROUNDING = 1e-5
QUADRATURE = 1e-6


def kl_by_quadrature(mean: float, log_var: float) -> float:
    q, p = stats.norm(mean, math.exp(log_var / 2)), stats.norm()
    value, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -30, 30, limit=200)
    return value


@pytest.mark.parametrize(("mean", "log_var"), [(0.0, 0.0), (1.5, -2.0), (-0.3, 1.0)])
def test_standard_kl_is_the_integral_it_stands_for(mean: float, log_var: float) -> None:
    found = objectives.standard_kl(tf.constant([[mean]]), tf.constant([[log_var]])).numpy()
    np.testing.assert_allclose(found, [kl_by_quadrature(mean, log_var)], atol=QUADRATURE, rtol=1e-5)


def test_divergences_sum_over_the_latents() -> None:
    mean, log_var = tf.random.stateless_normal([2, 4, 3], [1, 3])
    separately = sum(objectives.standard_kl(mean[:, i : i + 1], log_var[:, i : i + 1]) for i in range(3))
    np.testing.assert_allclose(objectives.standard_kl(mean, log_var), separately, rtol=ROUNDING)


def test_uniform_kl_is_the_sum_it_stands_for() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    expected = (shares * np.log(shares * 3)).sum(axis=-1)
    np.testing.assert_allclose(objectives.uniform_kl(tf.constant(np.log(shares))), expected, atol=1e-12)


def test_log_normal_is_scipy_s() -> None:
    generator = np.random.default_rng(0)
    value, mean, log_var = generator.normal(size=(3, 6, 4)).astype(np.float32)
    expected = stats.norm(mean, np.exp(log_var / 2)).logpdf(value).sum(axis=-1)
    found = objectives.log_normal(tf.constant(value), tf.constant(mean), tf.constant(log_var))
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def test_bernoulli_distortion_is_minus_the_log_likelihood_of_the_image() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(scale=4.0, size=(3, 5, 5, 1)).astype(np.float32)
    images = (generator.random((3, 5, 5, 1)) < 0.4).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -stats.bernoulli(probability).logpmf(images).sum(axis=(1, 2, 3))
    found = objectives.bernoulli_distortion(tf.constant(images), tf.constant(logits))
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def test_bernoulli_distortion_stays_finite_at_extreme_logits() -> None:
    logits = tf.constant([[[[1e4]], [[-1e4]]]])
    wrong, right = tf.constant([[[[0.0]], [[1.0]]]]), tf.constant([[[[1.0]], [[0.0]]]])
    np.testing.assert_allclose(objectives.bernoulli_distortion(wrong, logits), [2e4])
    np.testing.assert_allclose(objectives.bernoulli_distortion(right, logits), [0.0], atol=1e-3)


def test_softplus_and_its_gradient_are_those_of_their_formulas() -> None:
    values = np.linspace(-110.0, 110.0, 20_001)
    with tf.GradientTape() as tape:
        inputs = tf.constant(values, tf.float32)
        tape.watch(inputs)
        found = objectives.softplus(inputs)
    np.testing.assert_allclose(found, np.logaddexp(0.0, values), rtol=ROUNDING, atol=1e-6)
    slope = np.exp(-np.logaddexp(0.0, -values))
    np.testing.assert_allclose(tape.gradient(found, inputs), slope, rtol=1e-5, atol=1e-6)


def test_importance_bound_is_the_log_of_the_mean_weight() -> None:
    log_weights = np.random.default_rng(2).normal(size=(7, 3))
    expected = np.log(np.exp(log_weights).mean(axis=0))
    np.testing.assert_allclose(objectives.importance_bound(tf.constant(log_weights)), expected, rtol=1e-12)


def test_importance_bound_of_very_small_weights_does_not_underflow() -> None:
    found = objectives.importance_bound(tf.constant([[-5000.0], [-5000.0]]))
    np.testing.assert_allclose(found, [-5000.0])


def test_reparameterised_samples_have_the_posterior_s_moments() -> None:
    count = 20_000
    mean, log_var = tf.fill([count, 1], 1.5), tf.fill([count, 1], -1.0)
    samples = objectives.reparameterise(mean, log_var, tf.constant([0, 1])).numpy()
    deviation = math.exp(-0.5)
    assert abs(samples.mean() - 1.5) < 4 * deviation / math.sqrt(count)
    assert abs(samples.std() - deviation) < 4 * deviation / math.sqrt(2 * count)


def test_reparameterised_samples_pass_gradients_to_mean_and_log_variance() -> None:
    mean, log_var = tf.constant([[0.3, -0.2]]), tf.constant([[0.4, -0.8]])
    with tf.GradientTape() as tape:
        tape.watch([mean, log_var])
        sample = objectives.reparameterise(mean, log_var, tf.constant([0, 1]))
    slopes = tape.gradient(sample, [mean, log_var])
    np.testing.assert_allclose(slopes[0], [[1.0, 1.0]])
    np.testing.assert_allclose(slopes[1], 0.5 * (sample - mean), rtol=ROUNDING)


@pytest.mark.parametrize(("least", "slope"), [(1.0, 0.5), (3.0, 0.0)])
def test_free_bits_charge_a_rate_only_above_their_number(least: float, slope: float) -> None:
    rate = tf.constant([1.0, 3.0])  # mean 2
    with tf.GradientTape() as tape:
        tape.watch(rate)
        paid = tf.reduce_mean(objectives.free_bits(rate, least))
    assert paid == max(2.0, least)
    np.testing.assert_allclose(tape.gradient(paid, rate), [slope, slope])


def test_repeated_examples_come_back_by_sample() -> None:
    values = tf.constant([1.0, 2.0, 3.0])
    copies = objectives.repeated(values, 2)
    np.testing.assert_array_equal(copies, [1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(objectives.by_sample(copies, 2), [[1, 2, 3], [1, 2, 3]])


def test_squared_error_averages_over_the_pixels_of_an_image() -> None:
    images = np.random.default_rng(3).random((2, 4, 4, 1))
    found = objectives.squared_error(tf.constant(images), tf.constant(images + 0.5))
    np.testing.assert_allclose(found, [0.25, 0.25])
