"""Copies a run's report out of the artifacts and renders its leaderboard for the terminal."""

import io
import json
import os
import pathlib
import shutil
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from tfx.orchestration import metadata

from components.leaderboard import FILE
from pipeline.settings import Settings

COLUMNS = ("elbo", "distortion", "rate", "iwelbo", "active_units", "accuracy", "cross_entropy")


def publish(settings: Settings, execution: int) -> str:
    """Put the report of the Leaderboard execution under `<home>/report`; the leaderboard as a table."""
    source = output_uri(os.path.join(settings.home, "metadata.db"), execution)
    target = pathlib.Path(settings.home, "report")
    staging = target.with_name(".report")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source, staging)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    return table(json.loads((target / FILE).read_text()))


def output_uri(database: str, execution: int) -> str:
    """Folder of the one artifact that the execution put out."""
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(database)) as handle:
        events = handle.store.get_events_by_execution_ids([execution])
        outputs = [event.artifact_id for event in events if event.type == event.OUTPUT]
        [artifact] = handle.store.get_artifacts_by_id(outputs)
    return str(artifact.uri)


def table(rows: list[dict[str, Any]]) -> str:
    """The leaderboard as text; metrics with half the width of their 95 % interval."""
    shown = [column for column in COLUMNS if any(column in row["metrics"] for row in rows)]
    first = rows[0]
    grid = Table(
        box=box.SIMPLE_HEAD,
        title=f"dataset {first['dataset']} | protocol {first['protocol']} | profile {first['profile']} | "
        f"seed {first['seed']} | nats per image on the test split, +- 95 % interval",
        title_justify="left",
        title_style="",
    )
    for header in ("variant", "steps", "train s", *shown, "blessed", "pushed"):
        grid.add_column(header, justify="left" if header in ("variant", "blessed") else "right")
    for row in rows:
        grid.add_row(
            row["variant"],
            str(row["steps"]),
            f"{row['train_seconds']:.1f}",
            *(measured(row["metrics"].get(column)) for column in shown),
            "yes" if row["blessed"] else "no",
            str(row["pushed_version"] or "-"),
        )
    text = io.StringIO()
    Console(file=text, width=160).print(grid)
    reasons = [f"{row['variant']} is not blessed: {row['why_not']}" for row in rows if not row["blessed"]]
    return "\n".join([text.getvalue().rstrip(), *reasons])


def measured(metric: dict[str, Any] | None) -> str:
    """A value with its interval, to the digits that the interval leaves meaningful."""
    if metric is None:
        return ""
    half = (metric["upper"] - metric["lower"]) / 2
    digits = 4 if abs(metric["value"]) < 10 else 2
    return f"{metric['value']:.{digits}f} +- {half:.{digits}f}" if half else f"{metric['value']:.{digits}f}"
