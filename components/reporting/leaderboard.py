"""Leaderboard: one row a variant, from what its trainer, evaluator and pusher left behind; and the report."""

import csv
import datetime
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_metadata as mlmd
import numpy as np
from tfx import types
from tfx.components.evaluator import constants as evaluator
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.evaluation.eval_config import HEADLINE
from components.evaluation.metrics import UNITS
from components.reporting import display, figures, gallery, model_card, report_page
from components.reporting.display import count, interval, seconds
from components.reporting.results import OVERALL, data_statistics, production_gain, sliced_metrics, why_not
from components.serving import pushed, versions
from components.validation import anomaly_gate as gate
from components.validation.drift import descriptions
from schemas import TRAINING_RECORD

FILE = "leaderboard.json"
TABLE, SHEET = "leaderboard.md", "leaderboard.csv"
PAGE = "index.html"

TRAINED = (
    "variant", "family", "dataset", "protocol", "profile", "seed", "steps", "batch_size", "parameters",
    "examples", "importance_samples", "train_seconds", "step_seconds", "images_per_second",
)  # fmt: skip
"""Fields of a row that the training record gives."""
TOLD = ("summary", "config", "recipe", "warm_start")
"""Fields of a row that the training record may give."""

BETTER, WORSE, SAME = "better", "worse", "within noise"
RUNS = "runs"
"""Custom property of a Report: the ids of the training runs that it is about."""


class Report(types.Artifact):
    """What people look at after a run: index.html, and the leaderboard as JSON, CSV and Markdown."""

    TYPE_NAME = "LatentlineReport"


class LatestOtherReport(ResolverStrategy):
    """The newest report on other training runs than these.

    Inputs: `runs`, `report`; the resolved `report` is empty where there is none. Reports on none but these
    training runs are passed over, so that a second identical run finds the same report and is cached, and one
    that mends what failed is compared with the run before the failure.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Called by TFX; see the class."""
        mine = {"", *identity(input_dict[RUNS]).split(",")}
        others = [
            report
            for report in input_dict["report"]
            if not mine.issuperset(report.get_string_custom_property(RUNS).split(","))
        ]
        return {**input_dict, "report": sorted(others, key=lambda report: report.id)[-1:]}


class Line(NamedTuple):
    """The artifacts of one variant."""

    run: Any
    model: Any
    evaluation: Any
    blessing: Any
    push: Any
    gallery: Any


def identity(runs: Iterable[types.Artifact]) -> str:
    """The ids of training runs, as a Report carries them."""
    return ",".join(str(run.id) for run in sorted(runs, key=lambda run: run.id))


@component
def Leaderboard(  # type: ignore[no-untyped-def]
    runs: InputArtifact[list[standard_artifacts.ModelRun]],
    models: InputArtifact[list[standard_artifacts.Model]],
    evaluations: InputArtifact[list[standard_artifacts.ModelEvaluation]],
    blessings: InputArtifact[list[standard_artifacts.ModelBlessing]],
    pushes: InputArtifact[list[standard_artifacts.PushedModel]],
    galleries: InputArtifact[list[gallery.GalleryArtifact]],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    report: OutputArtifact[Report],
    templates: Parameter[str],
    failed: Parameter[str],
    serving: Parameter[str],
    previous: InputArtifact[list[Report]] = None,
    drift: InputArtifact[list[standard_artifacts.ExampleAnomalies]] = None,
):
    """Inputs: of the variants, one artifact each in the same order; of the data; an earlier report; of drift.

    `templates` is report_page.version(), which makes TFX's cache notice that the page looks different.
    `serving` is the folder that models are pushed to, where the version in production is looked up.
    `failed` is JSON, variant -> why there is nothing of it among the inputs.
    Output: `report`, a page, the leaderboard in three formats, pictures and model cards. A model card also
    goes beside each pushed SavedModel, renamed into place.
    """
    before, before_uri = earlier_rows(previous)
    data = data_statistics(statistics)
    drifted = [sentence for found in drift or [] for sentence in descriptions(found)]
    sections = []
    for artifacts in zip(runs, models, evaluations, blessings, pushes, galleries, strict=True):
        line = Line(*artifacts)
        slices = sliced_metrics(line.evaluation.uri)
        entry = row(line, slices.pop(OVERALL, {}))
        entry |= {"span": statistics.span or None, "drift": drifted}
        entry["comparison"] = comparison(entry, before)
        entry["gain"] = against_production(line, os.path.join(serving, entry["variant"]))
        sections.append(section(line, entry, slices, data, report.uri))
    rows = [section["row"] for section in sections]
    missing = [failed_row(variant, why) for variant, why in json.loads(failed).items()]
    page = {
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "sections": sections,
        "failed": missing,
        "metrics": metric_names(rows),
        "units": UNITS,
        "data": data,
        "anomalies": found_anomalies(anomalies),
        "drift": drifted if drift else None,
        "links": {"statistics": statistics.uri, "anomalies": anomalies.uri},
        "previous": before_uri,
    }
    report.set_string_custom_property(RUNS, identity(runs))
    for name, text in (
        (FILE, json.dumps([*rows, *missing], indent=1)),
        (SHEET, comma_separated([*rows, *missing])),
        (TABLE, markdown([*rows, *missing])),
        (PAGE, report_page.render(page, report.uri)),
    ):
        write_text(os.path.join(report.uri, name), text)


