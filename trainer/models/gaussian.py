"""The model of most variants: a Gaussian latent vector, a standard normal prior, Bernoulli pixels."""

from typing import Any

import tensorflow as tf

from trainer.devices.cores import side_by_side
from trainer.models import checks, objectives
from trainer.models.model import Batch, GenerativeModel, Terms


class GaussianVae(GenerativeModel):
    """q(z|x) = N(mean(x), exp(log_var(x))), p(z) = N(0, I), p(x|z) = Bernoulli(sigmoid(decoder(z))).

    Kingma & Welling 2014. The encoder maps [B, SIDE, SIDE, 1] to [B, 2 D], means before log-variances; the
    decoder maps [B, D] to logits [B, SIDE, SIDE, 1]. The rate is exact (`analytic`) or the one-sample
    estimate log q(z|x) - log p(z) (`sampled`). A variant with another q(z|x) or p(x|z) overrides `posterior`
    or `distortion`, and every bound follows.
    """

    def __init__(self, encoder: Any, decoder: Any, latent: int, estimator: str = "analytic") -> None:
        super().__init__()
        checks.one_of("estimator", estimator, checks.ESTIMATORS)
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.estimator = estimator

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and log-variance of q(z|x), [B, D] each."""
        mean, log_var = tf.split(side_by_side(self.encoder, images), 2, axis=-1)
        return mean, log_var

    def distortion(self, images: tf.Tensor, latents: tf.Tensor) -> tf.Tensor:
        """Return -log p(x|z) in nats; [B, SIDE, SIDE, 1], [B, D] -> [B]."""
        return objectives.bernoulli_distortion(images, side_by_side(self.decoder, latents))

    def log_joint(self, images: tf.Tensor, latents: tf.Tensor) -> tf.Tensor:
        """Return log p(x, z) in nats; [B, SIDE, SIDE, 1], [B, D] -> [B]."""
        return objectives.log_normal(latents, 0.0, 0.0) - self.distortion(images, latents)

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        mean, log_var = self.posterior(batch.images)
        latents = objectives.reparameterise(mean, log_var, seed)
        distortion = self.distortion(batch.images, latents)
        if self.estimator == "analytic":
            return Terms(distortion, objectives.standard_kl(mean, log_var))
        log_q = objectives.log_normal(latents, mean, log_var)
        return Terms(distortion, log_q - objectives.log_normal(latents, 0.0, 0.0))

    def log_weights(self, batch: Batch, seed: tf.Tensor, samples: int | tf.Tensor) -> tf.Tensor:
        """Return log p(x, z) - log q(z|x) of `samples` samples of q(z|x) per image, [samples, B], in nats.

        Each image is encoded once; its posterior is repeated, so that all samples decode as one batch.
        """
        mean, log_var = (objectives.repeated(part, samples) for part in self.posterior(batch.images))
        latents = objectives.reparameterise(mean, log_var, seed, samples)
        log_joint = self.log_joint(objectives.repeated(batch.images, samples), latents)
        return objectives.by_sample(log_joint - objectives.log_normal(latents, mean, log_var), samples)

    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        return self.log_weights(batch, seed, 1)[0]

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        return self.posterior(images)[0]

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.decoder(latents))

    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self.decode(tf.random.stateless_normal([count, self.latent], seed))
