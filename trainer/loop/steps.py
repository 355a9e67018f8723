"""Runs of consecutive training steps as one graph call each: nothing returns to Python between the steps.

What a step sees (batch, noise) depends only on the seed and the step's number, and on neither the call that
it belongs to nor the number of replicas its batch is split over.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer.binarize import to_inputs
from trainer.devices import cores, shares
from trainer.loop import data, optimizers
from trainer.loop.warm import WarmStart
from trainer.models.model import Batch, Model
from trainer.recipe import Recipe

SEEDS_A_STEP = 16
WINDOW_BYTES = 16 << 20
"""Of the images that one call takes along when the set is not in memory."""

VARIABLE = "variable_{:04d}"


class NonFiniteLoss(FloatingPointError):
    """Training met a loss or gradient that is not a number; the message names variant, step and terms."""


class Carry(NamedTuple):
    """What passes from step to step inside a call."""

    taken: tf.Tensor  # int32 [], steps behind us
    skipped: tf.Tensor  # int32 [], of them left out
    totals: tf.Tensor  # [terms], sums over the steps that were not
    last: tf.Tensor  # [terms], of the last good step
    now: tf.Tensor  # [terms + phases], of the latest step, gradient norms behind the terms
    alive: tf.Tensor  # bool []


class Taken(NamedTuple):
    """What a call did."""

    means: dict[str, float]  # of the terms over the steps that counted, nats
    skipped: int  # steps left out as non-finite


class Steps:
    """A model, its optimizers and its data, behind `run`."""

    def __init__(
        self,
        model: Model,
        examples: data.Examples,
        recipe: Recipe,
        protocol: str,
        seed: int,
        strategy: tf.distribute.Strategy,
        start: WarmStart | None = None,
    ) -> None:
        self._model, self._examples, self._recipe = model, examples, recipe
        self._protocol, self._seed, self._strategy = protocol, seed, strategy
        self._replicas = strategy.num_replicas_in_sync
        self._check()
        self._streams = isinstance(examples.pixels, np.memmap)
        if not self._streams:
            self._window = tf.constant(examples.pixels), tf.constant(examples.labels)
        with strategy.scope():
            model.initialise(self._draw, examples.labels, seed)
            self._phases = model.phases()
            self.terms = self._create_weights()
            if start:
                start.give(model)
            self._optimizers = [optimizers.make(recipe.optimizer, recipe.learning_rate) for _ in self._phases]
            for phase, optimizer in zip(self._phases, self._optimizers, strict=True):
                optimizer._create_all_weights(phase.variables())  # before tracing, which must create none
            self._averages = self._create_averages()
        self._watched = [*self.terms, *(f"{phase.name} gradient" for phase in self._phases)]
        self._last = np.full([len(self.terms)], np.nan, np.float32)
        self._graph: Any = tf.function(
            self._run,
            input_signature=[
                tf.TensorSpec([None, PIXELS], tf.uint8),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None, recipe.batch_size], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([len(self.terms)], tf.float32),
            ],
            autograph=False,  # the loop is a tf.while_loop already; conversion costs seconds
        )
        self._replica_step: Any = self._share_of_step
        if recipe.jit_compile:
            self._replica_step = tf.function(self._share_of_step, jit_compile=True, autograph=False)

    def longest(self) -> int | None:
        """Most steps a call may take, where the set is not in memory."""
        return max(1, WINDOW_BYTES // (PIXELS * self._recipe.batch_size)) if self._streams else None

    def run(self, first: int, steps: int, name: str, skipped: int = 0) -> Taken:
        """Take the steps `first` to `first + steps - 1`. skipped: so far. Raises NonFiniteLoss."""
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
            result = self._graph(*window, tf.constant(indices), first, skipped, self._last)
        end = Carry(*(value.numpy() for value in result))
        self._last = end.last
        if not end.alive:
            raise NonFiniteLoss(self._diagnosis(name, first + int(end.taken), end.now, end.last))
        if not self._finite():
            raise NonFiniteLoss(
                f"{name}: a weight became non-finite between steps {first} and {first + steps}, though the "
                f"loss did not. {self._advice()}"
            )
        counted = max(1, steps - (int(end.skipped) - skipped))
        means = (float(value) for value in end.totals / counted)
        return Taken(dict(zip(self.terms, means, strict=True)), int(end.skipped))

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """The values of everything that training changes: weights, optimizer slots, averages."""
        return {VARIABLE.format(i): variable.numpy() for i, variable in enumerate(self._state())}

    def restore(self, snapshot: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put back what `snapshot` gave."""
        for i, variable in enumerate(self._state()):
            variable.assign(snapshot[VARIABLE.format(i)])

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """The values of the model's variables alone."""
        return {VARIABLE.format(i): variable.numpy() for i, variable in enumerate(self._model.state())}

    def set_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put back what `weights` gave."""
        for i, variable in enumerate(self._model.state()):
            variable.assign(weights[VARIABLE.format(i)])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model's weights are their averages over the steps, where the recipe wants those."""
        own = [variable.numpy() for variable in self._averages_of()]
        self.take_averages()
        try:
            yield
        finally:
            for variable, value in zip(self._averages_of(), own, strict=True):
                variable.assign(value)

    def take_averages(self) -> None:
        """Make the averages, where the recipe wants those, the model's weights."""
        for variable, average in zip(self._averages_of(), self._averages, strict=True):
            variable.assign(average.numpy())

    def _check(self) -> None:
        if self._recipe.batch_size % self._replicas:
            raise ValueError(
                f"a batch of {self._recipe.batch_size} cannot be split evenly over {self._replicas} "
                f"replicas; choose a batch_size that is a multiple of {self._replicas}"
            )
        if self._recipe.skip_non_finite and self._replicas > 1:
            raise ValueError(
                f"skip_non_finite works on one device; this run has {self._replicas} replicas, so set it to 0"
            )

    def _state(self) -> list[tf.Variable]:
        slots = [variable for optimizer in self._optimizers for variable in optimizer.variables()]
        return [*self._model.state(), *slots, *self._averages]

    def _averages_of(self) -> list[tf.Variable]:
        return self._model.learned() if self._averages else []

    def _create_averages(self) -> list[tf.Variable]:
        if not self._recipe.ema_decay:
            return []
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return [
            tf.Variable(variable.numpy(), trainable=False, aggregation=first)
            for variable in self._model.learned()
        ]

    def _finite(self) -> bool:
        """Whether every learned number is one."""
        return all(np.isfinite(variable.numpy()).all() for variable in self._model.learned())

    def _diagnosis(self, name: str, step: int, now: Any, last: Any) -> str:
        broken = [what for what, value in zip(self._watched, now, strict=True) if not np.isfinite(value)]
        known = [f"{term} {value:.6g}" for term, value in zip(self.terms, last, strict=True)]
        before = ", ".join(known) if np.isfinite(last).all() else "none, this process having taken no other"
        return (
            f"{name}: {' and '.join(broken)} became non-finite at step {step}; the last finite values: "
            f"{before}. {self._advice()}"
        )

    def _advice(self) -> str:
        return f"Try a smaller learning_rate than {self._recipe.learning_rate}, a clip_norm, or another seed"

    def _run(
        self,
        pixels: tf.Tensor,
        labels: tf.Tensor,
        indices: tf.Tensor,
        first: tf.Tensor,
        skipped: tf.Tensor,
        last: tf.Tensor,
    ) -> Carry:
        count = tf.shape(indices)[0]
        zeros = tf.zeros([len(self.terms)])

        def going(*carry: tf.Tensor) -> tf.Tensor:
            state = Carry(*carry)
            return (state.taken < count) & state.alive

        def step(*carry: tf.Tensor) -> Carry:
            state = Carry(*carry)
            now = self._step(pixels, labels, indices[state.taken], first + state.taken)
            good = tf.reduce_all(tf.math.is_finite(now))
            terms = now[: len(self.terms)]
            skips = state.skipped + tf.cast(~good, tf.int32)
            alive = good | (skips <= self._recipe.skip_non_finite)
            return Carry(
                state.taken + tf.cast(alive, tf.int32),
                skips,
                state.totals + tf.where(good, terms, zeros),
                tf.where(good, terms, state.last),
                now,
                alive,
            )

        start = Carry(tf.constant(0), skipped, zeros, last, tf.zeros([len(self._watched)]), tf.constant(True))
        return Carry(*tf.while_loop(going, step, start))

    def _step(self, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """One update of every phase; their losses and terms over the global batch, then gradient norms."""
        values = self._strategy.run(self._replica_step, args=(pixels, labels, chosen, step))
        return self._strategy.experimental_local_results(values)[0]

    def _share_of_step(
        self, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """A replica's share of a step, on its equal part of the batch `chosen`."""
        replica: tf.Tensor = tf.distribute.get_replica_context().replica_id_in_sync_group
        if self._replicas > 1:
            rows = self._recipe.batch_size // self._replicas
            chosen = tf.ensure_shape(chosen[replica :: self._replicas], [rows])
        with shares.share(replica, self._replicas), cores.parts(self._recipe.cores):
            return self._updates(self._batch(pixels, labels, chosen, step), self._noise(step), step)

    def _updates(self, batch: Batch, seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        terms: list[tf.Tensor] = []
        norms: list[tf.Tensor] = []
        for phase, optimizer in zip(self._phases, self._optimizers, strict=True):
            variables = phase.variables()
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                objective = phase.objective(batch, seed)
                loss = tf.reduce_mean(objective.loss) / self._replicas
            terms += [loss, *(tf.reduce_mean(term) / self._replicas for term in objective.terms.values())]
            moved = [
                (gradient, variable)
                for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)
                if gradient is not None
            ]
            norms.append(self._update(optimizer, moved, loss))
        self._update_averages(step)
        return tf.concat([self._summed(tf.stack(terms)), tf.stack(norms)], axis=0)

    def _summed(self, values: Any) -> Any:
        """Sums over the replicas, of one tensor or a list of them."""
        if self._replicas == 1:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

    def _update(
        self, optimizer: Any, moved: list[tuple[tf.Tensor, tf.Variable]], loss: tf.Tensor
    ) -> tf.Tensor:
        """Move the variables down their gradients, clipped or left out as the recipe has it.

        The answer is the gradients' global norm where the recipe needs it, else a zero: a non-finite gradient
        then shows in the next loss or in the weights.
        """
        gradients = self._summed([gradient for gradient, _ in moved])
        variables = [variable for _, variable in moved]
        norm = tf.constant(0.0)
        if self._recipe.clip_norm or self._recipe.skip_non_finite:
            norm = tf.linalg.global_norm(gradients)
        if self._recipe.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._recipe.clip_norm, use_norm=norm)

        def apply() -> tf.Tensor:
            pairs = zip(gradients, variables, strict=True)
            done = optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
            with tf.control_dependencies([done]):
                return tf.identity(norm)

        if self._recipe.skip_non_finite:
            return tf.cond(tf.math.is_finite(norm) & tf.math.is_finite(loss), apply, lambda: norm)
        return apply()

    def _update_averages(self, step: tf.Tensor) -> None:
        if not self._averages:
            return
        steps = tf.cast(step, tf.float32)
        decay = tf.minimum(self._recipe.ema_decay, (1.0 + steps) / (10.0 + steps))
        for average, variable in zip(self._averages, self._averages_of(), strict=True):
            average.assign(average + (1.0 - decay) * (variable - average))

    def _create_weights(self) -> list[str]:
        """Call every objective once, so that the layers make their variables; the names of all terms."""
        batch, seed = self._draw(np.arange(2)), self._noise(0)
        names: list[str] = []
        for phase in self._phases:
            prefix = "" if len(self._phases) == 1 else f"{phase.name}_"
            terms = phase.objective(batch, seed).terms
            names += [f"{prefix}{term}" for term in ("loss", *terms)]
        return names

    def _draw(self, chosen: Any) -> Batch:
        """The training examples `chosen`, indices [B], as the first step would see them."""
        pixels, labels = data.rows(self._examples, np.asarray(chosen))
        return self._batch(tf.constant(pixels), tf.constant(labels), tf.range(len(labels)), 0)

    def _batch(self, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor, step: Any) -> Batch:
        binarization = self._noise(step) + tf.constant([0, SEEDS_A_STEP - 1])
        images = to_inputs(tf.gather(pixels, chosen), self._protocol, binarization)
        return Batch(tf.reshape(images, [-1, SIDE, SIDE, 1]), tf.gather(labels, chosen))

    def _noise(self, step: Any) -> tf.Tensor:
        """The seed of a step, int32 [2]; its second number may be raised by up to SEEDS_A_STEP - 1."""
        return tf.stack([tf.constant(self._seed), step * SEEDS_A_STEP])
