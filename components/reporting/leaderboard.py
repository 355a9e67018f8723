"""Write the report of a run: a leaderboard with one row per model, the page, pictures and model cards."""

import csv
import dataclasses
import datetime
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
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

from components.evaluation import scores
from components.evaluation.eval_config import HEADLINE
from components.evaluation.gated import record_of
from components.evaluation.metrics import UNITS
from components.gate.line import warnings
from components.identity import DATASET
from components.reporting import (
    display,
    exhibit,
    experiments,
    figures,
    gallery,
    model_card,
    page,
    report_page,
)
from components.reporting.display import count, interval, seconds
from components.reporting.panels import Subject
from components.reporting.results import (
    BASELINE,
    OVERALL,
    data_statistics,
    floor,
    production_gain,
    sliced_metrics,
    why_not,
)
from components.serving import pushed, versions
from components.validation import anomaly_gate as gate
from components.validation.drift import descriptions
from schemas import TRAINING_RECORD
from schemas.records import Change, Gain, Metric, Row, Status, Training, Verdict

log = logging.getLogger(__name__)

FILE = "leaderboard.json"
TABLE, SHEET = "leaderboard.md", "leaderboard.csv"
PAGE = "index.html"

RUNS = "runs"
"""Custom property of a Report: the ids of the training runs that it is about."""


class Report(types.Artifact):
    """The report of a run: index.html, the leaderboard in three formats, pictures and model cards."""

    TYPE_NAME = "LatentlineReport"


class LatestOtherReport(ResolverStrategy):
    """Find the newest report on other training runs than these.

    Inputs: `runs`, `report`; the resolved `report` is empty if there is none. Reports on these training runs
    alone are skipped, so that a second identical run finds the same report and is cached, and a run that
    fixes a failure is compared with the run before the failure.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolve the inputs; TFX calls this."""
        mine = {"", *identity(input_dict[RUNS]).split(",")}
        others = [
            report
            for report in input_dict["report"]
            if not mine.issuperset(report.get_string_custom_property(RUNS).split(","))
        ]
        return {**input_dict, "report": sorted(others, key=lambda report: report.id)[-1:]}


class Artifacts(NamedTuple):
    """The artifacts of one trained model; `push` is None where nothing is to be pushed."""

    run: Any
    model: Any
    evaluation: Any
    blessing: Any
    push: Any
    gallery: Any

    @property
    def name(self) -> str:
        """Return the name of the model in its run, empty for artifacts that no trainer's node made.

        The node is `Trainer.<name>`; TFX lays outputs in <root>/<node>/<key>/<execution>.
        """
        node = os.path.basename(os.path.dirname(os.path.dirname(self.run.uri.rstrip("/"))))
        return node.removeprefix("Trainer.") if node.startswith("Trainer.") else ""


def identity(runs: Iterable[types.Artifact]) -> str:
    """Return the ids of training runs as a Report carries them."""
    return ",".join(str(run.id) for run in sorted(runs, key=lambda run: run.id))


