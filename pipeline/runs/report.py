"""Copy a run's report out of the artifacts, and format its leaderboard for the terminal."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from components.ingest import sources
from components.reporting.display import count, interval, seconds, short_gain
from components.reporting.experiments import FILE as COMPARISON
from components.reporting.leaderboard import FILE
from components.reporting.report_page import SIGNS
from components.serving import versions
from pipeline.home import archive, metadata
from pipeline.home.layout import Home
from schemas.records import Row

WIDTH = 80
"""Columns of a terminal that the tables fit."""
GAP = "  "


class Column(NamedTuple):
    """A metric as the terminal shows it."""

    metric: str
    header: str


FAMILIES = {
    "Generative models, nats per image": (Column("elbo", "elbo"), Column("iwelbo", "iwelbo")),
    "Classifiers, accuracy as a fraction": (Column("accuracy", "accuracy"),),
}
"""Headings of the tables, and their metrics; a row is in each table whose first metric it has."""
MOST_SENTENCES = 12
"""Comparisons of experiments that are shown."""
LEAST_FIRST = ("steps", "iwelbo", "train", "change")
"""Columns that a table can do without, in the order in which they go when it is too wide."""
LEFT = ("model", "change", "pushed")
"""Columns of text; numbers are aligned to the right."""


def publish(home: Home, execution: int, stamp: str) -> str:
    """Copy the report of the Leaderboard execution to `<home>/report`; return the leaderboard as text.

    stamp: of the run, by which the report is archived.
    """
    with metadata.opened(home) as store:
        [made] = store.outputs(execution)["report"]
    archive.publish(home, pathlib.Path(made.uri), stamp)
    rows = [Row.from_json(values) for values in json.loads((home.report / FILE).read_text())]
    comparison = home.report / COMPARISON
    groups = json.loads(comparison.read_text()) if comparison.exists() else []  # reports of 0.1 have none
    said = [pair["says"] for group in groups for pair in group["pairs"]]
    shown = table(rows, versions.by_variant(str(home.serving)))
    return "\n".join([shown, *([""] if said else []), *sentences(said)])


def sentences(said: Sequence[str]) -> list[str]:
    """Return the sentences about experiments that a terminal shows, and how many more the report has."""
    more = len(said) - MOST_SENTENCES
    return [*said[:MOST_SENTENCES], *([f"... and {more} more comparisons in the report"] if more > 0 else [])]


def table(rows: Sequence[Row], serving: Mapping[str, Sequence[int]]) -> str:
    """Format the leaderboard for a terminal: one table per family, WIDTH columns at most if names allow it.

    serving: the pushed versions of each variant, ascending. A version that is not the newest was pushed by an
    earlier run and is not called pushed. Columns that no row has a value for are left out; then those of
    least interest, until the table fits.
    """
    measured = [row for row in rows if row.training is not None]
    first = measured[0].trained
    named = f"dataset {sources.title(first.dataset)}"
    protocols = ", ".join(dict.fromkeys(row.trained.protocol for row in measured))
    seeds = sorted({row.trained.seed for row in measured})
    listed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    rest = f"protocol {protocols} | profile {first.profile} | {listed}"
    whole = f"{named} | {rest}"
    parts = [whole] if len(whole) <= WIDTH else [named, rest]
    for title, shown in FAMILIES.items():
        mine = [row for row in measured if shown[0].metric in row.metrics]
        if mine:
            heading = f"{title}; ± half the 95 % interval over test images"
            parts += ["", heading, *grid(mine, shown, serving)]
    unmeasured = [row for row in measured if not any(s[0].metric in row.metrics for s in FAMILIES.values())]
    refused = [f"{row.name} is not blessed: {row.why_not}" for row in measured if not row.blessed]
    failed = [
        f"{row.name} failed: {row.why_not or 'the log says why'}" for row in rows if row.training is None
    ]
    missing = [f"{row.name} has no metrics" for row in unmeasured]
    notes = [*missing, *failed, *refused]
    return "\n".join([*parts, *([""] if notes else []), *notes])


def pushed(row: Row, versions: Sequence[int]) -> str:
    """Return the version that a row's model serves as; `replaced` if another one serves, `no` without one."""
    if not row.pushed_version:
        return "no"
    return str(row.pushed_version) if row.pushed_version == max(versions, default=0) else "replaced"


def grid(rows: Sequence[Row], shown: Sequence[Column], serving: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the lines of a table of these rows, with the metrics `shown`."""
    columns = {"model": [row.name for row in rows]}
    for column in shown:
        found = [row.metrics.get(column.metric) for row in rows]
        columns[column.header] = [interval(metric) if metric else "" for metric in found]
    headline = shown[0].metric  # of a model of both families, the gain is in one of the two metrics
    columns["gain"] = [
        short_gain(row.gain) if row.gain and row.gain.metric == headline else "" for row in rows
    ]
    # The gain is the verdict where there is one; a second comparison would only contradict it.
    columns["change"] = [
        f"{SIGNS[row.change.verdict]} {row.change.verdict}" if row.change and not row.gain else ""
        for row in rows
    ]
    columns["steps"] = [count(row.trained.steps) for row in rows]
    columns["train"] = [seconds(row.trained.train_seconds) for row in rows]
    columns["pushed"] = [pushed(row, serving.get(row.name, ())) for row in rows]
    columns = {header: cells for header, cells in columns.items() if any(cells)}
    widths = {header: max(map(len, (header, *cells))) for header, cells in columns.items()}
    for header in LEAST_FIRST:
        if sum(widths.values()) + len(GAP) * (len(widths) - 1) > WIDTH:
            widths.pop(header, None)
    lines = [list(widths), ["─" * width for width in widths.values()]]
    lines += [[columns[header][place] for header in widths] for place in range(len(rows))]
    return [
        GAP.join(
            f"{cell:<{width}}" if header in LEFT else f"{cell:>{width}}"
            for cell, (header, width) in zip(line, widths.items(), strict=True)
        ).rstrip()
        for line in lines
    ]
