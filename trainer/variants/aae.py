"""Adversarial autoencoder (Makhzani et al. 2016): a discriminator pulls the aggregate posterior to the prior.

The encoder is 784-512-512 (relu) to an 8-dimensional latent vector with Gaussian noise, and the decoder is
its mirror image; the discriminator is 8-256-256-1. A step makes three updates on the same batch, each with
its own optimizer: encoder and decoder on the reconstruction, -log p(x|z); the discriminator on prior samples
against encoded ones; and the encoder, whose samples should pass for prior samples.

None of these objectives is the bound. Because the encoder is stochastic, the bound exists, and it is reported
as for every other variant. The discriminator sees the aggregate posterior only, so nothing would keep the
noise of a single image's code from vanishing and the bound from falling without limit; therefore the
log-variance has a lower limit.

Measured: test ELBO -137.6 ± 1.0 nats (threshold, quick).
Run: latentline run --variants aae --profile full
"""

import dataclasses

from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=1_500, full=23_438),
    floor=Budget(smoke=-540.0, quick=-170.0, full=-160.0),
    optimizer="adam",
    learning_rate=3e-4,
    batch_size=128,
    cores=2,
)

FRESH = 1
"""Added to a step's seed for noise that is independent of the encoder's."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The networks, and the least noise of the encoder.

    Attributes:
      latent: dimensions of z.
      hidden: widths of the encoder's layers; the decoder's are the same in reverse.
      discriminator: widths of the discriminator's layers.
      least_log_var: lower limit of the log-variance of q(z|x).
    """

    latent: int = 8
    hidden: tuple[int, ...] = (512, 512)
    discriminator: tuple[int, ...] = (256, 256)
    least_log_var: float = -4.0

    def __post_init__(self) -> None:
        checks.at_least(1, latent=self.latent)
        checks.widths("hidden", self.hidden)
        checks.widths("discriminator", self.discriminator)


# The model: only a process that builds it runs the file from here on.
import tensorflow as tf

from trainer.models import nets, noise, objectives
from trainer.models.gaussian import GaussianVae
from trainer.models.model import Batch, Objective, Phase


class AdversarialAutoencoder(GaussianVae):
    """An encoder and a decoder that reconstruct, with a discriminator in place of the KL."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            nets.mlp_encoder(config.hidden, 2 * config.latent, "relu"),
            nets.mlp_decoder(config.hidden[::-1], "relu"),
            config.latent,
        )
        self.discriminator = nets.mlp(config.discriminator, 1, "relu")
        self.least_log_var = config.least_log_var

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_var = super().posterior(images)
        return mean, self.least_log_var + tf.nn.softplus(log_var - self.least_log_var)

    def phases(self) -> list[Phase]:
        return [
            Phase("reconstruction", self.objective, lambda: _values(self.encoder, self.decoder)),
            Phase("discriminator", self.discriminate, lambda: _values(self.discriminator)),
            Phase("encoder", self.deceive, lambda: _values(self.encoder)),
        ]

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return -log p(x|z), in nats."""
        return Objective(self.distortion(batch.images, self.encoded(batch, seed)), {})

    def discriminate(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return the cross-entropy, in nats, of telling prior samples from encoded ones (mean of the two)."""
        encoded = tf.stop_gradient(self.encoded(batch, seed))
        prior = noise.normal(tf.shape(encoded), seed + tf.constant([0, FRESH]))
        real, false = self.discriminator(prior)[:, 0], self.discriminator(encoded)[:, 0]
        loss = 0.5 * (tf.nn.softplus(-real) + tf.nn.softplus(false))
        return Objective(loss, {"found": 0.5 * (_positive(real) + _positive(-false))})

    def deceive(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return the cross-entropy, in nats, of encoded samples that should pass for prior samples."""
        return Objective(tf.nn.softplus(-self.discriminator(self.encoded(batch, seed))[:, 0]), {})

    def encoded(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        """Return a sample of q(z|x), [B, D]."""
        return objectives.reparameterise(*self.posterior(batch.images), seed)


def _values(*networks: tf.Module) -> list[tf.Variable]:
    return [weight.value for network in networks for weight in network.trainable_variables]


def _positive(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(logits > 0.0, tf.float32)


def build(config: Config) -> AdversarialAutoencoder:
    """Build the networks, with fresh weights."""
    return AdversarialAutoencoder(config)
