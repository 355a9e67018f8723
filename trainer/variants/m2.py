"""Semi-supervised VAE M2 (Kingma et al. 2014): a class and a latent vector, most labels unseen.

The model is p(y) uniform, p(z) = N(0, I) and p(x|y,z); the posterior is q(y|x) q(z|x,y). The two networks of
z have one hidden layer of softplus units, as in the paper; q(y|x) is two convolutions with pooling, where the
paper has dense layers. Only a few labels are used (10 of each class by default, drawn with the run's seed).
All other images are unlabelled, and their bound is summed exactly over the classes:
U(x) = sum_y q(y|x) (L(x, y) + log q(y|x)), with L(x, y) = distortion + KL(q(z|x,y) || p(z)) - log p(y).
The loss of an image is U(x) + labelled_weight mean L(x', y') - alpha mean log q(y'|x'), with means over
labelled images.

The rate of the reported bound is sum_y q(y|x) KL(q(z|x,y) || p(z)) + KL(q(y|x) || p(y)).

Measured: error 10.0 % with 100 labels after 30,000 steps of 100 images, 13.2 % in quick; test ELBO -131.5
± 0.9 nats in quick (threshold).
Run: latentline run --variants m2 --profile full
Published: error 11.97 ± 1.71 % with 100 labels.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from schemas import CLASSES
from trainer.models import checks
from trainer.recipe import Budget, Recipe

FAMILY = "both"

RECIPE = Recipe(
    steps=Budget(smoke=40, quick=600, full=60_000),
    floor=Budget(smoke=-540.0, quick=-155.0, full=-120.0),
    optimizer="adam",
    learning_rate=1e-3,
    batch_size=50,
    cores=2,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The networks, the labels and their weights in the loss.

    Attributes:
      labels: labelled images, the same number of each class.
      labelled_batch: labelled images drawn per step.
      alpha: weight of the labelled images' cross-entropy.
      labelled_weight: weight of the labelled images' bound.
      latent: dimensions of z.
      hidden: units of the hidden layers.
      dropout: rate at which the classifier's features are dropped in training; without it, a hundred labels
        are learned by heart.
    """

    labels: int = 10 * CLASSES
    labelled_batch: int = 100
    alpha: float = 100.0
    labelled_weight: float = 0.02
    latent: int = 10
    hidden: int = 256
    dropout: float = 0.5

    def __post_init__(self) -> None:
        checks.at_least(1, labelled_batch=self.labelled_batch, latent=self.latent, hidden=self.hidden)
        checks.at_least(0, alpha=self.alpha, labelled_weight=self.labelled_weight)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if self.labels < CLASSES or self.labels % CLASSES:
            raise ValueError(f"labels must be a multiple of {CLASSES}, and not 0, got {self.labels}")


# The model: only a process that builds it runs the file from here on.
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import Sequential, layers

from schemas import PIXELS, SIDE
from trainer.devices import shares
from trainer.models import annealing, noise, objectives
from trainer.models.dense import Dense
from trainer.models.layers import Dropout
from trainer.models.model import Batch, Classifier, GenerativeModel, Objective, Terms, correct, cross_entropy


class Given(NamedTuple):
    """-log p(x|y,z) and the rate of z, for given classes and one sample of z; nats, [...]."""

    distortion: tf.Tensor
    rate: tf.Tensor


