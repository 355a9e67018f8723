"""Log-densities, divergences and bounds, per example and in nats."""

import math

import tensorflow as tf

LOG_2PI = math.log(2.0 * math.pi)


def standard_kl(mean: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, exp(log_var)) || N(0, I)) in nats; [..., D] -> [...]. Kingma & Welling 2014, app. B."""
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, axis=-1)


def log_normal(value: tf.Tensor, mean: tf.Tensor | float, log_var: tf.Tensor | float) -> tf.Tensor:
    """log N(value; mean, exp(log_var)) summed over the last axis, in nats; [..., D] -> [...]."""
    log_var = tf.convert_to_tensor(log_var, value.dtype)
    terms = LOG_2PI + log_var + tf.square(value - mean) * tf.exp(-log_var)
    return -0.5 * tf.reduce_sum(terms, axis=-1)


def bernoulli_distortion(images: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-log p(images | logits) summed over pixels, in nats; both [..., H, W, C] -> [...].

    Images strictly between 0 and 1 give the cross-entropy, which is not a likelihood.
    """
    per_pixel = tf.nn.sigmoid_cross_entropy_with_logits(labels=images, logits=logits)
    return tf.reduce_sum(per_pixel, axis=[-3, -2, -1])


def importance_bound(log_weights: tf.Tensor) -> tf.Tensor:
    """log of the mean of K importance weights, in nats; [K, B] -> [B]. Burda et al. 2016, eq. 8."""
    samples = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
    return tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(samples)


def reparameterise(mean: tf.Tensor, log_var: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A sample of N(mean, exp(log_var)) that passes gradients to both; [B, D], seed int32 [2] -> [B, D]."""
    noise = tf.random.stateless_normal(tf.shape(mean), seed, dtype=mean.dtype)
    return mean + tf.exp(0.5 * log_var) * noise
