"""Arrange the curves of training as small charts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from components.reporting import charts
from components.reporting.charts import Scale, Tick
from components.reporting.panels import Subject, belongs
from components.reporting.words import CLASSIFIER, Family, minus, thousands

CURVE_POINTS = 48
"""Points of a curve on the page."""
EARLY = 0.05
"""Share of training whose values need not fit into a chart of curves."""
LOSS = "loss"
Points = list[tuple[float, float]]


def series(record: Mapping[str, Any], key: str, term: str) -> Points:
    """Return the finite values of a term as (step, value), thinned to CURVE_POINTS."""
    found = [
        (float(point["step"]), float(point["values"][term]))
        for point in record.get(key) or ()
        if term in point["values"] and math.isfinite(point["values"][term])
    ]
    if len(found) <= CURVE_POINTS:
        return found
    kept = sorted({round(i * (len(found) - 1) / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)})
    return [found[i] for i in kept]


def settled(points: Points) -> list[float]:
    """Return the values after the first steps."""
    last = points[-1][0]
    return [value for step, value in points if step > EARLY * last] or [points[-1][1]]


def curve_panel(family: Family, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return small charts of the loss, one per variant, all in the same frame."""
    known = []
    for subject in subjects:
        term = loss_term(subject.record)
        if term and family.metric in subject.row.metrics and belongs(subject.row, family):
            trained, held = (series(subject.record, key, term) for key in ("curve", "held_out"))
            if trained:
                known.append((subject, trained, held))
    if not known:
        return []
    lows = [min(settled(trained) + (settled(held) if held else [])) for _, trained, held in known]
    highs = [max(settled(trained)) for _, trained, _ in known]
    low = min(lows)
    high = min(max(highs), charts.quantile(sorted(highs), 0.75) * 1.5 if len(highs) > 2 else max(highs))
    logarithmic = family is CLASSIFIER and low > 0
    scale = (
        Scale(low / 1.15, max(high, low * 1.5) * 1.15, math.log)
        if logarithmic
        else Scale(*charts.padded(low, max(high, low + 1e-6)))
    )
    ticks = charts.log_ticks(scale) if logarithmic else charts.linear_ticks(scale, 4)
    return [
        box(f"c-{family.key}-{s.row.name}", s.row.name, trained, held, scale, ticks, "nats", logarithmic)
        for s, trained, held in known
    ]


def loss_term(record: Mapping[str, Any]) -> str:
    """Return the term that is the loss, or the first one; empty if nothing was recorded."""
    values = (record.get("curve") or [{"values": {}}])[0]["values"]
    return LOSS if LOSS in values else next(iter(values), "")


def term_panel(subject: Subject) -> list[dict[str, Any]]:
    """Return small charts of every term of one variant, each in a frame of its own."""
    first = (subject.record.get("curve") or [{"values": {}}])[0]["values"]
    found = []
    for term in first:
        trained, held = (series(subject.record, key, term) for key in ("curve", "held_out"))
        if not trained:
            continue
        values = settled(trained) + (settled(held) if held else [])
        scale = Scale(*charts.padded(min(values), max(values)))
        unit = "" if term.endswith("accuracy") else "nats"
        name = f"s-{subject.row.name}-{term}"
        ticks = charts.linear_ticks(scale, 4)
        found.append(box(name, term.replace("_", " "), trained, held, scale, ticks, unit, False))
    return found


def box(
    name: str,
    title: str,
    trained: Points,
    held: Points,
    scale: Scale,
    ticks: list[Tick],
    unit: str,
    log: bool,
) -> dict[str, Any]:
    """Return a chart of one curve: training faint, held-out images strong."""
    last_step = max(trained[-1][0], held[-1][0] if held else 0.0)

    def line(points: Points) -> str:
        inside = [(step, value) for step, value in points if not log or value > 0]
        return charts.path([(100 * step / last_step, 100 - scale(value)) for step, value in inside])

    last = (held or trained)[-1][1]
    start = trained[0][1]
    lines = [["training", rounded(trained)], *([["held out", rounded(held)]] if held else [])]
    return {
        "id": name,
        "title": title,
        "last": minus(f"{last:.4g}") + (f" {unit}" if unit else ""),
        "training": line(trained),
        "held": line(held) if held else "",
        "ticks": [Tick(100 - tick.at, tick.text) for tick in ticks],
        "over": minus(f"↑ {start:.0f}") if start > scale.high else "",
        "steps": thousands(last_step),
        "data": {"u": unit, "n": last_step, "lo": scale.low, "hi": scale.high, "log": log, "s": lines},
    }


def rounded(points: Points) -> list[list[float]]:
    """Return points with four significant digits, which is what a reader sees."""
    return [[step, float(f"{value:.4g}")] for step, value in points]