@component
def Leaderboard(  # type: ignore[no-untyped-def]
    runs: InputArtifact[list[standard_artifacts.ModelRun]],
    models: InputArtifact[list[standard_artifacts.Model]],
    evaluations: InputArtifact[list[standard_artifacts.ModelEvaluation]],
    blessings: InputArtifact[list[standard_artifacts.ModelBlessing]],
    galleries: InputArtifact[list[gallery.GalleryArtifact]],
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    report: OutputArtifact[Report],
    templates: Parameter[str],
    failed: Parameter[str],
    serving: Parameter[str],
    described: Parameter[str],
    source: Parameter[str],
    reading: Parameter[str],
    previous: InputArtifact[list[Report]] = None,
    drift: InputArtifact[list[standard_artifacts.ExampleAnomalies]] = None,
    pushes: InputArtifact[list[standard_artifacts.PushedModel]] = None,
):
    """Write the report of a run.

    Inputs: one artifact per model, in the same order; those of the data, which name it; an earlier report;
    drift.
    `pushes` is absent from runs that push nothing.
    `templates` is report_page.version(), by which TFX's cache notices that the page looks different.
    `serving` is the folder that models are pushed to, where the version in production is looked up.
    `failed` is JSON, name -> why its artifacts are not among the inputs.
    `described` is JSON, name -> its variant, experiment, seed, family and summary. `source` is where the data
    was read from, `reading` JSON of how: formats.Reading.
    Output: `report`. Each pushed SavedModel also gets its model card, renamed into place.
    """
    before = earlier_rows(previous)
    data = data_statistics(statistics)
    drifted = [sentence for found in drift or [] for sentence in descriptions(found)]
    known = json.loads(described)
    dataset = examples.get_string_custom_property(DATASET)
    rows, subjects = [], []
    kept: dict[str, scores.Scores] = {}
    pushed_models = pushes or [None] * len(runs)
    for each in zip(runs, models, evaluations, blessings, pushed_models, galleries, strict=True):
        artifacts = Artifacts(*each)
        slices = sliced_metrics(artifacts.evaluation.uri)
        entry = row(artifacts, slices.pop(OVERALL, {}), serving, known)
        entry = dataclasses.replace(
            entry,
            span=statistics.span or None,
            drift=tuple(drifted),
            training=dataclasses.replace(entry.trained, dataset=dataset or entry.trained.dataset),
        )
        entry = compared(entry, before)
        rows.append(entry)
        about_data = model_card.Data(entry.trained.dataset, source, data, json.loads(reading))
        card = model_card.card(entry, slices, about_data, source=artifacts.model.uri)
        write_cards(artifacts, card, report.uri)
        subjects.append(subject(artifacts, entry, slices, report.uri))
        if found := copy_scores(artifacts.evaluation.uri, report.uri, entry.name):
            kept[entry.name] = found
    missing = [
        Row(
            known[name]["variant"],
            Status.FAILED,
            why_not=why,
            not_compared="it failed",
            name=name,
            experiment=known[name]["experiment"],
        )  # fmt: skip
        for name, why in json.loads(failed).items()
    ]
    about = page.About(
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        splits=data,
        source=source,
        anomalies=found_anomalies(anomalies),
        drift=drifted if drift else None,
        families={name: facts["family"] for name, facts in known.items()},
    )
    compared_groups = experiments.groups(rows, kept) if experiments.worth_comparing(rows) else []
    report.set_string_custom_property(RUNS, identity(runs))
    for name, text in (
        (experiments.FILE, json.dumps(experiments.to_json(compared_groups), indent=1)),
        (FILE, json.dumps([entry.to_json() for entry in (*rows, *missing)], indent=1)),
        (SHEET, comma_separated([*rows, *missing])),
        (TABLE, markdown([*rows, *missing])),
        (PAGE, rendered(subjects, missing, about, compared_groups)),
    ):
        write_text(os.path.join(report.uri, name), text)


def rendered(
    subjects: Sequence[Subject],
    failed: Sequence[Row],
    about: page.About,
    groups: Sequence[experiments.Group] = (),
) -> str:
    """Return the page; if it cannot be drawn, the leaderboard as plain HTML that says so."""
    try:
        return report_page.render(page.view(subjects, failed, about, groups))
    except Exception as error:  # of any kind: what only presents must not fail a run
        log.exception("the page cannot be drawn")
        return report_page.plain(markdown([*(each.row for each in subjects), *failed]), gallery.reason(error))