def row(line: Line, metrics: dict[str, Any]) -> dict[str, Any]:
    """One variant's row; metrics as {value, lower, upper, unit}, ends of the 95 % confidence interval."""
    record = json.loads(read_text(os.path.join(line.run.uri, TRAINING_RECORD)))
    blessed = line.blessing.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
    version = pushed.version(line.push)
    return {
        **{field: record[field] for field in TRAINED},
        **{field: record[field] for field in TOLD if field in record},
        "metrics": metrics,
        "blessed": blessed,
        "why_not": "" if blessed else why_not(line.evaluation.uri, record["variant"]),
        "pushed_version": version,
    }


def section(
    line: Line, row: dict[str, Any], slices: dict[str, Any], data: list[dict[str, Any]], report: str
) -> dict[str, Any]:
    """What the page shows of one variant; its pictures and model card are put into the folder `report`.

    row: of the leaderboard. slices: metrics by label. The card goes beside a pushed model, too.
    """
    card = model_card.card(row, slices, data, source=line.model.uri)
    shown = copy_pictures(line.gallery.uri, report, row["variant"])
    add_bars(shown, report, row["variant"], slices)
    write_card(card, os.path.join(report, "cards", row["variant"]))
    links = {"SavedModel": line.model.uri, "training run": line.run.uri, "evaluation": line.evaluation.uri}
    destination = pushed.destination(line.push)
    if destination:
        links["pushed to"] = destination
        if fileio.exists(destination):
            write_card(card, destination)
    return {"row": row, "gallery": shown, "by_label": slices, "card": card, "links": links}


def against_production(line: Line, folder: str) -> dict[str, Any] | None:
    """What the model gains over the one in production when it was judged; None where there was none.

    {metric, value, lower, upper, unit, model, version}: the paired difference with its 95 % interval; the
    baseline's artifact, and its newest version in `folder`, None where it is no longer there.
    """
    gain = production_gain(line.evaluation.uri)
    if gain is None:
        return None
    model = line.blessing.get_string_custom_property(evaluator.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY)
    known = [number for number in versions.published(folder) if versions.source(folder, number) == model]
    return {**gain, "model": model, "version": known[-1] if known else None}


def failed_row(variant: str, why: str) -> dict[str, Any]:
    """The row of a variant that failed: it has `failed`, and nothing was measured."""
    return {
        **dict.fromkeys(TRAINED),
        "variant": variant,
        "metrics": {},
        "blessed": False,
        "why_not": why,
        "pushed_version": None,
        "comparison": {"why_not": "it failed"},
        "failed": why,
    }


