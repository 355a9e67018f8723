"""A small variational autoencoder and data for it, for processes that tests start."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from schemas import CLASSES, PIXELS, SIDE
from trainer.loop.data import Examples
from trainer.models import noise, objectives
from trainer.models.gaussian import GaussianVae
from trainer.models.model import Batch, Terms
from trainer.recipe import Budget, Recipe

LATENT = 3
RECIPE = Recipe(steps=Budget(1, 1, 1), floor=Budget(0, 0, 0), batch_size=8, clip_norm=50.0, ema_decay=0.9)


class TinyVae(GaussianVae):
    """One dense layer each way."""

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        mean, log_var = self.posterior(batch.images)
        latents = mean + tf.exp(0.5 * log_var) * noise.normal(tf.shape(mean), seed)
        logits = self.decoder(latents)
        distortion = objectives.bernoulli_distortion(batch.images, logits)
        return Terms(distortion, objectives.standard_kl(mean, log_var))


def build() -> TinyVae:
    keras.utils.set_random_seed(7)
    encoder = keras.Sequential([layers.Flatten(), layers.Dense(2 * LATENT)])
    decoder = keras.Sequential([layers.Dense(PIXELS), layers.Reshape([SIDE, SIDE, 1])])
    return TinyVae(encoder, decoder, LATENT)


def examples(count: int = 203) -> Examples:
    draw = np.random.default_rng(5)
    pixels = (draw.random([count, PIXELS]) < draw.random([count, 1])).astype(np.uint8)
    return Examples(pixels, draw.integers(0, CLASSES, count))


def weights(model: TinyVae) -> dict[str, np.ndarray]:
    return {f"{i:02d}": variable.numpy() for i, variable in enumerate(model.state())}