def row(
    artifacts: Artifacts,
    metrics: Mapping[str, Mapping[str, Any]],
    serving: str,
    described: Mapping[str, Mapping[str, Any]],
) -> Row:
    """Build the row of a model from its artifacts.

    metrics: over the whole test split. serving: the folder that models are pushed to. described: name -> its
    experiment, family and summary.
    """
    record = json.loads(read_text(os.path.join(artifacts.run.uri, TRAINING_RECORD)))
    names = [field.name for field in dataclasses.fields(Training)]
    name = artifacts.name or record["variant"]
    known = described.get(name, {})
    facts = {**record, **known}
    training = Training(**{field: facts[field] for field in names if field in facts})
    blessed = artifacts.blessing.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
    version = pushed.version(artifacts.push) if artifacts.push else None
    record_of_night = record_of(artifacts.evaluation.uri)
    status = (Status.PUSHED if version else Status.BLESSED) if blessed else Status.REFUSED
    return Row(
        variant=record["variant"],
        status=status,
        training=training,
        metrics={metric: Metric(**values) for metric, values in metrics.items()},
        why_not="" if blessed else why_not(artifacts.evaluation.uri, name),
        pushed_version=version,
        gain=against_production(artifacts, os.path.join(serving, name)),
        floor=floor(artifacts.evaluation.uri),
        warnings=warnings(record_of_night) if record_of_night else (),
        name=name,
        experiment=known.get("experiment", ""),
    )


def subject(artifacts: Artifacts, row: Row, slices: Mapping[str, Any], report: str) -> Subject:
    """Build what the page shows of one variant; copy its pictures into the folder `report`.

    slices: metrics by label. A gallery that cannot be read leaves its reason in place of its pictures.
    """
    record: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    sprites: dict[str, str] = {}
    before: dict[str, dict[str, Metric]] = {}
    try:
        record = json.loads(read_text(os.path.join(artifacts.run.uri, TRAINING_RECORD)))
        before = typed(sliced_metrics(artifacts.evaluation.uri, BASELINE))
        shown = copy_pictures(artifacts.gallery.uri, report, row)
        add_bars(shown, report, row.name, slices)
        facts, sprites = explored(artifacts.gallery.uri)
    except Exception as error:  # of any kind: a pushed model has its row, with or without pictures
        log.exception("%s has no pictures", row.name)
        shown = {"pictures": [], "left_out": {"Pictures": gallery.reason(error)}}
    return Subject(row, record, typed(slices), before, shown, facts, sprites)


def typed(slices: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Metric]]:
    """Return metrics by slice as records."""
    return {
        label: {name: Metric(**metric) for name, metric in metrics.items()}
        for label, metrics in slices.items()
    }


