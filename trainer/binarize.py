"""Binarization protocols: how grey images become what a model sees; never compare figures across them.

threshold   pixel > 127 -> 1, else 0; done once, by Transform.
stochastic  one Bernoulli sample an image with the grey value as probability; done once, by Transform, with
            randomness that depends on the image's own bytes, so that a second run gives the same bits.
dynamic     Transform keeps grey values; training draws a new sample every step (Burda et al., 2016), and
            evaluation uses the fixed sample of `stochastic`.
grey        no binarization; pixels in [0, 1].
"""

import tensorflow as tf

from trainer.models import noise


def to_features(raw: tf.Tensor, protocol: str) -> tf.Tensor:
    """Raw grey values, int32 [B, P] in 0..255 -> what Transform stores, int64 [B, P]: 0/1, or 0..255."""
    if protocol == "threshold":
        return tf.cast(raw > 127, tf.int64)
    if protocol == "stochastic":
        return tf.cast(fixed_sample(tf.cast(raw, tf.float32) / 255.0), tf.int64)
    return tf.cast(raw, tf.int64)


def to_inputs(features: tf.Tensor, protocol: str, seed: tf.Tensor | None = None) -> tf.Tensor:
    """What Transform stored, any integer type [B, P] -> model inputs, float32 [B, P] in [0, 1].

    seed: int32 [2], a new one each training step; None in evaluation, where a dynamic sample is fixed.
    """
    values = tf.cast(features, tf.float32)
    if protocol in ("threshold", "stochastic"):
        return values
    grey = values / 255.0
    if protocol == "grey":
        return grey
    if seed is None:
        return fixed_sample(grey)
    return tf.cast(noise.uniform(tf.shape(grey), seed) < grey, tf.float32)


def fixed_sample(grey: tf.Tensor) -> tf.Tensor:
    """Bernoulli sample of [B, P] probabilities, float32; the same image always gives the same sample.

    The uniform of pixel j is a hash of (the whole image, j), mixed as in MurmurHash3's finaliser, so that
    images may come in any order and batch.
    """
    grey = tf.convert_to_tensor(grey)
    positions = tf.range(tf.shape(grey)[1], dtype=tf.int64)
    values = tf.cast(tf.round(grey * 255.0), tf.int64)
    digest = tf.reduce_sum(_mix(values + (positions + 1) * 257), axis=1, keepdims=True)  # [B, 1]
    bits = _mix(_mix(digest) + positions * 0x9E3779B1)  # [B, P]
    uniform = tf.cast(bits & 0xFFFFFF, tf.float32) / float(1 << 24)
    return tf.cast(uniform < grey, tf.float32)


def _mix(bits: tf.Tensor) -> tf.Tensor:
    """Scatter the low 32 bits of an int64 tensor over 0 .. 2**32 - 1."""
    bits &= 0xFFFFFFFF
    bits ^= tf.bitwise.right_shift(bits, tf.constant(16, tf.int64))
    bits = (bits * 0x45D9F3B) & 0xFFFFFFFF
    bits ^= tf.bitwise.right_shift(bits, tf.constant(16, tf.int64))
    bits = (bits * 0x45D9F3B) & 0xFFFFFFFF
    return bits ^ tf.bitwise.right_shift(bits, tf.constant(16, tf.int64))
