"""Train as the models' sources do: one tf.function call a step, fed by tf.data, TensorFlow's threads.

Run by benchmarks/loop.py as a process, since threads are a process's. A line of standard input is `peak`,
answered by the rate of a large matrix product, GFLOP/s; or a variant's name, answered by the floating-point
operations of its step; or a number of steps of that variant, answered by the seconds that they took.
"""

import contextlib
import sys
import time
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from schemas import CLASSES, PIXELS
from trainer import variants
from trainer.binarize import to_images
from trainer.loop import data
from trainer.loop.steps import SEEDS_A_STEP
from trainer.models import objectives, priors
from trainer.models.dense import Dense
from trainer.models.model import Batch
from trainer.variants import Variant
from trainer.variants.vqvae import Codebook

PROTOCOL = "threshold"
IMAGES = 10_000
SHUFFLE = 1_024
PEAK_SIDE = 2_048
KERAS_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


class Naive:
    """Train a variant with the loop of its source."""

    def __init__(self, variant: Variant, examples: data.Examples) -> None:
        keras.utils.set_random_seed(0)
        recipe = variant.recipe
        model = variant.build({})
        images = to_images(tf.constant(examples.pixels), PROTOCOL).numpy()
        model.initialise(
            lambda chosen: Batch(tf.gather(images, chosen), tf.gather(examples.labels, chosen)),
            examples.labels,
            0,
        )
        self._phases = model.phases()
        first = Batch(tf.constant(images[:2]), tf.constant(examples.labels[:2]))
        for phase in self._phases:
            phase.objective(first, tf.constant([0, 0]))
        make = KERAS_OPTIMIZERS[recipe.optimizer]
        self._optimizers = [make(recipe.learning_rate) for _ in self._phases]
        for phase, optimizer in zip(self._phases, self._optimizers, strict=True):
            optimizer.build(phase.variables())
        dataset = tf.data.Dataset.from_tensor_slices((images, examples.labels)).repeat()
        self._batches = iter(dataset.shuffle(SHUFFLE).batch(recipe.batch_size, drop_remainder=True))
        self._step: Any = tf.function(self._train_step)
        self._done = 0

    def seconds(self, steps: int) -> float:
        """Take `steps` steps; the time that took."""
        started = time.perf_counter()
        total = 0.0
        for _ in range(steps):
            images, labels = next(self._batches)
            seed = tf.constant([0, self._done * SEEDS_A_STEP])
            with as_the_sources():  # for the first call, which traces
                total += self._step(images, labels, seed)
            self._done += 1
        float(total)
        return time.perf_counter() - started

    def step_flop(self) -> int:
        """Floating-point operations of a step, as TensorFlow's profiler counts them."""
        images, labels = next(self._batches)
        graph = tf.function(self._train_step).get_concrete_function(images, labels, tf.constant([0, 0])).graph
        builder = tf.compat.v1.profiler.ProfileOptionBuilder
        options = builder(builder.float_operation()).with_empty_output().build()
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)

    def _train_step(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for phase, optimizer in zip(self._phases, self._optimizers, strict=True):
            variables = phase.variables()
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(phase.objective(Batch(images, labels), seed).loss)
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            total += loss
        return total


def as_the_sources() -> contextlib.ExitStack:
    """Return a context in which models are traced with the operations that their sources call."""
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(objectives, "bernoulli_distortion", plain_distortion))
    stack.enter_context(mock.patch.object(priors, "log_probabilities", plain_log_probabilities))
    stack.enter_context(mock.patch.object(Dense, "call", keras.layers.Dense.call))
    stack.enter_context(mock.patch.object(Codebook, "nearest", plain_nearest))
    return stack


def plain_distortion(images: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return objectives.bernoulli_distortion, [B] in nats, by TensorFlow's own operation."""
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.broadcast_to(images, logits.shape), logits=logits
    )
    return tf.reduce_sum(entropies, axis=[-3, -2, -1])


def plain_log_probabilities(codes: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return priors.log_probabilities by TensorFlow's own operation."""
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=codes, logits=logits)


def plain_nearest(codebook: Codebook, vectors: tf.Tensor) -> tf.Tensor:
    """Return Codebook.nearest by whole squared distances, as published code of VQ-VAEs does."""
    codes = tf.convert_to_tensor(codebook.vectors)
    overlap = tf.matmul(vectors, codes, transpose_b=True)
    squares = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    distances = squares - 2.0 * overlap + tf.reduce_sum(tf.square(codes), axis=-1)
    return tf.argmin(distances, axis=-1, output_type=tf.int32)


def synthetic(count: int) -> data.Examples:
    """Return images of random bits: the time of a step does not depend on what they show."""
    draw = np.random.default_rng(0)
    pixels = (draw.random([count, PIXELS]) < 0.15).astype(np.uint8)
    return data.Examples(pixels, draw.integers(0, CLASSES, count))


def matmul_peak() -> float:
    """Return the GFLOP/s of one large float32 matrix product, the best of several."""
    matrix = tf.random.stateless_uniform([PEAK_SIDE, PEAK_SIDE], [0, 0])
    multiply: Any = tf.function(tf.matmul)

    def seconds() -> float:
        started = time.perf_counter()
        multiply(matrix, matrix).numpy()
        return time.perf_counter() - started

    seconds()
    return 2 * PEAK_SIDE**3 / min(seconds() for _ in range(5)) / 1e9


def main() -> None:
    """Answer the lines of standard input with a number each.

    `peak` is answered with the machine's GFLOP/s; the name of a variant, which is then trained, with the FLOP
    of a step; a number of steps with the seconds that they took.
    """
    examples = synthetic(IMAGES)
    naive: Naive | None = None
    for line in map(str.strip, sys.stdin):
        if line == "peak":
            answer = matmul_peak()
        elif naive and line.isdecimal():
            answer = naive.seconds(int(line))
        else:
            keras.backend.clear_session()
            naive = Naive(variants.load(line), examples)
            answer = naive.step_flop()
        print(answer, flush=True)


if __name__ == "__main__":
    main()
