"""Convolutional ladder VAE: a hierarchy of latents on grids of 14x14 and 7x7 and in vectors on top.

A deterministic way up reads the image once: a 5x5 convolution to 14x14, a 3x3 one to 7x7, each followed by a
residual block of two 3x3 convolutions, and a dense layer. The way down draws the latents from the top:
vectors, then grids of 7x7, then of 14x14, with a residual block before each. What the way down knows gives a
layer's prior; together with the features of the way up it gives the posterior, as a correction of the prior:
with prior N(m, s^2) the posterior is N(m + s d, (s e^r)^2), so that a layer's rate depends on d and r alone,
0.5 (d^2 + e^(2 r) - 1) - r. The heads begin at zero: every posterior is its prior.

In the recipe's warm-up of the rate a layer is charged a share that begins lower the higher it lies, since
the layer that learns first keeps the information.

Measured: test ELBO -87.3 nats (threshold, quick, one seed).
Run: latentline run --variants ladder --protocol dynamic --profile full
Published: -ELBO 82.14 / 80.74 / 80.50 and NLL 79.24 / 78.52 / 78.30 nats with 3, 6 and 12 layers of a larger
network, importance sampling with 1,000 samples, static binarization.
Source: Sonderby et al. 2016 for the ladder; Kingma et al. 2016 for the residual bidirectional form.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "generative"

RECIPE = Recipe(
    steps=Budget(smoke=30, quick=450, full=84_000),
    floor=Budget(smoke=-560.0, quick=-110.0, full=-90.0),
    optimizer="adam",
    learning_rate=1e-3,
    warm_up=500,
    decay="cosine",
    kl_warm_up=3_750,
    batch_size=128,
    clip_norm=200.0,
    ema_decay=0.999,
    cores=2,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The latents, from the top down, and the widths of the networks.

    Attributes:
      vectors: dimensions of each latent vector.
      coarse: channels of each latent grid of 7x7.
      fine: channels of each latent grid of 14x14; () for none.
      width: channels of the features at 14x14; twice that at 7x7, four times that for vectors.
      start: share of the rate charged at the start of a warm-up: of vectors, of 7x7, of 14x14.
    """

    vectors: tuple[int, ...] = (16, 16)
    coarse: tuple[int, ...] = (8, 8)
    fine: tuple[int, ...] = (2,)
    width: int = 32
    start: tuple[float, float, float] = (0.1, 0.5, 1.0)

    def __post_init__(self) -> None:
        checks.at_least(1, width=self.width)
        checks.widths("vectors", self.vectors)
        checks.widths("coarse", self.coarse)
        if self.fine:
            checks.widths("fine", self.fine)
        for share in self.start:
            if not 0 <= share <= 1:
                raise ValueError(f"start must be shares between 0 and 1, got {self.start}")


# The model: only a process that builds it runs the file from here on.
import keras
import tensorflow as tf
from keras import Sequential, layers

from schemas import PIXELS, SIDE
from trainer.devices.cores import side_by_side
from trainer.models import annealing, noise, objectives
from trainer.models.model import Batch, GenerativeModel, Objective, Terms

STEEPEST = 5.0
"""Bound of log standard deviations and of their corrections, in which exp is harmless."""


class Features(NamedTuple):
    """What the way up knows of the images."""

    fine: tf.Tensor  # [B, 14, 14, W]
    coarse: tf.Tensor  # [B, 7, 7, 2 W]
    vector: tf.Tensor  # [B, 4 W]


class Descent(NamedTuple):
    """One way down."""

    logits: tf.Tensor  # [B, SIDE, SIDE, 1], of the pixels
    latents: tf.Tensor  # [B, D], of all rungs, from the top
    divergences: tf.Tensor  # [B, layers], KL(q || p) of each layer given those above, nats
    log_ratio: tf.Tensor  # [B], log p(z) - log q(z|x) at the latents, nats


