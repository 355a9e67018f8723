"""VAE with a VampPrior, in one or two layers: the prior is a mixture of posteriors of learned pseudo-inputs.

p(z) = mean over k of q(z|u_k), where the pseudo-inputs u_k are images that training changes, so that the
prior goes where the posteriors are. They start as training images, and are sigmoids of free numbers, so that
they stay images. With two layers, z2 has that prior and z1 a Gaussian one given z2; both reach the decoder,
and q(z2|x) q(z1|x, z2) infers them. Hidden layers are gated: a linear layer times the sigmoid of another. As
the prior is a mixture, rates are estimated at the sampled latents.

Measured: test ELBO -106.7 ± 0.7 nats (threshold, quick, one seed); with one layer -107.6.
Run: latentline run --variants vamp --protocol dynamic --profile full
Source: Tomczak & Welling 2018, "VAE with a VampPrior", with 500 pseudo-inputs and layers of 300 units.
Published: test NLL 83.19 nats (two layers, static binarization), 81.09 for a convolutional one.
"""

import dataclasses

from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=1_500, full=46_875),
    floor=Budget(smoke=-540.0, quick=-135.0, full=-105.0),
    learning_rate=1e-3,
    warm_up=50,
    decay="cosine",
    cores=2,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The prior and the networks.

    Attributes:
      layers: stochastic layers, 1 or 2.
      components: pseudo-inputs, which are the components of the prior.
      latent: dimensions of each layer's latent vector.
      hidden: widths of the gated layers of every network; the decoder's are the same in reverse.
    """

    layers: int = 2
    components: int = 200
    latent: int = 40
    hidden: tuple[int, ...] = (300, 300)

    def __post_init__(self) -> None:
        checks.one_of("layers", self.layers, (1, 2))
        checks.at_least(1, components=self.components, latent=self.latent)
        checks.widths("hidden", self.hidden)


# The model: only a process that builds it runs the file from here on.
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from schemas import PIXELS, SIDE
from trainer.models import nets, objectives
from trainer.models.model import Batch, GenerativeModel, Terms

BOTTOM = tf.constant([0, 1])
"""Added to the seed of z2 to give that of z1."""
CONTRAST = 0.9
"""Of the first pseudo-inputs: training images, drawn towards the middle, where sigmoids learn."""


class Path(NamedTuple):
    """A sample of all latents of an image, and what it costs."""

    latents: tf.Tensor  # [B, D] or [B, 2 D], z1 before z2
    rate: tf.Tensor  # [B], log q - log p at the sample, nats


class VampVae(GenerativeModel):
    """One or two Gaussian layers under a mixture of posteriors."""

    latent_prior = "VampPrior"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.latent, self.two = config.latent, config.layers == 2
        self.pseudo_logits = self.add_weight(
            shape=[config.components, SIDE, SIDE, 1], initializer="zeros", name="pseudo_logits"
        )
        self.top_posterior = gated(config.hidden, 2 * config.latent)
        if self.two:
            self.bottom_posterior = gated(config.hidden, 2 * config.latent)
            self.bottom_prior = gated(config.hidden, 2 * config.latent)
        self.decoder = gated(config.hidden[::-1], PIXELS)

    def initialise(self, draw: Callable[[Any], Batch], labels: npt.NDArray[np.int64], seed: int) -> None:
        """Start the pseudo-inputs from training images."""
        count = self.pseudo_logits.shape[0]
        chosen = np.random.default_rng(seed).choice(len(labels), count, replace=len(labels) < count)
        greys = 0.5 + CONTRAST * (draw(chosen).images - 0.5)
        self.pseudo_logits.assign(tf.math.log(greys) - tf.math.log(1.0 - greys))

    def top(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and log-variance of q(z2|x), or of q(z|x) with one layer; [B, SIDE, SIDE, 1] -> [B, D]
        each."""
        return nets.halves(self.top_posterior(tf.reshape(images, [-1, PIXELS])))

    def components(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return means and log-variances of the prior's components, [K, D] each."""
        return self.top(tf.sigmoid(self.pseudo_logits))

    def log_prior(self, latents: tf.Tensor) -> tf.Tensor:
        """Return the log-density of the mixture in nats; [B, D] -> [B]."""
        means, log_vars = self.components()
        each = objectives.log_normal(latents[:, None], means, log_vars)  # [B, K]
        return tf.reduce_logsumexp(each, axis=-1) - math.log(means.shape[0])

    def bottom(self, images: tf.Tensor, top: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and log-variance of q(z1|x, z2), [B, D] each."""
        flat = tf.reshape(images, [-1, PIXELS])
        return nets.halves(self.bottom_posterior(tf.concat([flat, top], axis=-1)))

    def path(self, images: tf.Tensor, seed: tf.Tensor, samples: int | tf.Tensor = 1) -> Path:
        """Sample the latents of images from the top down, as `objectives.repeated` repeats the images.

        The posterior of the top layer and the prior's components are computed once for all samples.
        """
        mean, log_var = (objectives.repeated(part, samples) for part in self.top(images))
        top = objectives.reparameterise(mean, log_var, seed, samples)
        rate = objectives.log_normal(top, mean, log_var) - self.log_prior(top)
        if not self.two:
            return Path(top, rate)
        mean, log_var = self.bottom(objectives.repeated(images, samples), top)
        bottom = objectives.reparameterise(mean, log_var, seed + BOTTOM, samples)
        rate += objectives.log_normal(bottom, mean, log_var)
        rate -= objectives.log_normal(bottom, *nets.halves(self.bottom_prior(top)))
        return Path(tf.concat([bottom, top], axis=-1), rate)

    def logits(self, latents: tf.Tensor) -> tf.Tensor:
        """Return the logits of the pixels; [B, D] or [B, 2 D] -> [B, SIDE, SIDE, 1]."""
        return tf.reshape(self.decoder(latents), [-1, SIDE, SIDE, 1])

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        path = self.path(batch.images, seed)
        return Terms(objectives.bernoulli_distortion(batch.images, self.logits(path.latents)), path.rate)

    def log_weights(self, batch: Batch, seed: tf.Tensor, samples: int | tf.Tensor) -> tf.Tensor:
        path = self.path(batch.images, seed, samples)
        images = objectives.repeated(batch.images, samples)
        distortion = objectives.bernoulli_distortion(images, self.logits(path.latents))
        return objectives.by_sample(-(distortion + path.rate), samples)

    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        return self.log_weights(batch, seed, 1)[0]

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return the mean of q(z|x), [B, D]; with two layers those of z1 and z2, [B, 2 D]."""
        top = self.top(images)[0]
        return tf.concat([self.bottom(images, top)[0], top], axis=-1) if self.two else top

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.logits(latents))

    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Sample ancestrally: a component, z2 from it, z1 given z2, then the mean of p(x|z)."""
        means, log_vars = self.components()
        chosen = tf.random.stateless_uniform([count], seed, maxval=means.shape[0], dtype=tf.int32)
        top = objectives.reparameterise(
            tf.gather(means, chosen), tf.gather(log_vars, chosen), seed + tf.constant([0, 2])
        )
        if not self.two:
            return self.decode(top)
        bottom = objectives.reparameterise(*nets.halves(self.bottom_prior(top)), seed + BOTTOM)
        return self.decode(tf.concat([bottom, top], axis=-1))


class GatedDense(layers.Layer):
    """A linear layer times the sigmoid of another (Dauphin et al. 2017); [B, any] -> [B, units]."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.both = layers.Dense(2 * units)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        linear, gate = tf.split(self.both(inputs), 2, axis=-1)
        return linear * tf.sigmoid(gate)


def gated(hidden: Collection[int], outputs: int) -> keras.Sequential:
    """Return gated layers and a linear last one; [B, any] -> [B, outputs]."""
    return keras.Sequential([*(GatedDense(units) for units in hidden), layers.Dense(outputs)])


def build(config: Config) -> VampVae:
    """Build the networks, with fresh weights."""
    return VampVae(config)
