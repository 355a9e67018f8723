"""The model most variants are: a Gaussian latent vector, a standard normal prior, Bernoulli pixels."""

import keras
import tensorflow as tf

from trainer import objectives
from trainer.model import Batch, GenerativeModel, Terms

ESTIMATORS = ("analytic", "sampled")


class GaussianVae(GenerativeModel):
    """q(z|x) = N(mean(x), exp(log_var(x))), p(z) = N(0, I), p(x|z) = Bernoulli(sigmoid(decoder(z))).

    Kingma & Welling 2014. The encoder maps [B, SIDE, SIDE, 1] to [B, 2 D], means before log-variances; the
    decoder maps [B, D] to logits [B, SIDE, SIDE, 1]. The rate is exact (`analytic`) or the one-sample
    estimate log q(z|x) - log p(z) (`sampled`).
    """

    def __init__(
        self, encoder: keras.Layer, decoder: keras.Layer, latent: int, estimator: str = "analytic"
    ) -> None:
        super().__init__()
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.estimator = estimator

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and log-variance of q(z|x), [B, D] each."""
        mean, log_var = tf.split(self.encoder(images), 2, axis=-1)
        return mean, log_var

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        mean, log_var = self.posterior(batch.images)
        latents = objectives.reparameterise(mean, log_var, seed)
        distortion = objectives.bernoulli_distortion(batch.images, self.decoder(latents))
        if self.estimator == "analytic":
            return Terms(distortion, objectives.standard_kl(mean, log_var))
        log_q = objectives.log_normal(latents, mean, log_var)
        return Terms(distortion, log_q - objectives.log_normal(latents, 0.0, 0.0))

    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        mean, log_var = self.posterior(batch.images)
        latents = objectives.reparameterise(mean, log_var, seed)
        distortion = objectives.bernoulli_distortion(batch.images, self.decoder(latents))
        log_q = objectives.log_normal(latents, mean, log_var)
        return objectives.log_normal(latents, 0.0, 0.0) - log_q - distortion

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        return self.posterior(images)[0]

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.decoder(latents))

    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self.decode(tf.random.stateless_normal([count, self.latent], seed))