class Residual(layers.Layer):
    """x + conv(elu(conv(elu(x)))), 3x3; for vectors dense layers in place of convolutions."""

    def __init__(self, width: int, grid: bool) -> None:
        super().__init__()
        self.first, self.second = (
            layers.Conv2D(width, 3, padding="same") if grid else layers.Dense(width) for _ in range(2)
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + self.second(tf.nn.elu(self.first(tf.nn.elu(inputs))))


class Rung(layers.Layer):
    """One latent: a residual block, the heads of its prior and of its posterior, and the way back in.

    shape: of the latent, [D] or [side, side, channels]. width: channels of the features at its level.
    """

    def __init__(self, shape: tuple[int, ...], width: int, start: float) -> None:
        super().__init__()
        self.shape, self.start, self.size = shape, start, math.prod(shape)
        grid = len(shape) == 3
        self.block = Residual(width, grid)
        self.merge = layers.Conv2D(width, 3, padding="same") if grid else layers.Dense(width)
        self.prior, self.posterior = (_head(2 * shape[-1], grid) for _ in range(2))
        self.back = layers.Conv2D(width, 1) if grid else layers.Dense(width)

    def placed(self, hidden: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Return values in units of the prior as a latent: m + s values; [B, *shape] -> [B, *shape]."""
        mean, log_deviation = tf.split(self.prior(tf.nn.elu(hidden)), 2, axis=-1)
        return mean + tf.exp(_bounded(log_deviation)) * values

    def corrected(self, hidden: tf.Tensor, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return d and r of the posterior, [B, *shape] each."""
        merged = self.merge(tf.nn.elu(tf.concat([hidden, features], axis=-1)))
        shift, log_ratio = tf.split(self.posterior(tf.nn.elu(merged)), 2, axis=-1)
        return shift, _bounded(log_ratio)


class Place(NamedTuple):
    """Where on the way down a latent is chosen."""

    rung: Rung
    level: int  # 0 for vectors, 1 for 7x7, 2 for 14x14
    begin: int  # of its numbers among those of all rungs

    def part(self, values: tf.Tensor) -> tf.Tensor:
        """Return the rung's part of values of all rungs; [B, D] -> [B, *shape]."""
        return tf.reshape(values[:, self.begin : self.begin + self.rung.size], [-1, *self.rung.shape])


Choice = Callable[[Place, tf.Tensor], tf.Tensor]


class Ladder(GenerativeModel):
    """A hierarchy of Gaussian latents, inferred and generated from the top down."""

    latent_prior = "hierarchical"

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.up_fine = Sequential(
            [layers.Conv2D(width, 5, strides=2, padding="same"), Residual(width, grid=True)]
        )
        self.up_coarse = Sequential(
            [
                layers.Activation("elu"),
                layers.Conv2D(2 * width, 3, strides=2, padding="same"),
                Residual(2 * width, grid=True),
            ]
        )
        self.up_vector = Sequential([layers.Activation("elu"), layers.Flatten(), layers.Dense(4 * width)])
        top, middle, bottom = config.start
        self.vectors = [Rung((size,), 4 * width, top) for size in config.vectors]
        self.coarse = [Rung((SIDE // 4, SIDE // 4, count), 2 * width, middle) for count in config.coarse]
        self.fine = [Rung((SIDE // 2, SIDE // 2, count), width, bottom) for count in config.fine]
        self.first = self.add_weight(shape=[1, 4 * width], initializer="zeros", name="first")
        to_coarse = Sequential(
            [
                layers.Activation("elu"),
                layers.Dense((SIDE // 4) ** 2 * 2 * width),
                layers.Reshape([SIDE // 4, SIDE // 4, 2 * width]),
            ]
        )
        to_fine = Sequential(
            [layers.Activation("elu"), layers.Conv2DTranspose(width, 3, strides=2, padding="same")]
        )
        self.downs = [layers.Identity(), to_coarse, to_fine]
        self.to_pixels = Sequential(
            [
                Residual(width, grid=True),
                layers.Activation("elu"),
                layers.Conv2DTranspose(width // 2 or 1, 5, strides=2, padding="same", activation="elu"),
                layers.Conv2D(1, 3, padding="same"),
            ]
        )

    @property
    def levels(self) -> list[list[Rung]]:
        """The latents of each level, from the top."""
        return [self.vectors, self.coarse, self.fine]

    @property
    def rungs(self) -> list[Rung]:
        """The latents from the top."""
        return [rung for level in self.levels for rung in level]

    @property
    def latent(self) -> int:
        """Dimensions of all latents together."""
        return sum(rung.size for rung in self.rungs)

    def features(self, images: tf.Tensor) -> Features:
        """Read the images once."""
        fine = self.up_fine(2.0 * images - 1.0)
        coarse = self.up_coarse(fine)
        return Features(fine, coarse, self.up_vector(coarse))

    def descend(self, count: tf.Tensor, choose: Choice) -> tf.Tensor:
        """Go down from the top; return the logits of the pixels, [count, SIDE, SIDE, 1].

        choose: gives the latent of each rung, [count, *shape].
        """
        hidden = tf.repeat(tf.convert_to_tensor(self.first), count, axis=0)
        begin = 0
        for level, rungs in enumerate(self.levels):
            hidden = self.downs[level](hidden)
            for rung in rungs:
                hidden = rung.block(hidden)
                latent = choose(Place(rung, level, begin), hidden)
                hidden += rung.back(latent)
                begin += rung.size
        return self.to_pixels(hidden)

    def infer(self, standard: tf.Tensor, features: Features, copies: int | tf.Tensor = 1) -> Descent:
        """Go down along the posterior with standard normal numbers as its noise, [B copies, D].

        features: of B images; copies: adjacent rows of `standard` that belong to one image.
        """
        read = [
            objectives.repeated(each, copies) for each in (features.vector, features.coarse, features.fine)
        ]
        latents, divergences, log_ratios = [], [], []

        def choose(place: Place, hidden: tf.Tensor) -> tf.Tensor:
            rung, drawn = place.rung, place.part(standard)
            shift, log_ratio = rung.corrected(hidden, read[place.level])
            moved = shift + tf.exp(log_ratio) * drawn
            divergences.append(_sum(0.5 * (tf.square(shift) + tf.exp(2.0 * log_ratio) - 1.0) - log_ratio))
            log_ratios.append(_sum(0.5 * (tf.square(drawn) - tf.square(moved)) + log_ratio))
            latents.append(rung.placed(hidden, moved))
            return latents[-1]

        logits = self.descend(tf.shape(standard)[0], choose)
        flat = [tf.reshape(latent, [-1, math.prod(latent.shape[1:])]) for latent in latents]
        return Descent(logits, tf.concat(flat, axis=-1), tf.stack(divergences, axis=-1), tf.add_n(log_ratios))

    def costs(self, images: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the distortion, [B], and the divergence of each layer, [B, layers], with one sample."""
        standard = noise.normal([tf.shape(images)[0], self.latent], seed)

        def packed(inputs: tf.Tensor) -> tf.Tensor:
            pixels = tf.reshape(inputs[:, :PIXELS], [-1, SIDE, SIDE, 1])
            descent = self.infer(inputs[:, PIXELS:], self.features(pixels))
            distortion = objectives.bernoulli_distortion(pixels, descent.logits)
            return tf.concat([distortion[:, None], descent.divergences], axis=-1)

        flat = tf.reshape(images, [-1, PIXELS])
        found = side_by_side(packed, tf.concat([flat, standard], axis=-1))
        return found[:, 0], found[:, 1:]

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        distortion, divergences = self.costs(batch.images, seed)
        rates = tf.unstack(divergences, num=len(self.rungs), axis=-1)
        paid = [annealing.charged(rate, rung.start) for rung, rate in zip(self.rungs, rates, strict=True)]
        named = {f"rate_z{place}": rate for place, rate in enumerate(rates, start=1)}
        return Objective(distortion + tf.add_n(paid), {"distortion": distortion, **named})

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        distortion, divergences = self.costs(batch.images, seed)
        return Terms(distortion, tf.reduce_sum(divergences, axis=-1))

    def log_weights(self, batch: Batch, seed: tf.Tensor, samples: int | tf.Tensor) -> tf.Tensor:
        standard = noise.normal([tf.shape(batch.images)[0], samples, self.latent], seed)
        features = self.features(batch.images)
        descent = self.infer(tf.reshape(standard, [-1, self.latent]), features, samples)
        images = objectives.repeated(batch.images, samples)
        log_weights = descent.log_ratio - objectives.bernoulli_distortion(images, descent.logits)
        return objectives.by_sample(log_weights, samples)

    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        return self.log_weights(batch, seed, 1)[0]

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return the latents of all layers, each at the mean of its posterior given those above, [B, D]."""
        blank = tf.zeros([tf.shape(images)[0], self.latent])
        return self.infer(blank, self.features(images)).latents

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        """Return the mean image of p(x|z) for latents as `encode` gives them, [B, D]."""
        return self.prefix(latents, len(self.rungs))

    def prefix(self, latents: tf.Tensor, layers_kept: int) -> tf.Tensor:
        """Return images of the upper layers' latents, the layers below at their priors' means.

        latents: [B, D] as `encode` gives them; -> [B, SIDE, SIDE, 1] in [0, 1]. What a layer adds is the
        difference between two neighbouring prefixes.
        """
        kept = sum(rung.size for rung in self.rungs[:layers_kept])

        def choose(place: Place, hidden: tf.Tensor) -> tf.Tensor:
            given = place.part(latents)
            return given if place.begin < kept else place.rung.placed(hidden, tf.zeros_like(given))

        return tf.sigmoid(self.descend(tf.shape(latents)[0], choose))

    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Sample ancestrally from the top, then take the mean of p(x|z)."""
        standard = tf.random.stateless_normal([count, self.latent], seed)
        return tf.sigmoid(
            self.descend(count, lambda place, hidden: place.rung.placed(hidden, place.part(standard)))
        )


def _head(outputs: int, grid: bool) -> keras.layers.Layer:
    """Return a layer of a distribution's parameters that begins at zero."""
    if grid:
        return layers.Conv2D(outputs, 3, padding="same", kernel_initializer="zeros")
    return layers.Dense(outputs, kernel_initializer="zeros")


def _bounded(values: tf.Tensor) -> tf.Tensor:
    """Return values squeezed into (-STEEPEST, STEEPEST), the identity near zero."""
    return STEEPEST * tf.tanh(values / STEEPEST)


def _sum(values: tf.Tensor) -> tf.Tensor:
    """Return sums over all axes but the first; [B, ...] -> [B]."""
    return tf.reduce_sum(tf.reshape(values, [tf.shape(values)[0], -1]), axis=-1)


def build(config: Config) -> Ladder:
    """Build the ladder, with fresh weights."""
    return Ladder(config)
