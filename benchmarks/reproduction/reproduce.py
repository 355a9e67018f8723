"""Trains what the sources trained, the way they did, and compares each figure with the published one.

    python -m benchmarks.reproduction.reproduce                every row of FIGURES, docs/REPRODUCTION.md
    python -m benchmarks.reproduction.reproduce --only linear  the rows of this variant; the others stay

A row is a Figure: a number measured at a step of a Training, and the range it has to lie in. Training stops
at every step that a row asks for, and goes on from a checkpoint.
"""

import argparse
import dataclasses
import datetime
import io
import json
import logging
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import platformdirs
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.reproduction.published import (
    FIGURES,
    NOT_MEASURED,
    CannotTrain,
    Data,
    Figure,
    Moment,
    Training,
)
from components.ingest import idx, sources
from schemas import TRAIN_SPLIT
from trainer import variants
from trainer.devices import quiet, threads

STATE = os.path.join("out", "reproduction.json")
DOCUMENT = os.path.join("docs", "REPRODUCTION.md")

HOW_TO_READ = """\
Each row trains a variant with its source's recipe and measures what the source printed. Ours is the mean over
the seeds ± their sample standard deviation; difference is its distance from the published number, or from
the nearer end where several were published. Losses that a source printed for one batch are measured over the
whole training set, of which the batch is a sample. Rows without a published number compare a fixed variant
with its source or with a baseline."""

HEADER = ("variant", "measured", "training", "published", "ours", "difference", "accepted", "verdict")


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a row.

    Attributes:
      values: the figure, a number a seed.
      seconds: training and measuring took, all seeds.
      date: of the measurement, ISO.
      machine: it was done on.
      data: name of the data set.
    """

    values: tuple[float, ...]
    seconds: float
    date: str
    machine: str
    data: str

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    def text(self, digits: int) -> str:
        """Mean and, of several seeds, sample standard deviation."""
        spread = f" ± {statistics.stdev(self.values):.{digits}f}" if len(self.values) > 1 else ""
        return f"{self.mean:.{digits}f}{spread}"


def measure(training: Training, seed: int, figures: Iterable[Figure], data: Data) -> dict[str, float]:
    """Train once, stopping where the figures ask for it; the figures by key.

    Raises trainer.loop.steps.NonFiniteLoss.
    """
    import keras

    from trainer.loop.checkpoints import Checkpoints
    from trainer.loop.fit import fit

    wanted = list(figures)
    stops = sorted({step for figure in wanted for step in (figure.since, figure.step)} - {0})
    variant = variants.load(training.variant)
    recipe = variant.recipe.with_overrides(training.recipe)
    keras.utils.set_random_seed(seed)
    model = variant.build(training.config)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for stop in stops:
            fitted = fit(
                model, data.examples(TRAIN_SPLIT, training.protocol), recipe=recipe, steps=stop,
                protocol=training.protocol, seed=seed, name=f"{training.variant}, seed {seed}",
                checkpoints=Checkpoints(folder, seconds=0.0) if len(stops) > 1 else None,
            )  # fmt: skip
            moment = Moment(model, fitted.curve, training, data, seed)
            for figure in wanted:
                if figure.step == stop:
                    found[figure.key] = figure.measure(moment, figure)
    return found


def reproduce(
    figures: Sequence[Figure],
    data: Data,
    report: Callable[[str], None],
    done: Callable[[Figure, Result], None],
) -> None:
    """Train all that the figures need, each training once a seed; `done` is called as soon as one is known.

    Raises CannotTrain before anything is trained, and trainer.loop.steps.NonFiniteLoss.
    """
    trainings = list(dict.fromkeys(training for figure in figures for training in figure.trainings))
    for training in trainings:
        training.check()
    found: dict[tuple[Training, str, int], float] = {}
    seconds: dict[Training, float] = {}
    told: set[str] = set()
    for position, training in enumerate(trainings, start=1):
        wanted = [figure for figure in figures if training in figure.trainings]
        started = time.perf_counter()
        for seed in training.seeds:
            longest = max(figure.step for figure in wanted)
            report(f"[{position}/{len(trainings)}] {training.variant}, seed {seed}: {training.text(longest)}")
            for key, value in measure(training, seed, wanted, data).items():
                found[training, key, seed] = value
        seconds[training] = time.perf_counter() - started
        for figure in figures:
            if figure.key not in told and all(needed in seconds for needed in figure.trainings):
                told.add(figure.key)
                took = sum(seconds[needed] for needed in figure.trainings)
                today = datetime.date.today().isoformat()
                done(figure, Result(tuple(figure.value(found)), took, today, machine(), data.name))


def row(figure: Figure, result: Result | None) -> tuple[str, ...]:
    """The figure's row of the table, under HEADER."""
    digits = figure.digits
    published = " to ".join(f"{value:.{digits}f}" for value in figure.published) or "-"
    training = figure.training.text(figure.step)
    if figure.minus:
        training += f"; minus {figure.minus.variant}: {figure.minus.text(figure.step)}"
    told = [
        figure.training.variant,
        figure.what,
        training,
        f"{published} ({figure.origin})" if figure.published else "-",
    ]
    if result is None:
        return (*told, "-", "-", figure.accepted.text(digits), "not run")
    difference = figure.difference(result.mean)
    verdict = "reproduced" if figure.published else "holds"
    return (
        *told,
        result.text(digits),
        "-" if difference is None else f"{difference:+.{digits}f}",
        figure.accepted.text(digits),
        verdict if figure.accepted.holds(result.mean) else "NOT " + verdict,
    )


