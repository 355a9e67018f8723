"""Measure how far trainings differ by chance: the same training with many seeds, on the same data.

The standard deviation of each headline metric over the seeds is written to trainer/spread.json, where the
gate reads it. All seeds are measured on the whole test split, so that the differences do not hold its noise.
Each variant is trained in a process of its own. Every result is kept in a file as soon as it is there, and a
measurement that was interrupted resumes from that file. `make measure-noise PROFILE=quick` trains all
variants 20 times, which takes about an hour on 2 cores.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import platformdirs

from benchmarks.reproduction.published import Data
from components.ingest import sources
from schemas import TEST_SPLIT, TRAIN_SPLIT
from trainer import spread, variants
from trainer.devices import quiet
from trainer.recipe import IMPORTANCE_SAMPLES, PROFILES, PROTOCOLS
from trainer.spread import Spread

BATCH = 500
NOISE = (0, 0)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One training.

    Attributes:
      variant, profile, dataset, protocol: what was trained, with the variant's own configuration and recipe.
      seed: of weights, batches and noise.
      values: headline metrics on the test split, by name: elbo in nats per image, accuracy as a fraction.
    """

    variant: str
    profile: str
    dataset: str
    protocol: str
    seed: int
    values: dict[str, float]


def spreads(found: Iterable[Measured], command: str) -> list[Spread]:
    """Return the standard deviations over the seeds, by variant, profile, data set, protocol and metric.

    Raises ValueError for a training that was measured twice or for fewer than ten seeds.
    """
    groups: dict[tuple[str, str, str, str], dict[int, Measured]] = {}
    for each in found:
        seeds = groups.setdefault((each.variant, each.profile, each.dataset, each.protocol), {})
        if each.seed in seeds:
            raise ValueError(f"{each.variant} was measured twice with seed {each.seed}")
        seeds[each.seed] = each
    result = []
    for key, seeds in sorted(groups.items()):
        for metric in sorted(next(iter(seeds.values())).values):
            values = [each.values[metric] for each in seeds.values()]
            value = float(f"{statistics.stdev(values):.3g}") if len(values) > 1 else 0.0
            result.append(Spread(*key, metric, value, len(values), command=command))
    return result


def merged(old: Iterable[Spread], new: Iterable[Spread]) -> list[Spread]:
    """Return all measurements; a new one replaces the old one of its variant, profile and metric."""
    by_key = {(each.variant, each.profile, each.metric): each for each in [*old, *new]}
    return [by_key[key] for key in sorted(by_key)]


def train(variant: str, profile: str, protocol: str, seed: int, data: Data) -> Measured:
    """Train a variant once, as the Trainer would, and measure it on the test split."""
    import keras
    import tensorflow as tf

    from components.evaluation.eval_config import headlines
    from trainer.binarize import to_images
    from trainer.loop.fit import fit
    from trainer.models.model import Batch

    module = variants.load(variant)
    keras.utils.set_random_seed(seed)
    model = module.build({})
    fit(
        model, data.examples(TRAIN_SPLIT, protocol), recipe=module.recipe, protocol=protocol, seed=seed,
        steps=int(module.recipe.steps.of(profile)), name=f"{variant}, seed {seed}",
    )  # fmt: skip
    samples = IMPORTANCE_SAMPLES[profile]

    @tf.function(reduce_retracing=True, autograph=False)
    def scores(pixels: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return model.metrics_per_example(
            Batch(to_images(pixels, protocol), labels), tf.constant(NOISE), samples
        )

    pixels, labels = data.examples(TEST_SPLIT, protocol)
    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in headlines(module.family)}
    for first in range(0, len(labels), BATCH):
        part = slice(first, first + BATCH)
        outputs = scores(tf.constant(pixels[part]), tf.constant(labels[part]))
        for name, values in found.items():
            values.append(np.ravel(outputs[name].numpy()))
    means = {name: float(np.concatenate(values).mean(dtype=np.float64)) for name, values in found.items()}
    return Measured(variant, profile, data.name, protocol, seed, means)


def kept(file: pathlib.Path) -> list[Measured]:
    """Return the results in a file; none where it does not exist."""
    return [Measured(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def measure(variant: str, arguments: argparse.Namespace) -> None:
    """Train one variant with every seed that its file does not hold yet."""
    file = result_file(arguments, variant)
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {each.seed for each in kept(file)}
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    data = Data(sources.locate(arguments.data, environment=os.environ, cache=cache, report=print))
    for seed in seeds_of(arguments):
        if seed not in done:
            found = train(variant, arguments.profile, arguments.protocol, seed, data)
            with file.open("a") as out:
                out.write(json.dumps(dataclasses.asdict(found)) + "\n")


def seeds_of(arguments: argparse.Namespace) -> range:
    """Return the seeds that are asked for."""
    return range(arguments.first, arguments.first + arguments.seeds)


def result_file(arguments: argparse.Namespace, variant: str) -> pathlib.Path:
    """Return the file of a variant's results."""
    return pathlib.Path(arguments.results, f"{arguments.profile}-{arguments.protocol}", f"{variant}.jsonl")


def main(words: Sequence[str] | None = None) -> int:
    """Train with every seed, and write down how far the results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="threshold")
    parser.add_argument("--variants", default="", help="names with commas between; default: all")
    parser.add_argument("--data", default="mnist", help="as for latentline run")
    parser.add_argument("--seeds", type=int, default=20, help="trainings; at least 10")
    parser.add_argument("--first", type=int, default=1_000, help="first seed; others follow")
    parser.add_argument("--results", default="out/noise", help="folder of the results so far")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    quiet.libraries()
    if arguments.only:
        measure(arguments.only, arguments)
        return 0
    names = [name for name in arguments.variants.split(",") if name] or list(variants.names())
    found = []
    for position, name in enumerate(names, start=1):
        print(f"[{position}/{len(names)}] {name}: {arguments.seeds} trainings", flush=True)
        again = [*(sys.argv[1:] if words is None else words), "--only", name]
        done = subprocess.run([sys.executable, "-m", "benchmarks.measure_noise", *again])
        if done.returncode:
            print(f"the measurement of {name} failed; what is measured is kept in {arguments.results}")
            return 1
        found += [each for each in kept(result_file(arguments, name)) if each.seed in seeds_of(arguments)]
    wanted = f" VARIANTS={arguments.variants}" if arguments.variants else ""
    command = f"make measure-noise PROFILE={arguments.profile} SEEDS={arguments.seeds}{wanted}"
    new = spreads(found, command)
    for each in new:
        print(f"{each.variant:<18} {each.metric:<9} {each.value:g} over {each.seeds} seeds")
    spread.write(merged(spread.measured(), new))
    return 0


if __name__ == "__main__":
    sys.exit(main())
