"""Log what a run found to MLflow: one MLflow run per variant, from the published report.

MLflow is imported only where it is asked for: its import takes seconds, and no run needs it.
"""

import hashlib
import json
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from components.reporting.leaderboard import FILE
from components.reporting.model_card import cell
from components.serving.versions import artifact_name
from pipeline.config.settings import Settings
from pipeline.dag.fingerprint import trainer_code
from pipeline.home import metadata
from pipeline.home.layout import Home
from schemas import TRAINING_RECORD
from schemas.records import Metric, Row

log = logging.getLogger(__name__)

ID = "latentline.id"
"""Tag that tells an evaluated model from all others; nothing is logged twice under the same."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""What MLflow reads from the environment; by its own defaults a server that is down costs minutes."""
METRICS, PARAMS = 1000, 100
"""Most that MLflow takes in one request."""


class Result(NamedTuple):
    """Hold what is logged of one variant; times are milliseconds since 1970."""

    row: Row
    record: Mapping[str, Any]  # of the training
    id: str
    started: int
    ended: int


def publish(settings: Settings, executions: Mapping[str, int], run: str, say: Callable[[str], None]) -> None:
    """Log the report of `settings`' home to `settings.mlflow`, with a line for the user.

    executions: node id -> execution id, also of cached ones. run: what the log of this run is called by. A
    model that is logged already is passed over; any failure is reported and does not affect the run.
    """
    place = address(settings.mlflow)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow

        mlflow.set_tracking_uri(place)  # what a client is given does not reach artifacts that a server stores
        client = mlflow.MlflowClient()
        experiment = _experiment(client, settings.name)
        logged = [
            _publish_one(client, experiment, result, settings, run)
            for result in results(settings, executions)
        ]
        say(f"MLflow {place}: {sum(logged)} logged, {len(logged) - sum(logged)} there already")
    except Exception as error:  # of any kind: a server, a disk, a proxy; the run is complete without it
        log.exception("nothing more was logged to MLflow")
        say(
            f"! MLflow {place}: {words(error)}; the run itself is complete, the next one logs what is missing"
        )


def words(error: BaseException) -> str:
    """Return what an error says in one line: the system's own words, if it refused something beneath."""
    inner = error
    while inner.__context__ is not None:
        inner = inner.__context__
    said = " ".join(str(inner if isinstance(inner, OSError) else error).split())
    return said[:300] or type(error).__name__


def address(place: str) -> str:
    """Return a place as MLflow takes it: a folder becomes a file URI."""
    return place if "://" in place else pathlib.Path(place).expanduser().resolve().as_uri()


def results(settings: Settings, executions: Mapping[str, int]) -> Iterator[Result]:
    """Yield what is logged of each variant of the published report that did not fail."""
    home = Home.of(settings.home)
    for row in [Row.from_json(values) for values in json.loads((home.report / FILE).read_text())]:
        if row.training is None:
            continue
        with metadata.opened(home) as store:
            [trained] = store.outputs(executions[f"Trainer.{row.name}"])["model_run"]
            [evaluated] = store.outputs(executions[f"Evaluator.{row.name}"])["evaluation"]
        # The folder alone does not do: in a home that was removed and made again, numbers start anew.
        identity = f"{artifact_name(evaluated.uri)} {evaluated.made}"
        yield Result(
            row,
            json.loads(pathlib.Path(trained.uri, TRAINING_RECORD).read_text()),
            hashlib.sha256(identity.encode()).hexdigest()[:32],
            trained.made - round(1000 * row.training.train_seconds),
            evaluated.made,
        )


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _publish_one(client: Any, experiment: str, result: Result, settings: Settings, run: str) -> bool:
    """Log one variant and return True; return False if it is there already."""
    from mlflow.entities import Metric, Param

    # Only what was logged to its end counts: the status is the last thing that is set.
    known = f"attributes.status = 'FINISHED' and tags.`{ID}` = '{result.id}'"
    if client.search_runs([experiment], known, max_results=1):
        return False
    name = result.row.name
    made = client.create_run(experiment, start_time=result.started, run_name=name, tags=tags(result, run))
    number = made.info.run_id
    for some in _batches((Param(key, str(value)) for key, value in params(result.row).items()), PARAMS):
        client.log_batch(number, params=some)
    points = (Metric(key, value, result.ended, step) for key, value, step in metrics(result))
    for some in _batches(points, METRICS):
        client.log_batch(number, metrics=some)
    for folder, inside in (("pictures", "pictures"), ("cards", "model_card")):
        client.log_artifacts(number, str(Home.of(settings.home).report / folder / name), inside)
    client.set_terminated(number, "FINISHED", result.ended)
    return True


def tags(result: Result, run: str) -> dict[str, str]:
    """Return the tags of a run: what became of the model, and its description, which MLflow shows first."""
    row = result.row
    return {
        ID: result.id,
        "latentline.run": run,
        "blessed": "yes" if row.blessed else "no",
        "why_not_blessed": row.why_not,
        "pushed_version": str(row.pushed_version or ""),
        "mlflow.note.content": cell(row.trained.summary),
        "mlflow.source.name": "latentline",
    }


def params(row: Row) -> dict[str, Any]:
    """Return the parameters of a run: every field of Config and recipe as they were used, and the code.

    A training record of 0.1 has only what was overridden, and so has its run.
    """
    training = row.trained
    used = {name: training.resolved.get(name, getattr(training, name)) for name in ("config", "recipe")}
    kept = ("family", "dataset", "protocol", "profile", "seed", "batch_size", "examples", "parameters")
    return {
        "variant": row.variant,
        "experiment": row.experiment,
        **{name: getattr(training, name) for name in kept},
        **({"span": row.span} if row.span else {}),
        **({"warm_start": training.warm_start} if training.warm_start else {}),
        **{f"{part}.{name}": value for part, fields in used.items() for name, value in fields.items()},
        "code": trainer_code(row.variant),
    }


def metrics(result: Result) -> list[tuple[str, float, int]]:
    """Return name, value and step of every metric of a run.

    They are the test metrics with the ends of their 95 % interval, the curves of training, and its speed.

    Values that are not finite are left out: not every MLflow server takes them.
    """
    row, training = result.row, result.row.trained
    steps = training.steps
    found = [(name, getattr(training, name), steps) for name in ("train_seconds", "images_per_second")]
    gain: dict[str, Metric] = {"gain_over_production": row.gain} if row.gain else {}
    for name, measured in {**row.metrics, **gain}.items():
        found.append((f"test/{name}", measured.value, steps))
        found += [(f"test/{name}_{end}", getattr(measured, end), steps) for end in ("lower", "upper")]
    for curve, shown in (("curve", "train"), ("held_out", "held_out")):
        for point in result.record.get(curve) or ():
            found += [(f"{shown}/{term}", value, point["step"]) for term, value in point["values"].items()]
    return [point for point in found if math.isfinite(point[1])]


def _batches(items: Iterable[Any], size: int) -> Iterator[Sequence[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