def explored(source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the exhibit of a gallery: its facts, and its sprites as data URIs; empty if it has none."""
    path = os.path.join(source, exhibit.FILE)
    if not fileio.exists(path):
        return {}, {}
    facts = json.loads(read_text(path))
    names = {value for value in facts.values() if isinstance(value, str) and value.endswith(".png")}
    names |= {name for name in exhibit.SHARED if fileio.exists(os.path.join(source, name))}
    return facts, {name: report_page.data_uri(source, name) for name in sorted(names)}


def write_cards(artifacts: Artifacts, card: Mapping[str, Any], report: str) -> None:
    """Write a model card into the folder `report`, and beside the model if it was pushed."""
    write_card(card, os.path.join(report, "cards", card["model"]["name"]))
    destination = pushed.destination(artifacts.push) if artifacts.push else ""
    if destination and fileio.exists(destination):
        write_card(card, destination)


def against_production(artifacts: Artifacts, folder: str) -> Gain | None:
    """Return the gain over the model that was in production when the gate decided; None without one.

    folder: where versions of the variant are pushed, for the version of the baseline.
    """
    gain = production_gain(artifacts.evaluation.uri)
    if gain is None:
        return None
    key = evaluator.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY
    model = artifacts.blessing.get_string_custom_property(key)
    known = [
        number
        for number in versions.published(folder)
        if versions.same_artifact(versions.source(folder, number), model)
    ]
    return Gain(**gain, model=model, version=known[-1] if known else None)


def compared(row: Row, before: Iterable[Row]) -> Row:
    """Return the row with the change since the same variant's row in `before`, or why there is none.

    The margin is half the 95 % interval of the change as if both were measured on separate images. On the
    same test images that is too wide, so a verdict other than "within noise" is conservative.
    """
    found = change(row, before)
    if isinstance(found, Change):
        return dataclasses.replace(row, change=found)
    return dataclasses.replace(row, not_compared=found)


def change(row: Row, before: Iterable[Row]) -> Change | str:
    """Return the change of the headline metric, or the reason why the rows cannot be compared."""
    earlier = next((other for other in before if other.name == row.name), None)
    if earlier is None or earlier.training is None or row.training is None:
        return "no earlier run of this variant to compare with"
    for field, now, then in (
        ("dataset", row.training.dataset, earlier.training.dataset),
        ("protocol", row.training.protocol, earlier.training.protocol),
        ("span", row.span, earlier.span),
    ):
        if now != then:
            return f"the earlier run had another {field}, {then or 'none'}"
    name = headline(row.training.family)
    if name not in row.metrics or name not in earlier.metrics:
        return f"{name} was not measured in both runs"
    after, past = row.metrics[name], earlier.metrics[name]
    difference = after.value - past.value
    if math.isnan(difference):
        return f"{name} is not a number in one of the runs"
    margin = math.hypot(after.half, past.half)
    verdict = Verdict.BETTER if difference > 0 else Verdict.WORSE
    return Change(
        metric=name,
        before=past.value,
        before_profile=earlier.training.profile,
        before_steps=earlier.training.steps,
        change=difference,
        margin=margin,
        verdict=Verdict.SAME if abs(difference) <= margin else verdict,
    )


def headline(family: str) -> str:
    """Return the metric that gate and ranking use for a family."""
    return HEADLINE["generative" if family == "both" else family]


def earlier_rows(previous: Any) -> list[Row]:
    """Return the rows of an earlier report without failed ones; none if it is gone."""
    [report] = previous or [None]
    if report is None or not fileio.exists(os.path.join(report.uri, FILE)):
        return []
    rows = [Row.from_json(values) for values in json.loads(read_text(os.path.join(report.uri, FILE)))]
    return [row for row in rows if row.status is not Status.FAILED]


def found_anomalies(anomalies: Any) -> str:
    """Return the anomalies that ExampleValidator found, as a sentence; empty if there are none."""
    try:
        gate.check(anomalies)
    except gate.DataAnomaly as error:
        return str(error)
    return ""


def copy_pictures(source: str, report: str, row: Row) -> dict[str, Any]:
    """Copy a gallery's pictures into the report; return its index, with files relative to the report."""
    index = json.loads(read_text(os.path.join(source, gallery.INDEX)))
    if index["variant"] not in (row.variant, ""):  # empty: nothing could be drawn
        raise ValueError(f"the gallery at {source} shows {index['variant']}; expected {row.variant}'s")
    folder = os.path.join("pictures", row.name)
    fileio.makedirs(os.path.join(report, folder))
    for picture in index["pictures"]:
        place = os.path.join(folder, picture["file"])
        fileio.copy(os.path.join(source, picture["file"]), os.path.join(report, place), overwrite=True)
        picture["file"] = place
    shown: dict[str, Any] = index
    return shown


def copy_scores(evaluation: str, report: str, name: str) -> scores.Scores | None:
    """Copy the scores per image of an evaluation into the report and return them.

    None, with a warning, for evaluations without any, as those of 0.1.
    """
    try:
        found = scores.read(os.path.join(evaluation, scores.FILE))
    except scores.UnreadableScores as error:
        log.warning("%s: %s", name, error)
        return None
    folder = os.path.join(report, experiments.SCORES)
    fileio.makedirs(folder)
    place = os.path.join(folder, f"{name}.parquet")
    fileio.copy(os.path.join(evaluation, scores.FILE), place, overwrite=True)
    return found


def add_bars(shown: dict[str, Any], report: str, name: str, slices: Mapping[str, Any]) -> None:
    """Draw distortion and rate by label, if the model has them, and add the picture to those shown."""
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
    place = os.path.join("pictures", name, "labels.png")
    with fileio.open(os.path.join(report, place), "wb") as file:
        file.write(figures.bars(list(slices), distortion, rate, np.array(margin)))
    caption = "What an image costs, by label, over the whole test split; whiskers are 95 % intervals."
    shown["pictures"].append({"file": place, "title": "ELBO by label", "caption": caption})


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Return every metric that some row has: headline metrics first, then as metrics are declared."""
    measured = {name for row in rows for name in row.metrics}
    return [name for name in dict.fromkeys([*HEADLINE.values(), *UNITS]) if name in measured]


PLAIN = (
    "name", "variant", "family", "dataset", "protocol", "profile", "seed", "steps", "batch_size",
    "parameters",
    "examples", "importance_samples", "train_seconds", "step_seconds", "images_per_second", "status",
    "blessed", "why_not", "pushed_version",
)  # fmt: skip
"""Columns of the CSV that hold one value each."""


FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet takes for a formula, which may run commands or fetch addresses."""


def comma_separated(rows: Iterable[Row]) -> str:
    """Return the leaderboard as CSV; a metric takes three columns, its value and the ends of its interval."""
    rows = list(rows)
    differences = ("value", "lower", "upper", "version")
    ends = [(name, end) for name in metric_names(rows) for end in ("value", "lower", "upper")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *PLAIN,
            *("gain" if part == "value" else f"gain_{part}" for part in differences),
            *(name if end == "value" else f"{name}_{end}" for name, end in ends),
        ]
    )
    for row in rows:
        values = row.to_json()
        measured = (values["metrics"].get(name, {}).get(end, "") for name, end in ends)
        gain = values["gain"] or {}
        cells = [
            *(values[field] for field in PLAIN),
            *(gain.get(part, "") for part in differences),
            *measured,
        ]
        writer.writerow([sheet_cell(value) for value in cells])
    return text.getvalue()


