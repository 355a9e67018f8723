"""Dense VAE as functional graphs of encoder, decoder and the whole (Keras functional API).

The network is that of vae_dense, 784-64 (relu)-32 and back, as three keras.Model graphs that share their
layers. The noise of the sample is an input of the graph. Keras 3 has no symbolic `add_loss`, so the KL is
part of the objective.

Objectives: `elbo` and `source` as in vae_dense, with the same collapse under `source`.

Measured: test ELBO -100.4 ± 0.5 nats (threshold, quick); loss of the one epoch of `source` 0.0714 (grey).
Run: latentline run --variants vae_functional --profile full
Reproduce: --protocol grey, config objective=source: loss of the one epoch is 0.0713 (published).
Source: the Keras guide "Making new layers and models via subclassing", its functional counterpart.
"""

from trainer.recipe import Budget, Recipe
from trainer.variants._dense_vae import Config

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=60, quick=12_000, full=1_875),
    floor=Budget(smoke=-540.0, quick=-135.0, full=-155.0),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=32,
)


# The model: only a process that builds it runs the file from here on.
import keras
import tensorflow as tf
from keras import layers

from schemas import PIXELS, SIDE
from trainer.models import annealing, noise, objectives
from trainer.models.gaussian import GaussianVae
from trainer.models.model import Batch, Objective, Terms
from trainer.models.nets import Sampling


def encoder_graph(config: Config) -> keras.Model:
    """Return the graph from images [B, SIDE, SIDE, 1] to mean and log-variance of q(z|x), [B, D] each."""
    images = keras.Input([SIDE, SIDE, 1])
    hidden = layers.Dense(config.hidden, activation="relu")(layers.Flatten()(images))
    return keras.Model(images, [layers.Dense(config.latent)(hidden), layers.Dense(config.latent)(hidden)])


def decoder_graph(config: Config) -> keras.Model:
    """Return the graph from latents [B, D] to the logits of the pixels, [B, SIDE, SIDE, 1]."""
    latents = keras.Input([config.latent])
    pixels = layers.Dense(PIXELS)(layers.Dense(config.hidden, activation="relu")(latents))
    return keras.Model(latents, layers.Reshape([SIDE, SIDE, 1])(pixels))


class FunctionalVae(GaussianVae):
    """The graph (images, standard normal numbers) -> (logits, mean, log-variance), and its two halves."""

    def __init__(self, config: Config) -> None:
        super().__init__(encoder_graph(config), decoder_graph(config), config.latent)
        images, standard = keras.Input([SIDE, SIDE, 1]), keras.Input([config.latent])
        mean, log_var = self.encoder(images)
        logits = self.decoder(Sampling()(mean, log_var, standard))
        self.whole = keras.Model([images, standard], [logits, mean, log_var])
        self.source = config.objective == "source"

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        standard = noise.normal([tf.shape(batch.images)[0], self.latent], seed)
        logits, mean, log_var = self.whole([batch.images, standard])
        rate = objectives.standard_kl(mean, log_var)
        if self.source:
            error = objectives.squared_error(batch.images, tf.sigmoid(logits))
            return Objective(error + rate / self.latent, {"squared_error": error})
        terms = Terms(objectives.bernoulli_distortion(batch.images, logits), rate)
        return Objective(terms.distortion + annealing.charged(terms.rate), terms._asdict())

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_var = self.encoder(images)
        return mean, log_var


def build(config: Config) -> FunctionalVae:
    """Build the graphs, with fresh weights."""
    return FunctionalVae(config)
