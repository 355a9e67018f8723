"""Arrange the charts and tables of a family of models."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from components.reporting import charts, display
from components.reporting.charts import Scale, Tick
from components.reporting.words import (
    CLASSIFIER,
    GENERATIVE,
    Family,
    difference,
    finite,
    minus,
    scaled,
    thousands,
    value_text,
)
from schemas.records import Metric, Row, Status, Verdict

MOST_ROWS = 16
"""Rows of a chart before the rest is put behind a disclosure."""


class Subject(NamedTuple):
    """What is known of one variant that did not fail.

    record: the training record. by_label, production_by_label: label -> name -> metric. gallery: the index of
    its pictures. facts: of its exhibit. sprites: name of a sprite -> data URI.
    """

    row: Row
    record: Mapping[str, Any]
    by_label: Mapping[str, Mapping[str, Metric]]
    production_by_label: Mapping[str, Mapping[str, Metric]]
    gallery: Mapping[str, Any]
    facts: Mapping[str, Any]
    sprites: Mapping[str, str]

    def sprite(self, fact: str) -> str:
        """Return the sprite that a fact of the exhibit names; empty if there is none."""
        return self.sprites.get(self.facts.get(fact, ""), "")


def family_panel(
    family: Family, subjects: Sequence[Subject], failed: Sequence[Row], families: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the ranking, table and cost of a family; None if the run has none of it.

    families: of variants that failed, as far as they are known.
    """
    mine = [s for s in subjects if family.metric in s.row.metrics]
    lost = [row for row in failed if families.get(row.name) in kinds(family)]
    if not mine:
        return None
    mine.sort(key=lambda s: -finite(s.row.metrics[family.metric].value))
    scale, ticks = score_scale(family, mine)
    gains, gain_ticks = gain_scale(family, mine)
    ranked = [rank(family, subject, scale, gains) for subject in mine]
    return {
        "family": family,
        "ticks": ticks,
        "gain_ticks": gain_ticks,
        "rows": ranked[:MOST_ROWS],
        "rest": ranked[MOST_ROWS:],
        "failed": [row.name for row in lost],
        "best": best(family, mine),
        "table": table(family, mine, lost),
        "cost": cost(family, mine),
    }


def kinds(family: Family) -> tuple[str, str]:
    """Return the values of a variant's FAMILY that belong to this family."""
    return ("generative" if family is GENERATIVE else "classifier", "both")


def score_scale(family: Family, subjects: Sequence[Subject]) -> tuple[Scale, list[Tick]]:
    """Return the axis of the headline metric: outliers are off it, and it is logarithmic for accuracies."""
    metrics = [s.row.metrics[family.metric] for s in subjects]
    values = [m.value for m in metrics]
    values += [
        m.value - s.row.gain.value
        for m, s in zip(metrics, subjects, strict=True)
        if s.row.gain is not None and same(s.row, family)
    ]
    values += [end for m in metrics for end in (m.lower, m.upper) if math.isfinite(end)]
    if family is CLASSIFIER:
        ends = [charts.error_rate(value) for value in values if math.isfinite(value)] or [0.0]
        low, high = charts.padded(min(ends), max(ends))
        scale = Scale(1 - 10**-low, min(1 - 10**-high, 0.9999), charts.error_rate)
        return scale, charts.accuracy_ticks(scale)
    low, high = charts.within(values)
    scale = Scale(*charts.padded(low, high))
    return scale, charts.linear_ticks(scale)


def same(row: Row, family: Family) -> bool:
    """Return whether the row's gain is in this family's metric, and a number."""
    return row.gain is not None and row.gain.metric == family.metric and math.isfinite(row.gain.value)


def gain_scale(family: Family, subjects: Sequence[Subject]) -> tuple[Scale, list[Tick]]:
    """Return the axis of gains: zero is in its middle, and outliers are off it."""
    ends = sorted(
        max(abs(s.row.gain.lower), abs(s.row.gain.upper)) * family.factor
        for s in subjects
        if s.row.gain is not None and same(s.row, family)
    )
    if not ends:
        return Scale(-1.0, 1.0), []
    most = min(ends[-1], 3 * charts.quantile(ends, 0.5)) or 1.0
    limit = charts.nice_step(most, 1)
    scale = Scale(-limit / 0.92, limit / 0.92)
    texts = (f"-{limit:g}", "0", f"+{limit:g}")
    return scale, [
        Tick(scale(value), minus(text)) for value, text in zip((-limit, 0, limit), texts, strict=True)
    ]