def sheet_cell(value: object) -> object:
    """Return a cell of a CSV file that no spreadsheet takes for a formula; numbers stay as they are."""
    if not isinstance(value, str) or not value.lstrip().startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def markdown(rows: Iterable[Row]) -> str:
    """Return the leaderboard as a Markdown table; metrics have half their 95 % interval."""
    rows = list(rows)
    metrics = metric_names(rows)
    units = [f"{name}<br>{UNITS[name]}" for name in metrics]
    gains = any(row.gain for row in rows)
    header = [
        "model", "dataset", "protocol", "profile", "steps", "training", "parameters", *units,
        *(["against production"] if gains else []), "blessed",
    ]  # fmt: skip
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        if row.training is None:
            cells = [row.name, *[""] * (len(header) - 2), row.why_not or "failed"]
        else:
            training = row.training
            cells = [
                row.name,
                training.dataset,
                training.protocol,
                training.profile,
                f"{training.steps:,}",
                seconds(training.train_seconds),
                count(training.parameters),
                *(interval(row.metrics[name]) if name in row.metrics else "" for name in metrics),
                *([display.against(row.gain) if row.gain else ""] if gains else []),
                "yes" if row.blessed else f"no: {row.why_not}",
            ]
        lines.append(f"| {' | '.join(model_card.cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def write_card(card: Mapping[str, Any], folder: str) -> None:
    """Write the model card as JSON and Markdown into `folder`; each file appears whole or not at all."""
    fileio.makedirs(folder)
    for name, text in (
        (model_card.CARD, json.dumps(card, indent=1)),
        (model_card.TEXT, model_card.markdown(card)),
    ):
        staging = os.path.join(folder, f".{name}.part")
        write_text(staging, text)
        fileio.rename(staging, os.path.join(folder, name), overwrite=True)


def read_text(path: str) -> str:
    """Read a text file, local or remote."""
    with fileio.open(path) as file:
        return str(file.read())


def write_text(path: str, text: str) -> None:
    """Write a text file, local or remote."""
    with fileio.open(path, "w") as file:
        file.write(text)
