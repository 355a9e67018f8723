"""Measure how far trainings differ by chance: the same run with many seeds, on the same data.

Every seed has a home of its own, so that nothing is compared with production, and a measurement that was
interrupted resumes. The standard deviation of each headline metric over the seeds is written to
trainer/spread.json, where the gate reads it. The test images are the same for all seeds, so that the
differences do not hold their noise. `make measure-noise PROFILE=quick` trains all variants 20 times.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.evaluation.eval_config import headlines
from trainer import spread, variants
from trainer.recipe import PROFILES
from trainer.spread import Spread

Rows = Mapping[str, Mapping[str, Any]]
"""The rows of a leaderboard by variant."""


def spreads(runs: Sequence[Rows], command: str) -> list[Spread]:
    """The measurements of runs that differ in their seed only.

    Raises ValueError where a run lacks a variant of the others, or where runs differ in more than the seed.
    """
    names = sorted({name for rows in runs for name in rows})
    found = []
    for name in names:
        try:
            rows = [each[name] for each in runs]
        except KeyError as error:
            raise ValueError(f"a run has no row of {name}; run the same variants with every seed") from error
        settings = {(row["profile"], row["dataset"], row["protocol"]) for row in rows}
        if len(settings) > 1:
            raise ValueError(f"the runs of {name} differ in more than their seed: {sorted(settings)}")
        [(profile, dataset, protocol)] = settings
        for metric in headlines(variants.load(name).family):
            values = [float(row["metrics"][metric]["value"]) for row in rows]
            value = float(f"{statistics.stdev(values):.3g}")
            found.append(
                Spread(name, profile, dataset, protocol, metric, value, len(values), command=command)
            )
    return found


def merged(old: Iterable[Spread], new: Iterable[Spread]) -> list[Spread]:
    """All measurements, the new ones in place of older ones of the same variant, profile and metric."""
    by_key = {(each.variant, each.profile, each.metric): each for each in [*old, *new]}
    return [by_key[key] for key in sorted(by_key)]


def rows_of(home: pathlib.Path) -> Rows:
    """The rows of a home's report that were measured."""
    rows = json.loads((home / "report" / "leaderboard.json").read_text())
    return {row["variant"]: row for row in rows if row.get("metrics")}


def main() -> int:
    """Train with every seed, and write down how far the results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--variants", default="", help="names with commas between; default: all")
    parser.add_argument("--data", default="mnist", help="as for latentline run")
    parser.add_argument("--seeds", type=int, default=20, help="trainings; at least 10")
    parser.add_argument("--first", type=int, default=1_000, help="first seed; others follow")
    parser.add_argument("--home", type=pathlib.Path, default=pathlib.Path("out/noise"))
    arguments = parser.parse_args()
    chosen = ["--variants", arguments.variants] if arguments.variants else []
    runs = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        home = arguments.home / arguments.profile / str(seed)
        command = [
            sys.executable, "-m", "pipeline", "run", "--profile", arguments.profile, "--data", arguments.data,
            "--seed", str(seed), "--home", str(home), *chosen,
        ]  # fmt: skip
        print(f"seed {seed}", flush=True)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"the run with seed {seed} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            return 1
        runs.append(rows_of(home))
    wanted = f" VARIANTS={arguments.variants}" if arguments.variants else ""
    command_line = f"make measure-noise PROFILE={arguments.profile} SEEDS={arguments.seeds}{wanted}"
    found = spreads(runs, command_line)
    for each in found:
        print(f"{each.variant:<18} {each.metric:<9} {each.value:g} over {each.seeds} seeds")
    spread.write(merged(spread.measured(), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