def rank(family: Family, subject: Subject, scale: Scale, gains: Scale) -> dict[str, Any]:
    """Return a row of the ranking: dot, whiskers, floor, production, and the gain on its own axis."""
    row = subject.row
    metric = row.metrics[family.metric]
    production = metric.value - row.gain.value if row.gain is not None and same(row, family) else None
    found: dict[str, Any] = {
        "name": row.name,
        "status": row.status,
        "text": value_text(metric, family),
        "strip": strip(subject, family),
        "alt": strip_alt(subject, family),
        "tip": tip(family, row, production),
        "value": None,
        "floor": None,
        "production": None,
        "gain": None,
    }
    if not math.isfinite(metric.value):
        return found
    found["value"] = scale.clipped(metric.value)
    found["side"] = scale.side(metric.value)
    ends = (metric.lower, metric.upper) if math.isfinite(metric.half) else (metric.value, metric.value)
    found["ends"] = [scale.clipped(end) for end in ends]
    found["wide"] = found["ends"][1] - found["ends"][0] > 2.5
    if row.floor is not None and row.status is not Status.BLESSED and belongs(row, family):
        found["floor"] = (scale.clipped(row.floor), scale.side(row.floor))
    if production is not None and not scale.side(production):
        found["production"] = scale(production)
    if row.gain is not None and same(row, family):
        gain = scaled(row.gain, family.factor)
        kind = {Verdict.BETTER: "better", Verdict.WORSE: "worse", Verdict.SAME: "same"}[row.gain.verdict]
        found["gain"] = {
            "kind": kind,
            "ends": [gains.clipped(gain.lower), gains.clipped(gain.upper)],
            "value": gains.clipped(gain.value),
            "side": gains.side(gain.value),
        }
    return found


def belongs(row: Row, family: Family) -> bool:
    """Return whether the floor of the row is in this family's metric."""
    return row.training is not None and (family is GENERATIVE) == (row.training.family != "classifier")


def tip(family: Family, row: Row, production: float | None) -> str:
    """Return the sentence that a row of the ranking shows when it is pointed at."""
    metric = row.metrics[family.metric]
    text = f"{row.name}, {row.status}: {value_text(metric, family)} {family.unit}"
    if row.gain is not None and production is not None:
        words = {
            Verdict.BETTER: "better than production beyond noise",
            Verdict.WORSE: "worse than production beyond noise",
            Verdict.SAME: "not distinguishable from production",
        }[row.gain.verdict]
        text += f", {words}: {difference(row.gain)}. Production {minus(f'{production * family.factor:.4g}')}"
    text += "."
    if row.floor is not None and belongs(row, family):
        text += f" Floor {minus(f'{row.floor * family.factor:g}')}."
    return text


def strip(subject: Subject, family: Family) -> str:
    """Return the row's thumbnails: samples of generative models, costliest mistakes of classifiers."""
    return subject.sprite("samples" if family is GENERATIVE else "mistakes")


def strip_alt(subject: Subject, family: Family) -> str:
    """Return the thumbnails in words."""
    if family is GENERATIVE:
        return f"samples of {subject.row.name}, none picked"
    read = [f"{label} read as {guess}" for label, guess, _ in subject.facts.get("mistaken", ())][:4]
    return f"costliest mistakes: {', '.join(read)}"


def best(family: Family, subjects: Sequence[Subject]) -> dict[str, Any] | None:
    """Return the family's best model, for the key figures; None if nothing was measured."""
    subject = next((s for s in subjects if math.isfinite(s.row.metrics[family.metric].value)), None)
    if subject is None:
        return None
    row = subject.row
    value, _, half = value_text(row.metrics[family.metric], family).partition(" ")
    return {
        "title": "Best generative model" if family is GENERATIVE else "Best classifier",
        "name": row.name,
        "status": row.status,
        "value": value,
        "half": f"{half} {family.unit}",
        "gain": f"{difference(row.gain)} against production" if same(row, family) and row.gain else "",
        "strip": strip(subject, family),
        "alt": strip_alt(subject, family),
        "caption": "samples, none picked" if family is GENERATIVE else "its costliest mistakes",
    }


