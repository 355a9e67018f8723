"""Vector-quantised VAE with a learned prior over its 7x7 grid of codes (van den Oord et al. 2017).

Two strided convolutions take an image to 7x7 vectors of 64, each replaced by the nearest of 512 codes; the
decoder mirrors the encoder and ends in Bernoulli pixels. Gradients pass straight through the quantiser. The
codebook follows exponential moving averages (decay 0.99) of the vectors assigned to it and starts from
encoded training images; a code that falls out of use restarts at a vector of the batch.

q(c|x) is deterministic, so the rate is -log p(c): under a causal transformer trained jointly on the codes
(`rate`, which is also sampled from), and under the uniform prior 49 log 512 = 305.7 nats (`rate_uniform`).
One sample of a deterministic posterior is the whole posterior: iwelbo equals elbo, and the true log p(x) is
not below it.

Objectives: `elbo` minimises distortion + 0.25 |z_e - sg(e)|^2 + rate, summed over pixels and vectors; the
rate trains the prior alone. `source` is the published code's: averages instead of sums, the codebook moved by
the gradient of its own loss, and nothing passed through the quantiser, so that reconstruction never reaches
the encoder. Its three strided layers cannot return 28x28 (28 -> 4 -> 32); the geometry is fixed in both.

Measured: test ELBO -214.0 ± 0.7 nats with the learned prior (threshold, quick: 400 steps).
Run: latentline run --variants vqvae --profile full
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from schemas import SIDE
from trainer.models import checks
from trainer.recipe import NOTHING, Budget, Recipe

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=40, quick=400, full=23_438),
    floor=Budget(smoke=-700.0, quick=-300.0, full=-220.0),
    min_active_units=NOTHING,  # its latent variables are codes
    min_codes=Budget(smoke=0, quick=2, full=2),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=128,
    cores=2,
)

GRID = SIDE // 4
"""Rows and columns of the grid of codes."""

REVIVED_BELOW = 0.05
"""A code restarts when its share of the vectors is below this fraction of an equal share."""

FIRST_IMAGES = 256
"""Training images whose vectors the codebook starts from."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The codebook, its prior and the training objective.

    Attributes:
      codes: size of the codebook.
      width: dimensions of a code vector.
      commitment: weight of |z_e - sg(e)|^2 in the loss.
      decay: of the moving averages, between 0 and 1.
      prior_width: width of the transformer.
      prior_blocks: blocks of the transformer.
      prior_every: one image in this many trains the prior, which costs more than everything else.
      objective: `elbo` or `source`.
    """

    codes: int = 512
    width: int = 64
    commitment: float = 0.25
    decay: float = 0.99
    prior_width: int = 64
    prior_blocks: int = 2
    prior_every: int = 4
    objective: str = "elbo"

    def __post_init__(self) -> None:
        checks.at_least(2, codes=self.codes)
        checks.at_least(1, width=self.width, prior_every=self.prior_every)
        checks.at_least(1, prior_width=self.prior_width, prior_blocks=self.prior_blocks)
        checks.at_least(0, commitment=self.commitment)
        if not 0.0 < self.decay < 1.0:
            raise ValueError(f"decay must be between 0 and 1, got {self.decay}")
        checks.one_of("objective", self.objective, checks.OBJECTIVES)


# The model: only a process that builds it runs the file from here on.
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import Sequential, layers

from schemas import PIXELS
from trainer.devices import shares
from trainer.devices.cores import side_by_side
from trainer.models import objectives
from trainer.models.model import Batch, GenerativeModel, Objective, Terms
from trainer.models.priors import CodePrior


class Codebook(layers.Layer):
    """Code vectors [K, D], and moving averages of how they are used.

    share: [K], each code's share of the vectors, decaying; sums: [K, D], share times the mean vector.
    trainable: whether gradients move the vectors instead of the averages.
    """

    def __init__(self, codes: int, width: int, decay: float, trainable: bool = False) -> None:
        super().__init__()
        self.codes, self.width, self.decay = codes, width, decay
        start = keras.initializers.RandomNormal(stddev=0.1)
        self.vectors = self.add_weight(
            shape=[codes, width], initializer=start, trainable=trainable, name="vectors"
        )
        self.share = self.add_weight(
            shape=[codes], initializer=keras.initializers.Constant(1.0 / codes), trainable=False, name="share"
        )
        self.sums = self.add_weight(shape=[codes, width], initializer="zeros", trainable=False, name="sums")
        self.restart(tf.convert_to_tensor(self.vectors))

    def restart(self, vectors: tf.Tensor) -> None:
        """Place the codes at `vectors`, [K, D], as if all had been used equally."""
        self.vectors.assign(vectors)
        self.share.assign(tf.fill([self.codes], 1.0 / self.codes))
        self.sums.assign(vectors / self.codes)

    def nearest(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return the code of least Euclidean distance; [N, D] -> int32 [N]."""
        codes = tf.convert_to_tensor(self.vectors)
        # |v - c|^2 = |v|^2 - 2 (v c - |c|^2 / 2): the largest bracket
        overlap = tf.matmul(vectors, codes, transpose_b=True)  # [N, K]
        closeness = overlap - 0.5 * tf.reduce_sum(tf.square(codes), axis=-1)
        return tf.argmax(closeness, axis=-1, output_type=tf.int32)

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the vectors of codes; int [...] -> [..., D]."""
        return tf.gather(tf.convert_to_tensor(self.vectors), codes)

    def follow(self, vectors: tf.Tensor, codes: tf.Tensor, seed: tf.Tensor) -> None:
        """Move each code towards the mean of the vectors [B, P, D] assigned to it (codes: [B, P]).

        share <- decay share + (1 - decay) n_k / N; sums likewise; code = sums / share (van den Oord et al.
        2017, appendix A.1). A code whose share is below REVIVED_BELOW / K restarts at a random one of
        `vectors`, with an equal share.
        """
        flat, assigned = tf.reshape(vectors, [-1, self.width]), tf.reshape(codes, [-1])
        ones = tf.ones_like(assigned, tf.float32)
        used = shares.summed(tf.math.unsorted_segment_sum(ones, assigned, self.codes))
        added = shares.summed(tf.math.unsorted_segment_sum(flat, assigned, self.codes))
        count = tf.reduce_sum(used)
        share = self.decay * self.share + (1.0 - self.decay) * used / count
        sums = self.decay * self.sums + (1.0 - self.decay) * added / count
        chosen = tf.random.stateless_uniform([self.codes], seed, 0, tf.cast(count, tf.int32), tf.int32)
        at = tf.stack([chosen // tf.shape(vectors)[1], chosen % tf.shape(vectors)[1]], axis=1)
        dead = (share < REVIVED_BELOW / self.codes)[:, None]
        sums = tf.where(dead, shares.entries(vectors, at) / self.codes, sums)
        share = tf.where(dead[:, 0], 1.0 / self.codes, share)
        self.share.assign(share)
        self.sums.assign(sums)
        self.vectors.assign(sums / share[:, None])


class VqVae(GenerativeModel):
    """An encoder, a codebook, a decoder and the prior over the codes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.source = config.objective == "source"
        self.commitment, self.prior_every = config.commitment, config.prior_every
        self.encoder = encoder(config.width)
        self.codebook = Codebook(config.codes, config.width, config.decay, trainable=self.source)
        self.decoder = decoder()
        self.prior = CodePrior(GRID * GRID, config.codes, config.prior_width, blocks=config.prior_blocks)

    def initialise(self, draw: Callable[[Any], Batch], labels: npt.NDArray[np.int64], seed: int) -> None:
        """Start the codebook from vectors of training images."""
        generator = np.random.default_rng(seed)
        images = draw(generator.choice(len(labels), min(FIRST_IMAGES, len(labels)), replace=False)).images
        vectors = tf.reshape(self.encoder(images), [-1, self.codebook.width])
        codes, found = self.codebook.codes, len(vectors)
        self.codebook.restart(tf.gather(vectors, generator.choice(found, codes, replace=found < codes)))

    def codes(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return the codes nearest to encoder outputs; [B, GRID, GRID, D] -> int32 [B, GRID * GRID]."""
        flat = tf.reshape(vectors, [-1, vectors.shape[-1]])
        return tf.reshape(self.codebook.nearest(flat), [-1, GRID * GRID])

    def logits(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the logits of the pixels, [B, SIDE, SIDE, 1]; codes: int [B, GRID * GRID]."""
        return self.decoder(tf.reshape(self.codebook.lookup(codes), [-1, GRID, GRID, self.codebook.width]))

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        vectors = side_by_side(self.encoder, batch.images)
        codes = side_by_side(self.codes, vectors)
        chosen = tf.reshape(self.codebook.lookup(codes), tf.shape(vectors))
        some = codes[: tf.maximum(tf.shape(codes)[0] // self.prior_every, 1)]
        rate = tf.fill(tf.shape(codes)[:1], -tf.reduce_mean(self.prior.log_prob(some)))
        gap = tf.square(vectors - tf.stop_gradient(chosen))
        if self.source:
            error = objectives.bernoulli_distortion(batch.images, side_by_side(self.decoder, chosen)) / PIXELS
            moved = tf.square(tf.stop_gradient(vectors) - chosen)
            quantised = tf.reduce_mean(self.commitment * gap + moved, axis=[1, 2, 3])
            return Objective(error + quantised + rate, {"cross_entropy": error, "rate": rate})
        straight = vectors + tf.stop_gradient(chosen - vectors)
        distortion = objectives.bernoulli_distortion(batch.images, side_by_side(self.decoder, straight))
        commitment = self.commitment * tf.reduce_sum(gap, axis=[1, 2, 3])
        flat = tf.reshape(vectors, [-1, GRID * GRID, self.codebook.width])
        self.codebook.follow(tf.stop_gradient(flat), codes, seed)
        terms = {"distortion": distortion, "rate": rate, "commitment": commitment}
        return Objective(distortion + commitment + rate, terms)

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        """Return exact terms: the posterior is a point."""
        codes = self.codes(self.encoder(batch.images))
        distortion = objectives.bernoulli_distortion(batch.images, self.logits(codes))
        return Terms(distortion, -self.prior.log_prob(codes))

    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        terms = self.terms(batch, seed)
        return -(terms.distortion + terms.rate)

    def importance_weighted(self, batch: Batch, seed: tf.Tensor, samples: int) -> tf.Tensor:
        """Return log p(x, c) of the one code that q(c|x) gives, for any number of samples; [B], nats."""
        return self.log_weight(batch, seed)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return the codes, 0 to K - 1, rows from the top, as floats [B, GRID * GRID]."""
        return tf.cast(self.codes(self.encoder(images)), tf.float32)

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        """Return mean images of codes as `encode` gives them; other numbers become the nearest code."""
        codes = tf.clip_by_value(tf.cast(tf.round(latents), tf.int32), 0, self.codebook.codes - 1)
        return tf.sigmoid(self.logits(codes))

    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.logits(self.prior.sample(count, seed)))

    def metrics_per_example(self, batch: Batch, seed: tf.Tensor, samples: int) -> dict[str, tf.Tensor]:
        """Add `rate_uniform` [B] and `codes` [B, K], the uses of each code; there is no posterior mean."""
        found = super().metrics_per_example(batch, seed, samples)
        codes = tf.cast(found.pop("latent_mean"), tf.int32)
        uniform = GRID * GRID * math.log(self.codebook.codes)
        return {
            **found,
            "rate_uniform": tf.fill(tf.shape(codes)[:1], uniform),
            "codes": tf.reduce_sum(tf.one_hot(codes, self.codebook.codes), axis=1),
        }


def encoder(width: int) -> Sequential:
    """Return the network from images to [B, GRID, GRID, width]."""
    return Sequential(
        [
            layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(width, 1),
        ]
    )


def decoder() -> Sequential:
    """Return the network from [B, GRID, GRID, D] to the logits of the pixels, [B, SIDE, SIDE, 1]."""
    return Sequential(
        [
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same"),
        ]
    )


def build(config: Config) -> VqVae:
    """Build the networks, with fresh weights and a codebook that training starts from data."""
    return VqVae(config)