class M2(GenerativeModel, Classifier):
    """A VAE conditioned on a class that is itself inferred."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.features = Sequential(
            [
                layers.Conv2D(16, 5, padding="same", activation="relu"),
                layers.MaxPool2D(),
                layers.Conv2D(32, 5, padding="same", activation="relu"),
                layers.MaxPool2D(),
                layers.Flatten(),
            ]
        )
        self.dropout = Dropout(config.dropout)
        self.classifier_out = Dense(CLASSES)
        self.image_to_hidden = Sequential([layers.Flatten(), Dense(config.hidden)])
        self.class_to_hidden = Dense(config.hidden, use_bias=False)
        self.hidden_to_latent = Dense(2 * config.latent)
        self.latent_to_decoder = Dense(config.hidden)
        self.class_to_decoder = Dense(config.hidden, use_bias=False)
        self.decoder_to_pixels = Dense(PIXELS)
        self.labelled_images = self.add_weight(
            shape=[config.labels, SIDE, SIDE, 1], initializer="zeros", trainable=False, name="labelled_images"
        )
        self.labelled_classes = self.add_weight(
            shape=[config.labels], initializer="zeros", dtype="int64", trainable=False, name="labels"
        )

    def initialise(self, draw: Callable[[Any], Batch], labels: npt.NDArray[np.int64], seed: int) -> None:
        """Keep the labelled images. Raises ValueError if a class has too few."""
        batch = draw(balanced(labels, self.config.labels, seed))
        self.labelled_images.assign(batch.images)
        self.labelled_classes.assign(batch.labels)

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        config = self.config
        terms = self.summed(batch.images, self.logits(batch.images, seed + tf.constant([0, 4])), seed)
        with shares.whole():
            bound, cost = self.labelled(seed)
        loss = (
            terms.distortion
            + annealing.charged(terms.rate)
            + config.labelled_weight * bound
            + config.alpha * cost
        )
        watched = {"labelled_bound": bound, "labelled_cross_entropy": cost}
        shared = {name: tf.fill(tf.shape(loss), value) for name, value in watched.items()}
        return Objective(loss, {**terms._asdict(), **shared})

    def labelled(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return bound (negative) and cross-entropy of the step's labelled images, as means in nats."""
        count = self.config.labelled_batch
        chosen = tf.random.stateless_uniform(
            [count], seed + tf.constant([0, 1]), 0, self.config.labels, tf.int32
        )
        images = tf.gather(tf.convert_to_tensor(self.labelled_images), chosen)
        labels = tf.gather(tf.convert_to_tensor(self.labelled_classes), chosen)
        given = self.given(images, tf.one_hot(labels, CLASSES), seed + tf.constant([0, 2]))
        bound = tf.reduce_mean(given.distortion + given.rate) + math.log(CLASSES)
        cost = tf.reduce_mean(cross_entropy(labels, self.logits(images, seed + tf.constant([0, 5]))))
        return bound, cost

    def given(self, images: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor) -> Given:
        """Return the terms for images [B, SIDE, SIDE, 1] and class weights [B, CLASSES] or [B, C, CLASSES].

        All classes of an image share its noise, so that noise is not what differs between them.
        """
        hidden, target = self.image_to_hidden(images), tf.reshape(images, [-1, PIXELS])
        if len(classes.shape) == 3:
            hidden, target = hidden[:, None], target[:, None]
        mean, log_var = self.latent_posterior(hidden, classes)
        standard = noise.normal([tf.shape(images)[0], self.config.latent], seed)
        standard = standard[:, None] if len(classes.shape) == 3 else standard
        logits = self.pixel_logits(objectives.place(standard, mean, log_var), classes)  # [..., PIXELS]
        distortion = objectives.bernoulli_distortion(target[..., None, None], logits[..., None, None])
        return Given(distortion, objectives.standard_kl(mean, log_var))

    def latent_posterior(self, hidden: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and log-variance of q(z|x,y), [..., D] each; hidden: the image's part of the layer."""
        joined = tf.nn.softplus(hidden + self.class_to_hidden(classes))
        mean, log_var = tf.split(self.hidden_to_latent(joined), 2, axis=-1)
        return mean, log_var

    def pixel_logits(self, latents: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Return the logits of p(x|y,z); [..., D], [..., CLASSES] -> [..., PIXELS]."""
        joined = self.latent_to_decoder(latents) + self.class_to_decoder(classes)
        return self.decoder_to_pixels(tf.nn.softplus(joined))

    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        """Return distortion and rate with the labels unseen."""
        return self.summed(batch.images, self.logits(batch.images), seed)

    def summed(self, images: tf.Tensor, logits: tf.Tensor, seed: tf.Tensor) -> Terms:
        """Sum the terms over the classes with the weights q(y|x) = softmax(logits), [B, CLASSES]."""
        given = self.given(images, every_class(tf.shape(images)[0]), seed)  # [B, CLASSES]
        log_q = tf.nn.log_softmax(logits)
        share = tf.exp(log_q)
        rate = tf.reduce_sum(share * given.rate, axis=-1) + objectives.uniform_kl(log_q)
        return Terms(tf.reduce_sum(share * given.distortion, axis=-1), rate)

    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        """Return log p(x, y, z) - log q(y, z|x) with one sample of both, [B]."""
        log_q = tf.nn.log_softmax(self.logits(batch.images))
        drawn = tf.random.stateless_categorical(log_q, 1, seed + tf.constant([0, 3]))[:, 0]
        classes = tf.one_hot(drawn, CLASSES)
        mean, log_var = self.latent_posterior(self.image_to_hidden(batch.images), classes)
        latents = objectives.reparameterise(mean, log_var, seed)
        logits = tf.reshape(self.pixel_logits(latents, classes), tf.shape(batch.images))
        log_prior = objectives.log_normal(latents, 0.0, 0.0) - math.log(CLASSES)
        log_posterior = objectives.log_normal(latents, mean, log_var) + tf.reduce_sum(
            classes * log_q, axis=-1
        )
        return log_prior - log_posterior - objectives.bernoulli_distortion(batch.images, logits)

    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        features = self.features(images)
        return self.classifier_out(self.dropout(features, seed))

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return q(y|x) and the mean of q(z|x), [B, CLASSES + D]."""
        share = tf.nn.softmax(self.logits(images))
        hidden = self.image_to_hidden(images)[:, None]
        means = self.latent_posterior(hidden, every_class(tf.shape(images)[0]))[0]  # [B, CLASSES, D]
        return tf.concat([share, tf.einsum("by,byd->bd", share, means)], axis=-1)

    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        """Return mean images from weights of the classes followed by z, [B, CLASSES + D]."""
        logits = self.pixel_logits(latents[:, CLASSES:], latents[:, :CLASSES])
        return tf.reshape(tf.sigmoid(logits), [-1, SIDE, SIDE, 1])

    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return images, the i-th of class i modulo CLASSES, with z from N(0, I)."""
        classes = tf.one_hot(tf.range(count) % CLASSES, CLASSES)
        latents = tf.random.stateless_normal([count, self.config.latent], seed)
        return self.decode(tf.concat([classes, latents], axis=-1))

    def sample_each(self, seeds: tf.Tensor) -> tf.Tensor:
        """Return one sample per seed, of a class that the seed draws; int32 [N, 2] -> [N, SIDE, SIDE, 1]."""

        def one(seed: tf.Tensor) -> tf.Tensor:
            drawn = tf.random.stateless_uniform([1], seed + tf.constant([0, 6]), 0, CLASSES, tf.int32)
            latents = tf.random.stateless_normal([1, self.config.latent], seed)
            return self.decode(tf.concat([tf.one_hot(drawn, CLASSES), latents], axis=-1))[0]

        return tf.map_fn(one, seeds, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 1], tf.float32))

    def metrics_per_example(self, batch: Batch, seed: tf.Tensor, samples: int) -> dict[str, tf.Tensor]:
        """Return the metrics of both families; `latent_mean` is of z alone, [B, D]."""
        found = GenerativeModel.metrics_per_example(self, batch, seed, samples)
        logits = self.logits(batch.images)
        return {
            **found,
            "latent_mean": found["latent_mean"][:, CLASSES:],
            "accuracy": correct(batch.labels, logits),
            "cross_entropy": cross_entropy(batch.labels, logits),
        }


def every_class(count: tf.Tensor) -> tf.Tensor:
    """Return all classes for each of `count` images, one-hot, [count, CLASSES, CLASSES]."""
    return tf.tile(tf.eye(CLASSES)[None], [count, 1, 1])


def balanced(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return indices of `count` examples, the same number of each class; ValueError if one has too few."""
    generator, each = np.random.default_rng(seed), count // CLASSES
    found = [np.flatnonzero(labels == digit) for digit in range(CLASSES)]
    least = min(len(indices) for indices in found)
    if least < each:
        raise ValueError(
            f"{count} labels take {each} images of each class, but a class has only {least}; "
            f"set labels to at most {least * CLASSES} or bring more data"
        )
    return np.concatenate([generator.choice(indices, each, replace=False) for indices in found])


def build(config: Config) -> M2:
    """Build the networks, with fresh weights; training fills in the labelled images."""
    return M2(config)
