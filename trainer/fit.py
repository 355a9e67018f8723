"""The training loop: many steps inside one graph call, data in memory, one line of progress.

A step costs what its mathematics costs: nothing returns to Python between the steps of a chunk. What a step
sees (batch, noise) depends only on the seed and the step's number.
"""

import dataclasses
import time
from typing import Any

import numpy as np
import tensorflow as tf

from schemas import SIDE
from trainer import data, optimizers
from trainer.binarize import to_inputs
from trainer.model import Batch, Model
from trainer.progress import Progress
from trainer.recipe import Recipe

FIRST_CHUNK = 20
CHUNK_SECONDS = 1.0
LONGEST_CHUNK = 2_000
SEEDS_A_STEP = 16


class NonFiniteLoss(FloatingPointError):
    """Training met a loss that is not a number; the message names variant, step and last finite terms."""


@dataclasses.dataclass(frozen=True)
class Point:
    """Means over the steps of a chunk that ends with `step`."""

    step: int
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What training did.

    Attributes:
      steps: optimizer steps taken.
      step_seconds: wall time of the steps alone, without tracing.
      images_per_second: over those.
      curve: training terms, a point a chunk.
    """

    steps: int
    step_seconds: float
    images_per_second: float
    curve: list[Point]


def fit(
    model: Model,
    examples: data.Examples,
    *,
    recipe: Recipe,
    steps: int,
    protocol: str,
    seed: int,
    name: str,
    log_dir: str | None = None,
) -> Fitted:
    """Train `model` in place for `steps` steps.

    examples: the training split, kept in memory. name: for progress and errors. log_dir: TensorBoard scalars.
    Raises NonFiniteLoss.
    """
    chunk = Chunk(model, examples, recipe, protocol, seed)
    progress = Progress(name, steps, recipe.batch_size)
    writer = tf.summary.create_file_writer(log_dir) if log_dir else tf.summary.create_noop_writer()
    curve: list[Point] = []
    size, done, timed_steps, timed_seconds = FIRST_CHUNK, 0, 0, 0.0
    with writer.as_default(), progress:
        while done < steps:
            size = min(size, steps - done)
            started = time.perf_counter()
            values = chunk.run(done, size, name)
            seconds = time.perf_counter() - started
            done += size
            if done > size or done == steps:  # the first call also traces
                timed_steps, timed_seconds = timed_steps + size, timed_seconds + seconds
            curve.append(Point(done, values))
            for term, value in values.items():
                tf.summary.scalar(f"train/{term}", value, step=done)
            progress.update(done, values)
            size = _next_size(size, seconds, first=done == FIRST_CHUNK)
    return Fitted(steps, timed_seconds, timed_steps * recipe.batch_size / max(timed_seconds, 1e-9), curve)


def _next_size(size: int, seconds: float, first: bool) -> int:
    """Steps of the next chunk, so that it lasts about CHUNK_SECONDS."""
    if first:
        return 2 * size
    wanted = int(size * CHUNK_SECONDS / max(seconds, 1e-3))
    return max(1, min(wanted, 4 * size, LONGEST_CHUNK))


class Chunk:
    """Runs of consecutive steps as one graph call each."""

    def __init__(
        self, model: Model, examples: data.Examples, recipe: Recipe, protocol: str, seed: int
    ) -> None:
        self._model = model
        self._protocol = protocol
        self._recipe = recipe
        self._seed = seed
        self._count = len(examples.labels)
        self._pixels = tf.constant(examples.pixels)
        self._labels = tf.constant(examples.labels)
        model.initialise(lambda chosen: self._batch(tf.constant(chosen), 0), examples.labels, seed)
        self._phases = model.phases()
        self.terms = self._create_weights()
        self._optimizers = [optimizers.make(recipe.optimizer, recipe.learning_rate) for _ in self._phases]
        for phase, optimizer in zip(self._phases, self._optimizers, strict=True):
            optimizer._create_all_weights(phase.variables())  # before tracing, which must create no variable
        self._steps: Any = tf.function(
            self._run_steps,
            input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)],
            autograph=False,  # the loop is a tf.while_loop already; conversion costs seconds
        )

    def run(self, first: int, steps: int, name: str) -> dict[str, float]:
        """Take the steps `first` to `first + steps - 1`; the means of their terms, nats."""
        indices = data.batch_indices(self._count, self._recipe.batch_size, first, steps, self._seed)
        taken, totals, last, bad = (t.numpy() for t in self._steps(tf.constant(indices), first))
        if taken < steps:
            raise NonFiniteLoss(self._diagnosis(name, first + int(taken), bad, last))
        return dict(zip(self.terms, (float(v) for v in totals / taken), strict=True))

    def _diagnosis(self, name: str, step: int, bad: Any, last: Any) -> str:
        broken = [term for term, value in zip(self.terms, bad, strict=True) if not np.isfinite(value)]
        before = ", ".join(f"{term} {value:.6g}" for term, value in zip(self.terms, last, strict=True))
        return (
            f"{name}: {' and '.join(broken)} became non-finite at step {step}; the step before had {before}. "
            f"Try a smaller learning_rate than {self._recipe.learning_rate}, or another seed"
        )

    def _run_steps(self, indices: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, ...]:
        count = tf.shape(indices)[0]
        zeros = tf.zeros([len(self.terms)])

        def finite(taken: tf.Tensor, totals: tf.Tensor, last: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
            return (taken < count) & tf.reduce_all(tf.math.is_finite(now))

        def step(taken: tf.Tensor, totals: tf.Tensor, last: tf.Tensor, now: tf.Tensor) -> Any:
            values = self._step(indices[taken], first + taken)
            good = tf.reduce_all(tf.math.is_finite(values))
            return (
                taken + tf.cast(good, tf.int32),
                totals + values,
                tf.where(good, values, now),
                values,
            )

        return tf.while_loop(finite, step, [tf.constant(0), zeros, zeros, zeros])

    def _step(self, indices: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """One update of every phase; the batch means of their losses and terms, [len(terms)]."""
        batch, noise = self._batch(indices, step), self._noise(step)
        values: list[tf.Tensor] = []
        for phase, optimizer in zip(self._phases, self._optimizers, strict=True):
            variables = phase.variables()
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                objective = phase.objective(batch, noise)
                loss = tf.reduce_mean(objective.loss)
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            values += [loss, *(tf.reduce_mean(term) for term in objective.terms.values())]
        return tf.stack(values)

    def _create_weights(self) -> list[str]:
        """Call every objective once, so that the layers make their variables; the names of all terms."""
        batch, noise = self._batch(tf.range(2), 0), self._noise(0)
        names: list[str] = []
        for phase in self._phases:
            prefix = "" if len(self._phases) == 1 else f"{phase.name}_"
            terms = phase.objective(batch, noise).terms
            names += [f"{prefix}{term}" for term in ("loss", *terms)]
        return names

    def _batch(self, indices: tf.Tensor, step: Any) -> Batch:
        pixels = tf.gather(self._pixels, indices)
        binarization = self._noise(step) + tf.constant([0, SEEDS_A_STEP - 1])
        images = to_inputs(pixels, self._protocol, binarization)
        return Batch(tf.reshape(images, [-1, SIDE, SIDE, 1]), tf.gather(self._labels, indices))

    def _noise(self, step: Any) -> tf.Tensor:
        """The seed of a step, int32 [2]; its second number may be raised by up to SEEDS_A_STEP - 1."""
        return tf.stack([tf.constant(self._seed), step * SEEDS_A_STEP])
