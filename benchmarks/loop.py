"""Steps per second of the training loop, beside the loops of the models' sources, in one sitting.

    python benchmarks/loop.py [--variants a,b] [--steps N] [--runs R] [--json FILE]

ours    trainer.steps: many steps a graph call, images in memory as bytes, fused optimizer updates
naive   what the sources do: tf.data shuffles and batches float images, Python calls one tf.function a step,
        Keras's own optimizer; the same model, objective and batch

Runs of the contenders alternate, and the medians of their rates are compared, so that what else the machine
does falls on all of them. FLOP/s are those of the step's matrix products and convolutions, counted by
TensorFlow's profiler in the naive step's graph, beside the rate of one large matrix product on this machine.
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from schemas import CLASSES, PIXELS, SIDE
from trainer import data, variants
from trainer.binarize import to_inputs
from trainer.model import Batch
from trainer.steps import SEEDS_A_STEP, Steps

PROTOCOL = "threshold"
IMAGES = 10_000
SHUFFLE = 1_024
RUN_SECONDS = 1.5
WARM_UP = 5
PEAK_SIDE = 2_048
KERAS_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a variant; rates are medians, in steps per second."""

    variant: str
    batch: int
    ours: float
    naive: float
    step_gflop: float

    @property
    def ratio(self) -> float:
        """Ours over naive."""
        return self.ours / self.naive


class Ours:
    """The loop of this project."""

    def __init__(self, variant: variants.Variant, examples: data.Examples) -> None:
        keras.utils.set_random_seed(0)
        strategy = tf.distribute.get_strategy()
        self._steps = Steps(variant.build({}), examples, variant.recipe, PROTOCOL, 0, strategy)
        self._name, self._done = variant.name, 0

    def __call__(self, steps: int) -> None:
        """Take `steps` steps."""
        self._steps.run(self._done, steps, self._name)
        self._done += steps


class Naive:
    """The loop of the models' sources: one tf.function call a step, fed by tf.data."""

    def __init__(self, variant: variants.Variant, examples: data.Examples) -> None:
        keras.utils.set_random_seed(0)
        recipe = variant.recipe
        model = variant.build({})
        images = to_inputs(tf.constant(examples.pixels), PROTOCOL).numpy().reshape(-1, SIDE, SIDE, 1)
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

    def __call__(self, steps: int) -> None:
        """Take `steps` steps."""
        total = 0.0
        for _ in range(steps):
            images, labels = next(self._batches)
            seed = tf.constant([0, self._done * SEEDS_A_STEP])
            total += self._step(images, labels, seed)
            self._done += 1
        float(total)

    def step_flop(self) -> int:
        """Floating-point operations of a step, as TensorFlow's profiler counts them."""
        images, labels = next(self._batches)
        graph = self._step.get_concrete_function(images, labels, tf.constant([0, 0])).graph
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


def synthetic(count: int) -> data.Examples:
    """Images of random bits: a step's time does not depend on what they show."""
    draw = np.random.default_rng(0)
    pixels = (draw.random([count, PIXELS]) < 0.15).astype(np.uint8)
    return data.Examples(pixels, draw.integers(0, CLASSES, count))


def seconds_of(work: Callable[[int], None], steps: int) -> float:
    """Wall time of `steps` steps."""
    started = time.perf_counter()
    work(steps)
    return time.perf_counter() - started


def measure(name: str, examples: data.Examples, steps: int, runs: int) -> Row:
    """Alternate the contenders on the variant `name`; steps: of a run, 0 for RUN_SECONDS' worth."""
    variant = variants.load(name)
    ours, naive = Ours(variant, examples), Naive(variant, examples)
    for contender in (ours, naive):
        contender(WARM_UP)  # traces
    steps = steps or max(WARM_UP, int(RUN_SECONDS * WARM_UP / seconds_of(naive, WARM_UP)))
    times: dict[str, list[float]] = {"ours": [], "naive": []}
    for _ in range(runs):
        times["ours"].append(seconds_of(ours, steps))
        times["naive"].append(seconds_of(naive, steps))
    rates = {who: steps / statistics.median(seconds) for who, seconds in times.items()}
    return Row(
        variant=name,
        batch=variant.recipe.batch_size,
        ours=rates["ours"],
        naive=rates["naive"],
        step_gflop=naive.step_flop() / 1e9,
    )


def matmul_peak() -> float:
    """GFLOP/s of one large float32 matrix product, the best of several."""
    matrix = tf.random.stateless_uniform([PEAK_SIDE, PEAK_SIDE], [0, 0])
    multiply: Any = tf.function(tf.matmul)

    def once(_: int) -> None:
        multiply(matrix, matrix).numpy()

    once(1)
    return 2 * PEAK_SIDE**3 / min(seconds_of(once, 1) for _ in range(5)) / 1e9


def table(rows: list[Row], peak: float) -> str:
    """The rows as text."""
    heads = ["variant", "batch", "ours/s", "naive/s", "ratio", "GFLOP/s", "of peak"]
    lines = ["  ".join(f"{head:>16}" for head in heads)]
    for row in rows:
        rate = row.step_gflop * row.ours
        cells = [row.variant, str(row.batch), f"{row.ours:.1f}", f"{row.naive:.1f}", f"{row.ratio:.2f}"]
        cells += [f"{rate:.1f}", f"{rate / peak:.0%}"]
        lines.append("  ".join(f"{cell:>16}" for cell in cells))
    return "\n".join([*lines, f"matrix product peak of this machine: {peak:.0f} GFLOP/s"])


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", default="", help="names, separated by commas (default: all)")
    parser.add_argument("--steps", type=int, default=0, help=f"of a run (default: {RUN_SECONDS} s' worth)")
    parser.add_argument("--runs", type=int, default=5, help="of each contender (default: 5)")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    examples = synthetic(IMAGES)
    peak = matmul_peak()
    rows = []
    for name in given.variants.split(",") if given.variants else variants.names():
        rows.append(measure(name, examples, given.steps, given.runs))
        print(f"{name}: {rows[-1].ratio:.2f} x naive", file=sys.stderr, flush=True)
        keras.backend.clear_session()
        gc.collect()
    print(table(rows, peak))
    if given.json:
        found = [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows]
        given.json.write_text(json.dumps({"matmul_peak_gflops": peak, "rows": found}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
