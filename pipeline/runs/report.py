"""Copies a run's report out of the artifacts and renders its leaderboard for the terminal."""

import io
import json
import shutil
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from components.reporting.display import count, gain, interval, seconds
from components.reporting.leaderboard import FILE, SAME
from components.reporting.report_page import SIGNS
from pipeline.home import metadata
from pipeline.home.layout import Home

SHORT = {SAME: "noise"}
"""How the terminal says what the page has room for."""
UNLIMITED = 10_000
"""Columns of the terminal as far as the table is concerned, which then cuts no name short."""


class Column(NamedTuple):
    """A metric as the terminal shows it."""

    metric: str
    header: str
    unit: str


COLUMNS = (
    Column("elbo", "elbo", "elbo and iwelbo in nats per image"),
    Column("iwelbo", "iwelbo", "elbo and iwelbo in nats per image"),
    Column("accuracy", "accuracy", "accuracy as a fraction"),
)


def publish(home: Home, execution: int) -> str:
    """Put the report of the Leaderboard execution under `<home>/report`; the leaderboard as a table."""
    with metadata.opened(home) as store:
        [made] = store.outputs(execution)["report"]
    target, staging = home.report, home.report_staging
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(made.uri, staging)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    return table(json.loads((target / FILE).read_text()))


def table(rows: list[dict[str, Any]]) -> str:
    """The leaderboard as text: names whole, and no column that no row has a value for."""
    shown = [column for column in COLUMNS if any(column.metric in row["metrics"] for row in rows)]
    compared = any("verdict" in row["comparison"] for row in rows)
    baselines = any(row.get("gain") for row in rows)
    grid = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    grid.add_column("variant", no_wrap=True)
    for header in (*(column.header for column in shown), "steps", "train"):
        grid.add_column(header, no_wrap=True, justify="right")
    for header in (*["against production"] * baselines, *["change"] * compared, "pushed"):
        grid.add_column(header, no_wrap=True)
    for row in rows:
        if "failed" in row:
            grid.add_row(row["variant"], *[""] * (len(grid.columns) - 2), "failed")
            continue
        metrics = row["metrics"]
        verdict = row["comparison"].get("verdict")
        grid.add_row(
            row["variant"],
            *(interval(metrics[column.metric]) if column.metric in metrics else "" for column in shown),
            count(row["steps"]),
            seconds(row["train_seconds"]),
            *([gain(row["gain"]) if row.get("gain") else ""] if baselines else []),
            *([f"{SIGNS[verdict]} {SHORT.get(verdict, verdict)}" if verdict else ""] if compared else []),
            str(row["pushed_version"] or "no"),
        )
    text = io.StringIO()
    Console(file=text, width=UNLIMITED).print(grid)
    lines = [line.rstrip() for line in text.getvalue().rstrip().split("\n") if line.strip()]
    first = next(row for row in rows if "failed" not in row)
    units = ", ".join(dict.fromkeys(column.unit for column in shown))
    return "\n".join(
        [
            f"dataset {first['dataset']} | protocol {first['protocol']} | profile {first['profile']} | "
            f"seed {first['seed']}",
            f"test split, ± half the 95 % interval; {units}",
            "",
            *lines,
            *(
                f"{row['variant']} is not blessed: {row['why_not']}"
                for row in rows
                if not row["blessed"] and "failed" not in row
            ),
        ]
    )
