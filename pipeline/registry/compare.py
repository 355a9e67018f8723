"""Compare any two models or experiments, or all that two homes share, from their scores per image."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from components.evaluation.scores import FILE as SCORES_FILE
from components.evaluation.scores import Scores, UnreadableScores, read
from components.reporting import experiments
from components.reporting.leaderboard import FILE as LEADERBOARD
from components.reporting.results import overall_metrics
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.registry import lineage
from schemas import TRAINING_RECORD, strict
from schemas.records import Metric, Row, Status, Training


class CompareError(ValueError):
    """What was asked for cannot be compared; the message says why, and what can."""


class Side(NamedTuple):
    """One side of a comparison: experiments under the names that it is shown by, with their models' scores.

    home: whether these are all experiments of a home.
    """

    experiments: Mapping[str, list[Row]]
    scores: Mapping[str, Scores]
    home: bool = False


def compare(first: str, second: str, home: str) -> list[experiments.Group]:
    """Compare two things, each a name in the report of `home`, `HOME:NAME`, a folder of a model, or a home.

    Of two homes, experiments of the same name are compared. Raises CompareError.
    """
    if first == second:
        raise CompareError(f"{first} is on both sides; give two models, two experiments or two homes")
    sides = [_side(text, home) for text in (first, second)]
    if sides[0].home != sides[1].home:
        raise CompareError(
            f"{first if sides[0].home else second} is a home and the other side is one model; write HOME:NAME"
        )
    one, other = (side.experiments for side in sides)
    if sides[0].home:
        shared = [name for name in one if name in other]
        if not shared:
            raise CompareError(
                f"no experiment is in both reports: {first} has {', '.join(one) or 'none'}, and {second} has "
                f"{', '.join(other) or 'none'}; write {first}:NAME and {second}:NAME"
            )
        labels = [(f"{first}:{name}", f"{second}:{name}") for name in shared]
        rows = {
            label: (side, each[name])
            for name, pair in zip(shared, labels, strict=True)
            for label, side, each in zip(pair, sides, (one, other), strict=True)
        }
    else:
        labels = [(first, second)]
        rows = {
            label: (side, [row for mine in side.experiments.values() for row in mine])
            for label, side in zip((first, second), sides, strict=True)
        }
    return _groups(rows, labels)


def _groups(
    rows: Mapping[str, tuple[Side, list[Row]]], labels: list[tuple[str, str]]
) -> list[experiments.Group]:
    """Return the comparisons of the pairs in `labels`. Raises CompareError where there is none."""
    scores: dict[str, Scores] = {}
    renamed: list[Row] = []
    for label, (side, mine) in rows.items():
        for row in mine:
            name = f"{label}/{row.name}"
            renamed.append(dataclasses.replace(row, name=name, experiment=label))
            if row.name in side.scores:
                scores[name] = side.scores[row.name]
    found = [
        group
        for group in experiments.groups(renamed, scores, {frozenset(pair) for pair in labels})
        if group.pairs or group.left_out
    ]
    if any(group.pairs for group in found):
        return found
    reasons = [f"{name}: {why}" for group in found for name, why in group.left_out.items()]
    protocols = sorted({row.trained.protocol for row in renamed})
    if not reasons and len(protocols) > 1:
        reasons = [f"likelihoods of the protocols {' and '.join(protocols)} are different quantities"]
    reason = "; ".join(reasons) or "no metric was measured of both"
    raise CompareError(f"{' and '.join(labels[0])} cannot be compared: {reason}")


def _side(text: str, home: str) -> Side:
    folder = pathlib.Path(text).expanduser()
    if (Home.of(folder).report / LEADERBOARD).is_file():
        return _of_report(Home.of(folder))._replace(home=True)
    if folder.exists():
        return _of_model(text)
    place, colon, name = text.rpartition(":")
    return _named(_of_report(Home.of(place if colon else home)), name)


def _of_report(home: Home) -> Side:
    path = home.report / LEADERBOARD
    try:
        rows = [Row.from_json(values) for values in json.loads(path.read_text())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompareError(
            f"cannot read {path} ({error}); give the home of a run that wrote a report"
        ) from error
    found: dict[str, list[Row]] = {}
    scores: dict[str, Scores] = {}
    for row in rows:
        if row.status is not Status.FAILED:
            found.setdefault(row.experiment, []).append(row)
            path = home.report_scores / f"{row.name}.parquet"
            if path.exists():
                scores[row.name] = _read(path)
    return Side(found, scores)


def _named(side: Side, name: str) -> Side:
    """Return one experiment of a report, or one of its models. Raises CompareError."""
    if name in side.experiments:
        return side._replace(experiments={name: side.experiments[name]})
    rows = {row.name: row for mine in side.experiments.values() for row in mine}
    if name in rows:
        return side._replace(experiments={name: [rows[name]]})
    known = list(dict.fromkeys([*side.experiments, *rows]))
    raise CompareError(f"the report has no experiment or model {name!r}; {strict.suggestion(name, known)}")


def _of_model(text: str) -> Side:
    """Return the model of a version's or an artifact's folder, from its newest evaluation."""
    try:
        place = lineage.home_of(text, None)
        uri = lineage.artifact_uri(text, place)
    except lineage.LineageError as error:
        raise CompareError(str(error)) from error
    with metadata.opened(place) as store:
        artifact = store.at(uri, metadata.MODEL)
        evaluation = lineage.evaluation_of(store, artifact) if artifact else None
        if artifact is None or evaluation is None:
            raise CompareError(f"the metadata of {place} knows no evaluation of a model at {uri}")
        [evaluated] = store.outputs(evaluation.id)["evaluation"]
        [run] = store.outputs(store.maker(artifact).id)["model_run"]
    record = json.loads(pathlib.Path(run.uri, TRAINING_RECORD).read_text())
    known = {field.name for field in dataclasses.fields(Training)}
    row = Row(
        record["variant"],
        Status.BLESSED,
        Training(**{name: value for name, value in record.items() if name in known}),
        {name: Metric(**metric) for name, metric in overall_metrics(evaluated.uri).items()},
        name=text,
    )
    return Side({text: [row]}, {text: _read(pathlib.Path(evaluated.uri, SCORES_FILE))})


def _read(path: pathlib.Path) -> Scores:
    try:
        return read(str(path))
    except UnreadableScores as error:
        raise CompareError(str(error)) from error
