"""Steps per second of the training loop, beside the loops of the models' sources, in one sitting.

    python benchmarks/loop.py [--variants a,b] [--cores N] [--steps N] [--runs R] [--peers] [--json FILE]

ours    trainer.loop.steps: many steps a graph call, images in memory as bytes, fused optimizer updates
naive   what the sources do: tf.data shuffles and batches float images, Python calls one tf.function a step,
        Keras's own optimizer and layers, TensorFlow's own cross-entropy and threads; the same mathematics
        and batch (naive.py)
torch   PyTorch, eager (peers/in_torch.py)
jax     JAX, steps in a compiled scan (peers/in_jax.py)

The last two are for variants that have a fair twin there; --peers installs them (7 GB) into an environment
of their own, out/benchmarks/peers. All but ours are processes of their own. Runs of the contenders alternate,
and medians of rates are compared, so that what else the machine does falls on all of them. FLOP/s are those
of the step's matrix products and convolutions, counted by TensorFlow's profiler in the naive step's graph,
beside the rate of one large matrix product on this machine.
"""

import argparse
import ast
import contextlib
import dataclasses
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from trainer.devices import quiet, threads

quiet.libraries()

import keras
import tensorflow as tf
from naive import IMAGES, PROTOCOL, synthetic

from trainer import variants
from trainer.loop import data
from trainer.loop.steps import Steps

RUN_SECONDS = 1.5
WARM_UP = 5
NAIVE = pathlib.Path(__file__).with_name("naive.py")
PEERS = NAIVE.parent / "peers"
PEERS_HOME = pathlib.Path("out") / "benchmarks" / "peers"


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a variant; rates by contender are medians, in steps per second."""

    variant: str
    batch: int
    rates: Mapping[str, float]
    step_gflop: float

    def over(self, *others: str) -> float | None:
        """Our rate over the best of the others'; None where none was measured."""
        measured = [self.rates[other] for other in others if other in self.rates]
        return self.rates["ours"] / max(measured) if measured else None


class Contender(Protocol):
    """A loop."""

    def __call__(self, steps: int) -> float:
        """Take `steps` steps; the seconds that took."""


class Ours:
    """Train a variant with the loop of this project."""

    def __init__(self, variant: variants.Variant, examples: data.Examples) -> None:
        keras.utils.set_random_seed(0)
        strategy = tf.distribute.get_strategy()
        self._steps = Steps(variant.build({}), examples, variant.recipe, PROTOCOL, 0, strategy)
        self._name, self._done = variant.name, 0

    def __call__(self, steps: int) -> float:
        """Take `steps` steps; the seconds that took."""
        started = time.perf_counter()
        self._steps.run(self._done, steps, self._name)
        self._done += steps
        return time.perf_counter() - started


class Process:
    """Run a contender in a process of its own, which answers each line with a number."""

    def __init__(self, *command: pathlib.Path | str) -> None:
        own = {name: value for name, value in os.environ.items() if name != threads.VARIABLE}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own
        )

    def __call__(self, steps: int) -> float:
        """Take `steps` steps; the seconds that took."""
        return self.ask(str(steps))

    def ask(self, line: str) -> float:
        """The answer to a line."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def peers_python() -> pathlib.Path:
    """Return the Python of the peers' environment, which is made if it does not exist."""
    wanted = PEERS / "requirements.txt"
    python, installed = PEERS_HOME / "bin" / "python", PEERS_HOME / wanted.name
    if not installed.exists() or installed.read_text() != wanted.read_text():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run(
            [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, PEERS_HOME], check=True
        )
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, "-r", wanted], check=True)
        installed.write_text(wanted.read_text())
    return python


@contextlib.contextmanager
def peers_of(variant: str, batch: int, python: pathlib.Path | None) -> Iterator[dict[str, Process]]:
    """Yield the twins of a variant by framework; none without the peers' Python."""
    scripts = sorted(PEERS.glob("in_*.py")) if python else []
    found = {
        script.stem.removeprefix("in_"): Process(python, script, variant, str(batch))
        for script in scripts
        if python and variant in twins(script)
    }
    try:
        yield found
    finally:
        for peer in found.values():
            peer.close()


