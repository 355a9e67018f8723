"""Whole runs of all variants, this checkout against another one, alternating.

Run: python benchmarks/whole_run.py --baseline ../before [--jobs N] [--runs 3] [--data mnist]

Each run is `latentline run` as a process of its own, from start to exit, in a home of its own, so that
nothing is cached. The other checkout needs an environment of its own (`make setup` there). Which of the two
comes first changes from round to round. The table has, per checkout, the median of the seconds on the clock,
of the processor's seconds over all processes, and of the seconds of all training steps together; the ratios
are medians over the rounds, with the least and the largest.

Everything but the steps is what the clock shows less the steps, so it has a meaning only where one trainer
runs at a time: give --jobs 1 for it.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import platformdirs

from components.ingest import sources
from trainer import variants

HERE = pathlib.Path(__file__).resolve().parent.parent
OURS, BASELINE = "this checkout", "baseline"


class Cost(NamedTuple):
    """What one run took, in seconds."""

    whole: float
    processor: float
    steps: float

    @property
    def rest(self) -> float:
        """Return everything but the steps; negative where trainers ran side by side."""
        return self.whole - self.steps


def main() -> None:
    """Measure both checkouts in turn and print the table."""
    options = arguments()
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    dataset = sources.locate(options.data, environment=os.environ, cache=cache, report=print)
    common = ["--variants", options.variants, "--profile", options.profile, "--data", dataset.folder]
    jobs = ["--jobs", str(options.jobs)] if options.jobs else []
    commands = {
        OURS: (sys.executable, HERE, [*common, *jobs]),
        BASELINE: (str(options.baseline / ".venv/bin/python"), options.baseline, common),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(options.runs):
        for name in sorted(commands, reverse=number % 2 == 0):
            costs[name].append(measure(*commands[name]))
            cost = costs[name][-1]
            print(
                f"round {number + 1}, {name:<13}: {cost.whole:7.1f} s, processor {cost.processor:7.1f} s, "
                f"steps {cost.steps:7.1f} s",
                flush=True,
            )
    print("\n".join(table(costs, dataset.name, one_at_a_time=options.jobs == 1)))


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--baseline", type=checkout, required=True, metavar="PATH", help="another checkout, with its .venv"
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds of both (default: 3)")
    parser.add_argument("--jobs", type=int, default=0, help="of this checkout's runs (default: its own)")
    parser.add_argument("--data", default="mnist", help="as for latentline run (default: mnist)")
    parser.add_argument("--profile", default="quick", help="as for latentline run (default: quick)")
    parser.add_argument(
        "--variants", default=",".join(variants.names()), help="separated by commas (default: all)"
    )
    return parser.parse_args()


def checkout(path: str) -> pathlib.Path:
    """Return the folder of a checkout. Raises argparse.ArgumentTypeError where it has no environment."""
    folder = pathlib.Path(path).expanduser().resolve()
    if not (folder / ".venv/bin/python").exists():
        raise argparse.ArgumentTypeError(f"{folder} has no .venv/bin/python; run `make setup` there")
    return folder


def measure(python: str, folder: pathlib.Path, options: list[str]) -> Cost:
    """Run all variants from a checkout in a new home; ends this process if the run fails."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as scratch:
        home = pathlib.Path(scratch) / "home"
        command = [python, "-m", "pipeline", "run", "--home", str(home), *options]
        before, started = _processor(), time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        whole = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        rows = json.loads((home / "report" / "leaderboard.json").read_text())
    return Cost(whole, _processor() - before, sum(row["step_seconds"] for row in rows))


def table(costs: dict[str, list[Cost]], dataset: str, one_at_a_time: bool) -> list[str]:
    """Return the medians of both checkouts and of the ratios of the rounds, as lines."""
    columns = {"whole run": "whole", "processor": "processor", "steps": "steps"}
    if one_at_a_time:
        columns["everything but the steps"] = "rest"
    lines = [f"\n{dataset}, medians of {len(costs[OURS])} rounds, in seconds:"]
    for title, field in columns.items():
        ours, theirs = ([getattr(cost, field) for cost in costs[name]] for name in (OURS, BASELINE))
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        lines.append(
            f"  {title:<25} {statistics.median(ours):7.1f}, {BASELINE} {statistics.median(theirs):7.1f}, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    return lines


def _processor() -> float:
    """Return the processor's seconds of all processes that this one has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