def document(figures: Sequence[Figure], results: Mapping[str, Result], command: str) -> str:
    """docs/REPRODUCTION.md: every figure, with the result where there is one."""
    measured = [(figure, results[figure.key]) for figure in figures if figure.key in results]
    rows = [row(figure, results.get(figure.key)) for figure in figures]
    details = [
        (figure.training.variant, figure.what, " ".join(map(str, figure.training.seeds)),
         f"{result.seconds:.0f} s", result.date, result.data, result.machine)
        for figure, result in measured
    ]  # fmt: skip
    return "\n".join(
        [
            "# Reproduction",
            "",
            f"Generated by `{command}`; do not edit.",
            "",
            HOW_TO_READ,
            "",
            *_markdown(HEADER, rows),
            "",
            "## Not measured",
            "",
            *_markdown(("variant", "published", "why"), NOT_MEASURED),
            "",
            "## How each row was measured",
            "",
            "Time is that of all its trainings and seeds, evaluation included.",
            "",
            *_markdown(("variant", "measured", "seeds", "time", "date", "data", "machine"), details),
            "",
        ]
    )


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def terminal_table(rows: Iterable[Sequence[str]]) -> str:
    """Rows under HEADER for a terminal."""
    grid = Table(box=box.SIMPLE_HEAD)
    for header in HEADER:
        grid.add_column(header)
    for values in rows:
        grid.add_row(*values)
    text = io.StringIO()
    Console(file=text, width=180).print(grid)
    return text.getvalue().rstrip()


def machine() -> str:
    """The class of this machine: cores this process may use, and their model."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores} cores, {models[0] if models else platform.machine()}"


def load_results(path: pathlib.Path) -> dict[str, Result]:
    """Results of earlier calls by key; none where there is no file. Raises ValueError for a damaged one."""
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text())
        return {key: Result(**{**value, "values": tuple(value["values"])}) for key, value in stored.items()}
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds no results of this command ({error}); delete it") from error


def save(path: pathlib.Path, text: str) -> None:
    """Write a file whole or not at all, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def chosen(figures: Sequence[Figure], names: Sequence[str]) -> list[Figure]:
    """The rows of these variants, all without names. Raises ValueError for a variant that has none."""
    known = list(dict.fromkeys(figure.training.variant for figure in figures))
    strangers = [name for name in names if name not in known]
    if strangers:
        raise ValueError(f"no published figure of {', '.join(strangers)}; choose from {', '.join(known)}")
    return [figure for figure in figures if not names or figure.training.variant in names]


def main(arguments: Sequence[str] | None = None, figures: Sequence[Figure] = FIGURES) -> None:
    """Entry point; exits 0 when every row that ran holds, 1 when not, 2 for a bad request."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduction.reproduce", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="NAMES",
        help="variants, separated by commas (default: all with a figure)",
    )
    parser.add_argument(
        "--data", default=sources.MNIST, help="mnist, or a folder of IDX files (default: mnist)"
    )
    parser.add_argument("--output", default=DOCUMENT, help=f"the document (default: {DOCUMENT})")
    parser.add_argument(
        "--state", default=STATE, help=f"where results are kept between calls (default: {STATE})"
    )
    options = parser.parse_args(arguments)
    quiet.libraries()
    threads.one_an_operation()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that every training is traced anew
    try:
        wanted = chosen(figures, [name for name in options.only.split(",") if name])
        results = load_results(pathlib.Path(options.state))
    except ValueError as error:
        sys.exit(_failed(error, 2))

    def say(line: str) -> None:
        print(line, flush=True)

    def done(figure: Figure, result: Result) -> None:
        results[figure.key] = result
        stored = {key: dataclasses.asdict(value) for key, value in results.items()}
        save(pathlib.Path(options.state), json.dumps(stored, indent=1))
        save(
            pathlib.Path(options.output),
            document(figures, results, "python -m benchmarks.reproduction.reproduce"),
        )
        _, what, _, published, ours, _, accepted, verdict = row(figure, result)
        say(f"    {what}: {ours}, published {published}, accepted {accepted}: {verdict}")

    try:
        dataset = sources.locate(
            options.data,
            environment=os.environ,
            cache=pathlib.Path(platformdirs.user_cache_dir("latentline")),
            report=say,
        )
        reproduce(wanted, Data(dataset), say, done)
    except (CannotTrain, sources.DataSourceError, idx.IdxError, FloatingPointError) as error:
        sys.exit(_failed(error, 1))
    say(terminal_table(row(figure, results[figure.key]) for figure in wanted))
    say(f"\nwritten to {options.output}")
    sys.exit(0 if all(figure.accepted.holds(results[figure.key].mean) for figure in wanted) else 1)


def _failed(error: Exception, code: int) -> int:
    print(f"reproduce: error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