def twins(script: pathlib.Path) -> set[str]:
    """Return the variants of a peer's script: the keys of its TWINS, read without importing its framework."""
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TWINS":
            assert isinstance(node.value, ast.Dict)
            return {ast.literal_eval(key) for key in node.value.keys if key is not None}
    raise ValueError(f"{script} has no TWINS")


def measure(
    variant: variants.Variant,
    examples: data.Examples,
    naive: Process,
    python: pathlib.Path | None,
    steps: int,
    runs: int,
) -> Row:
    """Time the contenders on a variant in turn; steps: of a run, 0 for as many as take RUN_SECONDS."""
    name, batch = variant.name, variant.recipe.batch_size
    flop = naive.ask(name)
    with peers_of(name, batch, python) as peers:
        contenders: dict[str, Contender] = {"ours": Ours(variant, examples), "naive": naive, **peers}
        for contender in contenders.values():
            contender(WARM_UP)  # traces
        steps = steps or max(WARM_UP, int(RUN_SECONDS * WARM_UP / naive(WARM_UP)))
        for contender in contenders.values():
            contender(steps)  # what is compiled for a number of steps
        times: dict[str, list[float]] = {who: [] for who in contenders}
        for _ in range(runs):
            for who, contender in contenders.items():
                times[who].append(contender(steps))
    rates = {who: steps / statistics.median(seconds) for who, seconds in times.items()}
    return Row(name, batch, rates, flop / 1e9)


def table(rows: list[Row], peak: float) -> str:
    """Return the rows as text: rates in steps per second, and ratios of this project's over the others'."""
    contenders = list(dict.fromkeys(who for row in rows for who in row.rates))
    peers = [who for who in contenders if who not in ("ours", "naive")]
    heads = ["variant", "batch", *contenders, "over naive", *(["over peers"] if peers else [])]
    lines = ["  ".join(f"{head:>15}" for head in [*heads, "GFLOP/s", "of peak"])]
    for row in rows:
        rate = row.step_gflop * row.rates["ours"]
        ratios = [row.over("naive"), *([row.over(*peers)] if peers else [])]
        cells = [row.variant, str(row.batch), *(text(row.rates.get(who), 1) for who in contenders)]
        cells += [*(text(ratio, 2) for ratio in ratios), f"{rate:.1f}", f"{rate / peak:.0%}"]
        lines.append("  ".join(f"{cell:>15}" for cell in cells))
    return "\n".join([*lines, f"matrix product peak of this machine: {peak:.0f} GFLOP/s"])


def text(number: float | None, digits: int) -> str:
    """Return a number as text, or a dash if there is none."""
    return "-" if number is None else f"{number:.{digits}f}"


def main(arguments: list[str]) -> None:
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", default="", help="names, separated by commas (default: all)")
    parser.add_argument("--cores", type=int, default=0, help="that ours uses (default: the recipe's)")
    parser.add_argument("--steps", type=int, default=0, help=f"of a run (default: {RUN_SECONDS} s' worth)")
    parser.add_argument("--runs", type=int, default=5, help="of each contender (default: 5)")
    parser.add_argument("--peers", action="store_true", help="also PyTorch and JAX, installed if need be")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    python = peers_python() if given.peers else None
    threads.one_an_operation()
    naive = Process(sys.executable, NAIVE)
    examples, peak = synthetic(IMAGES), naive.ask("peak")
    rows = []
    for name in given.variants.split(",") if given.variants else variants.names():
        variant = variants.load(name)
        if given.cores:
            variant = dataclasses.replace(
                variant, recipe=variant.recipe.with_overrides({"cores": given.cores})
            )
        rows.append(measure(variant, examples, naive, python, given.steps, given.runs))
        print(f"{name}: {text(rows[-1].over('naive'), 2)} x naive", file=sys.stderr, flush=True)
        keras.backend.clear_session()
        gc.collect()
    naive.close()
    print(table(rows, peak))
    if given.json:
        found = [dataclasses.asdict(row) for row in rows]
        given.json.write_text(json.dumps({"matmul_peak_gflops": peak, "rows": found}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
