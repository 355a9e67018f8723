"""The interface of every model. The loop, the export, evaluation and reports are written once against it.

Images are float32 [B, SIDE, SIDE, 1] in [0, 1]; labels are int64 [B]; seeds are int32 [2]. Terms are per
example ([B]) and in nats; only the loop averages them over the batch.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer.models import annealing, objectives


class Batch(NamedTuple):
    """What a model sees of the data."""

    images: tf.Tensor  # [B, SIDE, SIDE, 1] in [0, 1]
    labels: tf.Tensor  # [B]


class Terms(NamedTuple):
    """The two sides of the evidence lower bound: elbo = -(distortion + rate)."""

    distortion: tf.Tensor  # [B], -log p(x|z), nats
    rate: tf.Tensor  # [B], KL(q || p) or its one-sample estimate, nats


class Objective(NamedTuple):
    """What training minimises, and the terms worth watching."""

    loss: tf.Tensor  # [B]
    terms: dict[str, tf.Tensor]  # name -> [B]


class Phase(NamedTuple):
    """One of the updates that make up a step: these variables go down this objective's gradient."""

    name: str
    objective: Callable[[Batch, tf.Tensor], Objective]
    variables: Callable[[], list[tf.Variable]]


class Model(keras.layers.Layer, abc.ABC):
    """A set of weights with an objective. Keras tracks layers that are set as attributes."""

    def initialise(self, draw: Callable[[Any], Batch], labels: npt.NDArray[np.int64], seed: int) -> None:
        """Prepare what has to see data before the first step, such as a codebook or labelled images.

        draw: indices into the training split -> that Batch; labels: [N], of the whole split.
        """

    def phases(self) -> list[Phase]:
        """Return the updates of a step, in order, on the same batch; each has its own optimizer."""
        return [Phase("model", self.objective, self.learned)]

    @abc.abstractmethod
    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return the loss of each example, with training behaviour (dropout and the like) on."""

    @abc.abstractmethod
    def metrics_per_example(self, batch: Batch, seed: tf.Tensor, samples: int) -> dict[str, tf.Tensor]:
        """Return what evaluation averages: name -> [B], or [B, D] for statistics over the set; no training
        noise.

        samples: K of the importance-weighted bound.
        """

    def learned(self) -> list[tf.Variable]:
        """Return the variables that gradients move, in a fixed order."""
        return [weight.value for weight in self.trainable_variables]

    def state(self) -> list[tf.Variable]:
        """Return every variable, learned or not, in a fixed order."""
        return [weight.value for weight in self.variables]

    def parameters(self) -> int:
        """Return how many numbers training learns."""
        return int(sum(math.prod(variable.shape) for variable in self.learned()))


class GenerativeModel(Model):
    """A latent-variable model with a bound on log p(x)."""

    latent_prior = "standard normal"
    """Distribution under the model of what `decode` takes; a picture of the latent space goes by it."""

    @abc.abstractmethod
    def terms(self, batch: Batch, seed: tf.Tensor) -> Terms:
        """Return distortion and rate with one sample of q(z|x)."""

    @abc.abstractmethod
    def log_weight(self, batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        """Return log p(x, z) - log q(z|x) with one sample of q(z|x), [B]."""

    @abc.abstractmethod
    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return the mean of q(z|x), [B, D]."""

    @abc.abstractmethod
    def decode(self, latents: tf.Tensor) -> tf.Tensor:
        """Return the mean image of p(x|z), [B, SIDE, SIDE, 1] in [0, 1]; latents: [B, D]."""

    @abc.abstractmethod
    def sample(self, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return mean images of the model's own generative process, [count, SIDE, SIDE, 1] in [0, 1]."""

    def sample_each(self, seeds: tf.Tensor) -> tf.Tensor:
        """Return one sample per seed, independent of the others; int32 [N, 2] -> [N, SIDE, SIDE, 1]."""
        image = tf.TensorSpec([SIDE, SIDE, 1], tf.float32)
        return tf.map_fn(lambda seed: self.sample(tf.constant(1), seed)[0], seeds, fn_output_signature=image)

    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """Return the image decoded from the posterior mean, [B, SIDE, SIDE, 1] in [0, 1]."""
        return self.decode(self.encode(images))

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return the negative evidence lower bound; while the rate warms up, part of the rate only."""
        terms = self.terms(batch, seed)
        return Objective(terms.distortion + annealing.charged(terms.rate), terms._asdict())

    def log_weights(self, batch: Batch, seed: tf.Tensor, samples: int | tf.Tensor) -> tf.Tensor:
        """Return log p(x, z) - log q(z|x) of `samples` samples of q(z|x) per image, [samples, B], in nats.

        This encodes an image once per sample; a model that can do with once per image overrides it.
        """
        repeated = Batch(*(objectives.repeated(part, samples) for part in batch))
        return objectives.by_sample(self.log_weight(repeated, seed), samples)

    def importance_weighted(self, batch: Batch, seed: tf.Tensor, samples: int) -> tf.Tensor:
        """Return the K-sample bound on log p(x), [B], in nats. Burda et al. 2016, eq. 8."""
        return objectives.importance_bound(self.log_weights(batch, seed, samples))

    def metrics_per_example(self, batch: Batch, seed: tf.Tensor, samples: int) -> dict[str, tf.Tensor]:
        """Return bounds and reconstruction error of each image, and the posterior means."""
        terms = self.terms(batch, seed)
        elbo = -(terms.distortion + terms.rate)
        latents = self.encode(batch.images)
        return {
            "elbo": elbo,
            "distortion": terms.distortion,
            "rate": terms.rate,
            "iwelbo": self.importance_weighted(batch, seed + tf.constant([0, 1]), samples),
            "bits_per_dimension": -elbo / (PIXELS * math.log(2.0)),
            "reconstruction_mse": objectives.squared_error(batch.images, self.decode(latents)),
            "latent_mean": latents,
        }


class Classifier(Model):
    """A model of p(label | image)."""

    @abc.abstractmethod
    def logits(self, images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Return unnormalised log-probabilities, [B, CLASSES]; a seed turns training noise (dropout) on."""

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        """Return the cross-entropy of the label."""
        logits = self.logits(batch.images, seed)
        return Objective(cross_entropy(batch.labels, logits), {"accuracy": correct(batch.labels, logits)})

    def metrics_per_example(self, batch: Batch, seed: tf.Tensor, samples: int) -> dict[str, tf.Tensor]:
        """Return whether each label was found, and its cross-entropy in nats."""
        logits = self.logits(batch.images)
        return {
            "accuracy": correct(batch.labels, logits),
            "cross_entropy": cross_entropy(batch.labels, logits),
        }


class Hypernetwork(Classifier):
    """A classifier whose weights another network makes, anew for each image."""

    @abc.abstractmethod
    def first_kernel(self, images: tf.Tensor) -> tf.Tensor:
        """Return the kernel of the first layer made for each image, [B, PIXELS, hidden]."""


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return -log p(label) in nats; [B], [B, CLASSES] -> [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def correct(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return 1.0 where the most probable class is the label, else 0.0; [B], [B, CLASSES] -> [B]."""
    return tf.cast(tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int64), labels), tf.float32)