def best_of_both(ranked: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return the best model that both generates and classifies, unless it is the best of its family."""
    both = [s for s in ranked if s.row.trained.family == "both" and GENERATIVE.metric in s.row.metrics]
    found = best(GENERATIVE, both)
    if found is None or ranked[0] is both[0]:
        return []
    return [{**found, "title": "Both at once, with few labels"}]


def table(family: Family, subjects: Sequence[Subject], failed: Sequence[Row]) -> dict[str, Any]:
    """Return the family's table: headline metric and gain first, then its other metrics, cost last."""
    columns = [c for c in family.columns if any(c[0] in s.row.metrics for s in subjects)]
    gains = any(same(s.row, family) for s in subjects)
    heads = [(family.word, family.unit)]
    heads += [("against production", f"{family.gain_unit}, paired")] * gains
    heads += [(title, unit) for _, title, unit in columns]
    heads += [("training", "wall time"), ("steps", ""), ("parameters", "learned"), ("seed", "")]
    rows = []
    for subject in subjects:
        row, training = subject.row, subject.row.trained
        cells = [cell(row.metrics[family.metric].value, value_text(row.metrics[family.metric], family))]
        if gains:
            gain = row.gain if same(row, family) else None
            text = difference(gain).replace(f" {family.gain_unit}", "") if gain else ""
            cells.append(cell(gain.value if gain else None, text))
        for name, _, _ in columns:
            metric = row.metrics.get(name)
            cells.append(
                cell(metric.value if metric else None, minus(display.interval(metric)) if metric else "")
            )
        cells.append(cell(training.train_seconds, display.seconds(training.train_seconds)))
        cells.append(cell(training.steps, thousands(training.steps)))
        cells.append(cell(training.parameters, thousands(training.parameters)))
        cells.append(cell(training.seed, str(training.seed)))
        rows.append({"name": row.name, "status": row.status, "cells": cells})
    empty = [cell(None, "")] * len(heads)
    rows += [{"name": row.name, "status": row.status, "cells": empty} for row in failed]
    return {"heads": heads, "rows": rows}


def cell(value: float | None, text: str) -> tuple[str, str]:
    """Return a cell: what it is sorted by, empty if it has no number, and its text."""
    return ("" if value is None or math.isnan(value) else repr(value), text or "\N{EN DASH}")


def cost(family: Family, subjects: Sequence[Subject]) -> dict[str, Any] | None:
    """Return the headline metric against training time; None for fewer than three models."""
    points = [
        (s.row.trained.train_seconds, s.row.metrics[family.metric].value, s.row.name)
        for s in subjects
        if math.isfinite(s.row.metrics[family.metric].value) and s.row.trained.train_seconds > 0
    ]
    if len(points) < 3:
        return None
    scale, ticks = score_scale(family, subjects)
    times = [seconds for seconds, _, _ in points]
    across = Scale(min(times) / 1.3, max(times) * 1.3, math.log)
    efficient = set(charts.front([(seconds, score) for seconds, score, _ in points]))
    order = sorted(range(len(points)), key=lambda i: (i not in efficient, -points[i][1]))
    marks = [(across(points[i][0]), 100 - scale.clipped(points[i][1]), points[i][2]) for i in order]
    labels = charts.placed(marks, 1.55, 4.2)
    shown = []
    for i, (x, y, name), label in zip(order, marks, labels, strict=True):
        seconds, score, _ = points[i]
        on = i in efficient
        words = "on the front: nothing quicker is better" if on else "off the front"
        value = minus(f"{score * family.factor:.4g}")
        text = f"{name}: {value} {family.unit} after {display.seconds(seconds)}, {words}."
        shown.append({"x": x, "y": y, "name": name, "front": on, "side": label.side, "tip": text})
    steps = sorted((across(points[i][0]), 100 - scale.clipped(points[i][1])) for i in efficient)
    line: list[tuple[float, float]] = []
    for x, y in steps:
        line += [(x, line[-1][1]), (x, y)] if line else [(x, y)]
    return {
        "points": shown,
        "line": charts.path([*line, (100.0, line[-1][1])]),
        "x_ticks": charts.log_ticks(across),
        "y_ticks": [Tick(100 - tick.at, tick.text) for tick in ticks],
    }
