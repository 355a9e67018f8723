"""Consecutive training steps as one graph call: nothing returns to Python between the steps.

What a step sees (batch, noise) depends only on the seed and the number of the step, and neither on the call
that it belongs to nor on the number of replicas that its batch is split over.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from schemas import PIXELS
from trainer.binarize import to_images
from trainer.devices import cores, shares
from trainer.loop import data
from trainer.loop.state import TrainState
from trainer.loop.warm import WarmStart
from trainer.models import annealing
from trainer.models.model import Batch, Model
from trainer.recipe import Recipe

SEEDS_A_STEP = 16
WINDOW_BYTES = 16 << 20
"""Size of the images that one call takes along when the training split is not in memory."""


class NonFiniteLoss(FloatingPointError):
    """Training met a loss or gradient that is not finite; the message names variant, step and terms."""


class Carry(NamedTuple):
    """What passes from step to step inside a call."""

    taken: tf.Tensor  # int32 [], steps taken
    totals: tf.Tensor  # [terms], sums over the steps taken
    last: tf.Tensor  # [terms], of the last finite step
    now: tf.Tensor  # [terms + phases], of the latest step, gradient norms after the terms
    alive: tf.Tensor  # bool [], whether the latest step was finite


class Steps:
    """A model, its training state and its data, behind `run`.

    total: steps of the whole run, over which the learning rate decays; by default those of profile full.

    Attributes:
      state: everything that the steps change.
      terms: names of the losses and terms whose means `run` returns.
    """

    def __init__(
        self,
        model: Model,
        examples: data.Examples,
        recipe: Recipe,
        protocol: str,
        seed: int,
        strategy: tf.distribute.Strategy,
        start: WarmStart | None = None,
        total: int | None = None,
    ) -> None:
        self._examples, self._recipe = examples, recipe
        self._protocol, self._seed, self._strategy = protocol, seed, strategy
        self._replicas = strategy.num_replicas_in_sync
        if recipe.batch_size % self._replicas:
            raise ValueError(
                f"a batch of {recipe.batch_size} cannot be split evenly over {self._replicas} replicas; "
                f"choose a batch_size that is a multiple of {self._replicas}"
            )
        self._streams = isinstance(examples.pixels, np.memmap)
        if not self._streams:
            self._window = data.tensors(examples)
        with strategy.scope():
            model.initialise(self._draw, examples.labels, seed)
            self._phases = model.phases()
            self.terms = self._create_weights()
            if start:
                start.give(model)
            self.state = TrainState(model, self._phases, recipe, total or int(recipe.steps.full))
        self._watched = [*self.terms, *(f"{phase.name} gradient" for phase in self._phases)]
        self._last = np.full([len(self.terms)], np.nan, np.float32)
        self._graph: Any = tf.function(
            self._run,
            input_signature=[
                tf.TensorSpec([None, PIXELS], tf.uint8),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None, recipe.batch_size], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([len(self.terms)], tf.float32),
            ],
            autograph=False,  # the loop is a tf.while_loop already; conversion costs seconds
        )
        self._replica_step: Any = self._share_of_step
        if recipe.jit_compile:
            self._replica_step = tf.function(self._share_of_step, jit_compile=True, autograph=False)

    def longest(self) -> int | None:
        """Return the most steps a call may take where the split is not in memory, else None."""
        return max(1, WINDOW_BYTES // (PIXELS * self._recipe.batch_size)) if self._streams else None

    def run(self, first: int, steps: int, name: str) -> dict[str, float]:
        """Take the steps `first` to `first + steps - 1`; return the means of the terms over them, in nats.

        name: of the variant, for messages. Raises NonFiniteLoss.
        """
        indices = data.batch_indices(
            len(self._examples.labels), self._recipe.batch_size, first, steps, self._seed
        )
        if self._streams:
            pixels, labels = data.rows(self._examples, indices.ravel())
            window = tf.constant(pixels), tf.constant(labels)
            indices = np.arange(indices.size, dtype=np.int32).reshape(indices.shape)
        else:
            window = self._window
        with cores.executor(max(self._recipe.cores, self._replicas)):
            result = self._graph(*window, tf.constant(indices), first, self._last)
        end = Carry(*(value.numpy() for value in result))
        self._last = end.last
        if not end.alive:
            raise NonFiniteLoss(self._diagnosis(name, first + int(end.taken), end.now, end.last))
        if not self.state.finite():
            raise NonFiniteLoss(
                f"{name}: a weight became non-finite between steps {first} and {first + steps}, though the "
                f"loss did not. {self._advice()}"
            )
        return {term: float(total / steps) for term, total in zip(self.terms, end.totals, strict=True)}

    def _diagnosis(self, name: str, step: int, now: Any, last: Any) -> str:
        broken = [what for what, value in zip(self._watched, now, strict=True) if not np.isfinite(value)]
        known = [f"{term} {value:.6g}" for term, value in zip(self.terms, last, strict=True)]
        before = ", ".join(known) if np.isfinite(last).all() else "none, as this was the process's first step"
        return (
            f"{name}: {' and '.join(broken)} became non-finite at step {step}; the last finite values: "
            f"{before}. {self._advice()}"
        )

    def _advice(self) -> str:
        return f"Try a smaller learning_rate than {self._recipe.learning_rate}, a clip_norm, or another seed"

    def _run(
        self, pixels: tf.Tensor, labels: tf.Tensor, indices: tf.Tensor, first: tf.Tensor, last: tf.Tensor
    ) -> Carry:
        count = tf.shape(indices)[0]

        def going(*carry: tf.Tensor) -> tf.Tensor:
            state = Carry(*carry)
            return (state.taken < count) & state.alive

        def step(*carry: tf.Tensor) -> Carry:
            state = Carry(*carry)
            now = self._step(pixels, labels, indices[state.taken], first + state.taken)
            finite = tf.reduce_all(tf.math.is_finite(now))
            terms = now[: len(self.terms)]
            return Carry(
                state.taken + tf.cast(finite, tf.int32),
                state.totals + terms,
                tf.where(finite, terms, state.last),
                now,
                finite,
            )

        zeros = tf.zeros([len(self.terms)])
        start = Carry(tf.constant(0), zeros, last, tf.zeros([len(self._watched)]), tf.constant(True))
        return Carry(*tf.while_loop(going, step, start))

    def _step(self, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Update every phase once; return losses and terms over the global batch, then gradient norms."""
        values = self._strategy.run(self._replica_step, args=(pixels, labels, chosen, step))
        return self._strategy.experimental_local_results(values)[0]

    def _share_of_step(
        self, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """Take a replica's share of a step, on its equal part of the batch `chosen`."""
        replica: tf.Tensor = tf.distribute.get_replica_context().replica_id_in_sync_group
        if self._replicas > 1:
            rows = self._recipe.batch_size // self._replicas
            chosen = tf.ensure_shape(chosen[replica :: self._replicas], [rows])
        with shares.share(replica, self._replicas), cores.parts(self._recipe.cores):
            return self._updates(self._batch(pixels, labels, chosen, step), self._noise(step), step)

    def _updates(self, batch: Batch, seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        terms: list[tf.Tensor] = []
        norms: list[tf.Tensor] = []
        for phase, optimizer in zip(self._phases, self.state.optimizers, strict=True):
            variables = phase.variables()
            warming = annealing.warming(self._kl_progress(step))
            with warming, tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                objective = phase.objective(batch, seed)
                loss = tf.reduce_mean(objective.loss) / self._replicas
            terms += [loss, *(tf.reduce_mean(term) / self._replicas for term in objective.terms.values())]
            moved = [
                (gradient, variable)
                for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)
                if gradient is not None
            ]
            norms.append(self._update(optimizer, moved))
        self.state.update_averages(step)
        return tf.concat([self._summed(tf.stack(terms)), tf.stack(norms)], axis=0)

    def _kl_progress(self, step: tf.Tensor) -> tf.Tensor | None:
        """Return how far the warm-up of the rate has come, float32 [] in [0, 1]; None without one."""
        steps = self._recipe.kl_warm_up
        return tf.minimum(tf.cast(step, tf.float32) / steps, 1.0) if steps else None

    def _summed(self, values: Any) -> Any:
        """Return sums over the replicas, of one tensor or of a list of them."""
        if self._replicas == 1:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

    def _update(self, optimizer: Any, moved: list[tuple[tf.Tensor, tf.Variable]]) -> tf.Tensor:
        """Move the variables down their gradients, clipped if the recipe says so.

        Return the gradients' global norm where the recipe clips it, else zero: a non-finite gradient then
        shows in the next loss or in the weights.
        """
        gradients = self._summed([gradient for gradient, _ in moved])
        norm = tf.constant(0.0)
        if self._recipe.clip_norm:
            norm = tf.linalg.global_norm(gradients)
            gradients, _ = tf.clip_by_global_norm(gradients, self._recipe.clip_norm, use_norm=norm)
        pairs = zip(gradients, (variable for _, variable in moved), strict=True)
        done = optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
        with tf.control_dependencies([done]):
            return tf.identity(norm)

    def _create_weights(self) -> list[str]:
        """Call every objective once, so that the layers create their variables; return the terms' names.

        Raises ValueError for a warm-up of the rate in a variant whose loss has none.
        """
        batch, seed = self._draw(np.arange(2)), self._noise(0)
        names: list[str] = []
        with annealing.warming(self._kl_progress(tf.constant(0))) as warm_up:
            for phase in self._phases:
                prefix = "" if len(self._phases) == 1 else f"{phase.name}_"
                terms = phase.objective(batch, seed).terms
                names += [f"{prefix}{term}" for term in ("loss", *terms)]
        if warm_up and not warm_up.heeded:
            raise ValueError(
                "recipe.kl_warm_up: the loss that this configuration trains has no rate to warm up; leave "
                "kl_warm_up at 0"
            )
        return names

    def _draw(self, chosen: Any) -> Batch:
        """Return the training examples `chosen`, indices [B], as the first step would see them."""
        pixels, labels = data.rows(self._examples, np.asarray(chosen))
        return self._batch(tf.constant(pixels), tf.constant(labels), tf.range(len(labels)), 0)

    def _batch(self, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor, step: Any) -> Batch:
        binarization = self._noise(step) + tf.constant([0, SEEDS_A_STEP - 1])
        images = to_images(tf.gather(pixels, chosen), self._protocol, binarization)
        return Batch(images, tf.gather(labels, chosen))

    def _noise(self, step: Any) -> tf.Tensor:
        """Return the seed of a step, int32 [2]; its second number may be raised by up to SEEDS_A_STEP - 1."""
        return tf.stack([tf.constant(self._seed), step * SEEDS_A_STEP])
