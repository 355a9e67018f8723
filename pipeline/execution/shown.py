"""What Kubeflow's page of a run shows: the report as HTML, the leaderboard as Markdown, and metrics."""

import json
import os
import shutil
from typing import Any

from tfx.dsl.io import fileio

PAGE, SUMMARY, METRICS = "page", "summary", "metrics"
"""Output artifacts of the task that writes the report, of types HTML, Markdown and Metrics."""
MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Where Kubeflow's launcher takes an artifact from, by the beginning of its address."""
FILES = {PAGE: "index.html", SUMMARY: "leaderboard.md"}
NUMBERS = ("accuracy", "elbo")


def publish(executor_input: str, report: str, mounts: str = "") -> None:
    """Put the report where Kubeflow's launcher uploads it from.

    executor_input: what Kubeflow puts in place of `{{$}}`. report: folder of the report. mounts: folder that
    the launcher's volumes are mounted below. Raises OSError, ValueError and KeyError.
    """
    outputs = json.loads(executor_input)["outputs"]
    artifacts = {name: listed["artifacts"][0] for name, listed in outputs["artifacts"].items()}
    for name, file in FILES.items():
        target = mounts + _mounted(artifacts[name]["uri"])
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with fileio.open(os.path.join(report, file), "rb") as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
    with fileio.open(os.path.join(report, "leaderboard.json")) as source:
        measured = numbers(json.load(source))
    shown = {METRICS: {"artifacts": [{**artifacts[METRICS], "metadata": measured}]}}
    place = mounts + outputs["outputFile"]
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "w") as file_:
        json.dump({"artifacts": shown}, file_)


def numbers(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the headline metrics of the leaderboard's rows: `cvae.elbo`."""
    return {
        f"{row['name']}.{name}": float(row["metrics"][name]["value"])
        for row in rows
        for name in NUMBERS
        if name in (row.get("metrics") or {})
    }


def _mounted(uri: str) -> str:
    """Return the path at which a task finds an artifact. Raises ValueError for an unknown kind of storage.

    Kubeflow's local runner gives paths instead of addresses.
    """
    if uri.startswith("/"):
        return uri
    for beginning, mount in MOUNTS.items():
        if uri.startswith(beginning):
            return mount + uri.removeprefix(beginning)
    raise ValueError(f"the address {uri!r} begins with none of {', '.join(MOUNTS)}")
