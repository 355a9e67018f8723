"""Dense VAE from nested layers that add their own KL loss (Keras subclassing guide).

The encoder is 784-64 (relu) to a 32-dimensional latent vector, and the decoder is its mirror image: a
Sampling layer inside an Encoder inside the model, whose call adds the KL with `add_loss`.

Objectives: `elbo` sums the Bernoulli cross-entropy over the pixels and the KL over the latents. `source` is
the guide's: squared error averaged over the pixels plus KL averaged over the latents, on grey pixels. Those
averages are a Gaussian decoder of variance 12.25 (784 / 2 / 32), under which the posterior collapses onto the
prior and every image decodes to the mean digit.

Measured: test ELBO -99.8 ± 0.5 nats (threshold, quick), 105.8 above `source` at equal steps; mean loss of
`source` over 1,000 steps 0.0746 (grey).
Run: latentline run --variants vae_dense --profile full
Reproduce: --protocol grey, config objective=source: running mean of the loss at step 1,000 is 0.0749
(published).
Source: the Keras guide "Making new layers and models via subclassing".
"""

from trainer.recipe import Budget, Recipe
from trainer.variants._dense_vae import Config

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=12_000, full=1_000),
    floor=Budget(smoke=-540.0, quick=-135.0, full=-165.0),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=32,
)


# The model: only a process that builds it runs the file from here on.
import tensorflow as tf
from keras import layers

from schemas import PIXELS, SIDE
from trainer.models import annealing, noise, objectives
from trainer.models.gaussian import GaussianVae
from trainer.models.model import Batch, Objective
from trainer.models.nets import Sampling


class Encoder(layers.Layer):
    """The network from images [B, SIDE, SIDE, 1] to mean and log-variance of q(z|x), [B, D] each."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(hidden, activation="relu")
        self.mean = layers.Dense(latent)
        self.log_var = layers.Dense(latent)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        hidden = self.hidden(self.flatten(images))
        return self.mean(hidden), self.log_var(hidden)


class Decoder(layers.Layer):
    """The network from latents [B, D] to the logits of the pixels, [B, SIDE, SIDE, 1]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = layers.Dense(hidden, activation="relu")
        self.pixels = layers.Dense(PIXELS)
        self.reshape = layers.Reshape([SIDE, SIDE, 1])

    def call(self, latents: tf.Tensor) -> tf.Tensor:
        return self.reshape(self.pixels(self.hidden(latents)))


class DenseVae(GaussianVae):
    """Encoder, sampling and decoder as one layer; calling it adds the KL of the batch to its `losses`."""

    def __init__(self, config: Config) -> None:
        super().__init__(Encoder(config.hidden, config.latent), Decoder(config.hidden), config.latent)
        self.sampling = Sampling()
        self.source = config.objective == "source"

    def call(self, images: tf.Tensor, standard: tf.Tensor) -> tf.Tensor:
        """Return the logits of the pixels, [B, SIDE, SIDE, 1]; standard: standard normal numbers, [B, D]."""
        mean, log_var = self.encoder(images)
        scale = 1.0 / self.latent if self.source else 1.0
        self.add_loss(scale * tf.reduce_mean(objectives.standard_kl(mean, log_var)))
        return self.decoder(self.sampling(mean, log_var, standard))

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        standard = noise.normal([tf.shape(batch.images)[0], self.latent], seed)
        logits = self(batch.images, standard)
        [divergence] = self.losses
        if self.source:
            error = objectives.squared_error(batch.images, tf.sigmoid(logits))
            return Objective(error + divergence, {"squared_error": error})
        distortion = objectives.bernoulli_distortion(batch.images, logits)
        rate = tf.fill(tf.shape(distortion), divergence)
        return Objective(distortion + annealing.charged(rate), {"distortion": distortion, "rate": rate})

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_var = self.encoder(images)
        return mean, log_var


def build(config: Config) -> DenseVae:
    """Build the nested layers, with fresh weights."""
    return DenseVae(config)
