"""Binarization protocols: how grey images become what a model sees. Figures of two protocols do not compare.

threshold   pixel > 127 -> 1, else 0; done once, by Transform.
stochastic  one Bernoulli sample per image with the grey value as probability; done once, by Transform, with
            randomness that depends on the image's own bytes, so that a second run gives the same bits.
dynamic     Transform keeps grey values; training draws a new sample in every step (Burda et al. 2016), and
            evaluation uses the fixed sample of `stochastic`.
grey        no binarization; pixels in [0, 1].

`to_features` is Transform's half, and `to_images` is everybody else's.
"""

import tensorflow as tf

from schemas import SIDE
from trainer.models import noise


def to_features(raw: tf.Tensor, protocol: str) -> tf.Tensor:
    """Return what Transform stores, int64 [B, P] of 0/1 or 0..255, for grey values int32 [B, P] in 0..255."""
    if protocol == "threshold":
        return tf.cast(raw > 127, tf.int64)
    if protocol == "stochastic":
        return tf.cast(fixed_sample(tf.cast(raw, tf.float32) / 255.0), tf.int64)
    return tf.cast(raw, tf.int64)


def to_images(features: tf.Tensor, protocol: str, seed: tf.Tensor | None = None) -> tf.Tensor:
    """Return a model's images, float32 [B, SIDE, SIDE, 1] in [0, 1], for what Transform stored.

    features: [B, PIXELS] of any integer type. seed: int32 [2], a new one for each training step; None in
    evaluation, where a dynamic sample is fixed.
    """
    return tf.reshape(_values(features, protocol, seed), [-1, SIDE, SIDE, 1])


def _values(features: tf.Tensor, protocol: str, seed: tf.Tensor | None) -> tf.Tensor:
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
    """Return a Bernoulli sample of probabilities [B, P], float32; an image always gives the same sample.

    The uniform number of pixel j is a hash of (the whole image, j), mixed as in MurmurHash3's finaliser, so
    that images may come in any order and batch.
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