def comparison(row: Mapping[str, Any], before: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How the headline metric moved since the same variant's row in `before`.

    {metric, before, change, margin, verdict} where the rows can be compared; else {why_not}. The margin is
    half the 95 % interval of the change as if both were measured on separate images, which on the same test
    images is more than it is: a verdict other than "within noise" is on the safe side.
    """
    earlier = next((other for other in before if other["variant"] == row["variant"]), None)
    if earlier is None:
        return {"why_not": "no earlier run of this variant to compare with"}
    for field in ("dataset", "protocol", "span"):
        if earlier.get(field) != row.get(field):
            return {"why_not": f"the earlier run had another {field}, {earlier.get(field) or 'none'}"}
    name = HEADLINE["generative" if row["family"] == "both" else row["family"]]
    if name not in row["metrics"] or name not in earlier["metrics"]:
        return {"why_not": f"{name} was not measured in both runs"}
    now, then = row["metrics"][name], earlier["metrics"][name]
    change = now["value"] - then["value"]
    if math.isnan(change):
        return {"why_not": f"{name} is not a number in one of the runs"}
    margin = math.hypot(*((m["upper"] - m["lower"]) / 2 for m in (now, then)))
    return {
        "metric": name,
        "before": then["value"],
        "before_profile": earlier["profile"],
        "before_steps": earlier["steps"],
        "change": change,
        "margin": margin,
        "verdict": SAME if abs(change) <= margin else BETTER if change > 0 else WORSE,
    }


def earlier_rows(previous: Any) -> tuple[list[dict[str, Any]], str]:
    """The leaderboard of the earlier report, if one was found, without what failed; and where it lies."""
    [report] = previous or [None]
    if report is None or not fileio.exists(os.path.join(report.uri, FILE)):
        return [], ""
    rows = json.loads(read_text(os.path.join(report.uri, FILE)))
    return [row for row in rows if "failed" not in row], report.uri


def found_anomalies(anomalies: Any) -> str:
    """What ExampleValidator had against the data; empty for nothing, without which a run goes no further."""
    try:
        gate.check(anomalies)
    except gate.DataAnomaly as error:
        return str(error)
    return ""


def copy_pictures(source: str, report: str, variant: str) -> dict[str, Any]:
    """The gallery's index, its pictures copied into the report; files are relative to the report."""
    index = json.loads(read_text(os.path.join(source, gallery.INDEX)))
    if index["variant"] != variant:
        raise ValueError(f"the gallery at {source} shows {index['variant']}; expected {variant}'s")
    folder = os.path.join("pictures", variant)
    fileio.makedirs(os.path.join(report, folder))
    for picture in index["pictures"]:
        place = os.path.join(folder, picture["file"])
        fileio.copy(os.path.join(source, picture["file"]), os.path.join(report, place), overwrite=True)
        picture["file"] = place
    shown: dict[str, Any] = index
    return shown


def add_bars(shown: dict[str, Any], report: str, variant: str, slices: Mapping[str, Any]) -> None:
    """Add the picture of distortion and rate by label, where the model has them, to the pictures shown."""
    wanted = ("elbo", "distortion", "rate")
    if not slices or any(
        name not in metrics or not math.isfinite(metrics[name]["value"])
        for metrics in slices.values()
        for name in wanted
    ):
        return
    distortion, rate = (
        np.array([metrics[name]["value"] for metrics in slices.values()]) for name in wanted[1:]
    )
    margin = [(m["elbo"]["upper"] - m["elbo"]["lower"]) / 2 for m in slices.values()]
    place = os.path.join("pictures", variant, "labels.png")
    with fileio.open(os.path.join(report, place), "wb") as file:
        file.write(figures.bars(list(slices), distortion, rate, np.array(margin)))
    caption = "What an image costs, by label, over the whole test split; whiskers are 95 % intervals."
    shown["pictures"].append({"file": place, "title": "ELBO by label", "caption": caption})


def metric_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every metric that some row has: those that models are judged by, then as metrics are declared."""
    names = dict.fromkeys([*HEADLINE.values(), *UNITS])
    return [name for name in names if any(name in row["metrics"] for row in rows)]


def comma_separated(rows: list[dict[str, Any]]) -> str:
    """The leaderboard as CSV: a metric takes three columns, its value and the ends of its interval."""
    metrics = metric_names(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    plain = [*TRAINED, "blessed", "why_not", "pushed_version"]
    differences = ("value", "lower", "upper", "version")
    ends = [(name, end) for name in metrics for end in ("value", "lower", "upper")]
    writer.writerow(
        [
            *plain,
            *("gain" if part == "value" else f"gain_{part}" for part in differences),
            *(name if end == "value" else f"{name}_{end}" for name, end in ends),
        ]
    )
    for row in rows:
        measured = (row["metrics"].get(name, {}).get(end, "") for name, end in ends)
        gain = row.get("gain") or {}
        writer.writerow(
            [*(row[field] for field in plain), *(gain.get(part, "") for part in differences), *measured]
        )
    return text.getvalue()


def markdown(rows: list[dict[str, Any]]) -> str:
    """The leaderboard as a Markdown table, metrics with half their 95 % interval."""
    metrics = metric_names(rows)
    units = [f"{name}<br>{UNITS[name]}" for name in metrics]
    compared = any(row.get("gain") for row in rows)
    header = [
        "variant", "dataset", "protocol", "profile", "steps", "training", "parameters", *units,
        *(["against production"] if compared else []), "blessed",
    ]  # fmt: skip
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        if "failed" in row:
            cells = [row["variant"], *[""] * (len(header) - 2), row["failed"] or "failed"]
        else:
            cells = [
                *(row[field] for field in ("variant", "dataset", "protocol", "profile")),
                f"{row['steps']:,}",
                seconds(row["train_seconds"]),
                count(row["parameters"]),
                *(interval(row["metrics"][name]) if name in row["metrics"] else "" for name in metrics),
                *([display.against(row["gain"]) if row.get("gain") else ""] if compared else []),
                "yes" if row["blessed"] else f"no: {row['why_not']}",
            ]
        lines.append(f"| {' | '.join(model_card.cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def write_card(card: Mapping[str, Any], folder: str) -> None:
    """Write the model card as JSON and Markdown into `folder`; each appears whole or not at all."""
    fileio.makedirs(folder)
    for name, text in (
        (model_card.CARD, json.dumps(card, indent=1)),
        (model_card.TEXT, model_card.markdown(card)),
    ):
        staging = os.path.join(folder, f".{name}.part")
        write_text(staging, text)
        fileio.rename(staging, os.path.join(folder, name), overwrite=True)


def read_text(path: str) -> str:
    """The text of a file, local or remote."""
    with fileio.open(path) as file:
        return str(file.read())


def write_text(path: str, text: str) -> None:
    """Write a text file, local or remote."""
    with fileio.open(path, "w") as file:
        file.write(text)
