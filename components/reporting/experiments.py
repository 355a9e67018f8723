"""Say and arrange how the experiments of a run compare: sentences, a matrix of differences, and plots."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from components.evaluation import comparison
from components.evaluation.comparison import Pair, Sample, Summary
from components.evaluation.scores import Scores
from components.reporting import charts, display
from components.reporting.charts import Scale, Tick
from components.reporting.curves import Points, loss_term, series
from components.reporting.panels import Subject
from components.reporting.words import (
    CLASSIFIER,
    FAMILIES,
    GENERATIVE,
    Family,
    joined,
    minus,
    scaled,
    thousands,
    value_text,
)
from schemas.records import Metric, Row

FILE = "comparison.json"
SCORES = "scores"
"""Folder of a report that holds the scores of each model, `<name>.parquet`."""
NO_BREAK = "\N{NO-BREAK SPACE}"
FRAMED = 0.25
"""Share of training after which values have to fit into the frame of the curves."""
MOST_COLOURS = 10
"""Colours of the page; with more experiments, some share one."""


class Group(NamedTuple):
    """Experiments that can be compared: with the same metric and, if it is a likelihood, the same protocol.

    summaries: the best first. pairs: in the same order. rows: of each experiment, by seed. left_out:
    experiment -> why it is not among them.
    """

    family: Family
    protocol: str
    summaries: Sequence[Summary]
    pairs: Sequence[Pair]
    rows: Mapping[str, Sequence[Row]]
    left_out: Mapping[str, str]


def worth_comparing(rows: Sequence[Row]) -> bool:
    """Return whether a run has named experiments or several seeds; plain variants are only ranked."""
    return any(row.name != row.variant for row in rows)


def groups(
    rows: Sequence[Row],
    scores: Mapping[str, Scores],
    wanted: Collection[frozenset[str]] | None = None,
) -> list[Group]:
    """Return the comparisons that the rows allow, generative models first.

    scores: by the name of the row; rows without any are left out. wanted: the pairs of experiments that are
    compared, None for all. A group has at least two experiments, or one with several seeds, or one that was
    left out.
    """
    found = []
    for family in FAMILIES:
        measured = [row for row in rows if row.training and family.metric in row.metrics]
        by_protocol: dict[str, list[Row]] = {}
        for row in measured:
            # A likelihood of other pixels is another quantity; an accuracy is the same one.
            by_protocol.setdefault(row.trained.protocol if family is GENERATIVE else "", []).append(row)
        for protocol, members in by_protocol.items():
            group = _group(family, protocol, members, scores, wanted)
            several = any(len(each.seeds) > 1 for each in group.summaries)
            if len(group.summaries) > 1 or several or group.left_out:
                found.append(group)
    return found


def _group(
    family: Family,
    protocol: str,
    rows: Sequence[Row],
    scores: Mapping[str, Scores],
    wanted: Collection[frozenset[str]] | None,
) -> Group:
    by_experiment: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.trained.seed):
        by_experiment.setdefault(row.experiment, []).append(row)
    first = next((scores[row.name] for row in rows if row.name in scores), None)
    samples, left_out = [], {}
    for name, members in by_experiment.items():
        mine = [scores.get(row.name) for row in members]
        why = _unfit(family, mine, first)
        if why:
            left_out[name] = why
        else:
            values = np.stack([each.values[family.metric] for each in mine if each]).astype(np.float64)
            samples.append(Sample(name, tuple(row.trained.seed for row in members), values))
    summaries = sorted(map(comparison.summary, samples), key=lambda each: -each.mean)
    pairs = comparison.compare(samples, binary=family is CLASSIFIER, wanted=wanted)
    return Group(family, protocol, summaries, pairs, by_experiment, left_out)


def _unfit(family: Family, scores: Sequence[Scores | None], first: Scores | None) -> str:
    """Return why the models of an experiment cannot be compared, empty if they can."""
    for each in scores:
        if each is None or family.metric not in each.values:
            return "its scores per image were not kept"
        if first is None or not np.array_equal(each.images, first.images):
            return "it was evaluated on other test images"
        if not np.isfinite(each.values[family.metric]).all():
            return f"its {family.metric} is not a number on some test image"
    return ""


def amount(pair: Pair, family: Family) -> str:
    """Return the difference of a pair with half its interval: 1.9 ± 0.3 nats."""
    half = (pair.upper - pair.lower) / 2
    metric = Metric(pair.difference, pair.difference - half, pair.difference + half, family.gain_unit)
    return f"{_spaced(display.interval(scaled(metric, family.factor)))}{NO_BREAK}{family.gain_unit}"


def _spaced(text: str) -> str:
    return minus(text.replace(" ±", f"{NO_BREAK}±{NO_BREAK}"))


def sentence(pair: Pair, group: Group) -> str:
    """Return what a pair shows, as a plain sentence."""
    seeds = {each.name: len(each.seeds) for each in group.summaries}
    first, second, size = pair.first, pair.second, amount(pair, group.family)
    if not pair.judged:
        single = [name for name in (first, second) if seeds[name] == 1]
        has = f"{joined(single)} {'has' if len(single) == 1 else 'have'} one seed"
        ahead = (
            f"on these test images {first} is ahead of {second} by {size}"
            if pair.lower > 0
            else f"on these test images {first} and {second} cannot be told apart ({size})"
        )
        return (
            f"{has}: {ahead}, an interval that covers test images only, so no claim about the "
            "configuration follows."
        )
    if pair.differs:
        return f"{first} is better than {second} by {size}."
    numbers = sorted({seeds[first], seeds[second]})
    shown = " and ".join(map(str, numbers))
    return f"{first} and {second} cannot be told apart with {shown} seeds: they differ by {size}."


def to_json(found: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the comparisons as values of JSON; differences, first minus second, are in the metric's unit."""
    return [
        {
            "metric": group.family.metric,
            "protocol": group.protocol or None,
            "experiments": [
                {**each._asdict(), "deviation": None if math.isnan(each.deviation) else each.deviation}
                for each in group.summaries
            ],
            "pairs": [{**pair._asdict(), "says": sentence(pair, group)} for pair in _judged_first(group)],
            "left_out": dict(group.left_out),
        }
        for group in found
    ]


def text(found: Sequence[Group]) -> str:
    """Return the comparisons as lines for a terminal."""
    parts = []
    for group in found:
        protocol = f", protocol {group.protocol}" if group.protocol else ""
        lines = [f"{group.family.word} in {group.family.unit}{protocol}"]
        width = max((len(each.name) for each in group.summaries), default=0)
        for each in group.summaries:
            count = len(each.seeds)
            spread = "one seed" if count == 1 else f"sd {_deviation(each, group.family)} over {count} seeds"
            lines.append(f"  {each.name:<{width}}  {mean_text(each, group.family)} over images, {spread}")
        lines += [f"- {sentence(pair, group)}" for pair in _judged_first(group)]
        lines += [f"- {name} is left out: {why}" for name, why in group.left_out.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _judged_first(group: Group) -> list[Pair]:
    """Return the pairs with those last that allow no claim."""
    return sorted(group.pairs, key=lambda pair: not pair.judged)


def mean_text(each: Summary, family: Family) -> str:
    """Return the mean of an experiment with half its interval over test images."""
    return value_text(Metric(each.mean, each.lower, each.upper, family.unit), family)


def _deviation(each: Summary, family: Family) -> str:
    """Return the standard deviation over seeds with two digits that mean something; empty for one seed."""
    if math.isnan(each.deviation):
        return ""
    return f"{each.deviation * family.factor:.2g}"


def panel(group: Group, subjects: Sequence[Subject], place: int) -> dict[str, Any]:
    """Return what the page shows of a group."""
    colours = {each.name: index % MOST_COLOURS for index, each in enumerate(group.summaries)}
    return {
        "id": f"x{place}",
        "family": group.family,
        "protocol": group.protocol,
        "rows": dots(group) if group.summaries else [],
        "ticks": _dot_scale(group)[1] if group.summaries else [],
        "matrix": matrix(group),
        "sentences": [(mark(pair), sentence(pair, group)) for pair in _judged_first(group)],
        "left_out": dict(group.left_out),
        "cost": cost(group, colours),
        "curves": curves(group, subjects, colours),
        "colours": colours,
        "judged": sum(pair.judged for pair in group.pairs),
    }


def mark(pair: Pair) -> str:
    """Return the kind of a pair: better, same, or alone where an experiment has one seed."""
    if not pair.judged:
        return "alone"
    return "better" if pair.differs else "same"


def _dot_scale(group: Group) -> tuple[Scale, list[Tick]]:
    values = [value for each in group.summaries for value in (*each.by_seed, each.lower, each.upper)]
    low, high = charts.padded(min(values), max(values))
    scale = Scale(low, high)
    factor = group.family.factor
    ticks = charts.linear_ticks(Scale(low * factor, high * factor), 5)
    return scale, ticks


def dots(group: Group) -> list[dict[str, Any]]:
    """Return a row per experiment: a dot per seed, the mean, and the interval over test images."""
    scale, _ = _dot_scale(group)
    found = []
    for each in group.summaries:
        count = len(each.seeds)
        seeds = ", ".join(
            f"seed {seed}: {minus(f'{value * group.family.factor:.5g}')}"
            for seed, value in zip(each.seeds, each.by_seed, strict=True)
        )
        found.append(
            {
                "name": each.name,
                "link": group.rows[each.name][0].name,
                "seeds": [scale(value) for value in each.by_seed],
                "mean": scale(each.mean),
                "ends": (scale(each.lower), scale(each.upper)),
                "text": mean_text(each, group.family),
                "deviation": _deviation(each, group.family) or "one seed",
                "count": count,
                "tip": f"{each.name}: {seeds}.",
            }
        )
    return found


def matrix(group: Group) -> dict[str, Any]:
    """Return the differences of all pairs, row minus column."""
    names = [each.name for each in group.summaries]
    known = {(pair.first, pair.second): pair for pair in group.pairs}
    rows = []
    for row in names:
        cells: list[dict[str, str] | None] = []
        for column in names:
            pair = known.get((row, column)) or known.get((column, row))
            if pair is None:
                cells.append(None)
                continue
            sign = 1 if pair.first == row else -1
            half = (pair.upper - pair.lower) / 2
            value = sign * pair.difference
            difference = scaled(Metric(value, value - half, value + half, ""), group.family.factor)
            kind = mark(pair)
            kind = "worse" if kind == "better" and sign < 0 else kind
            cells.append(
                {
                    "text": _spaced(display.short_gain(difference)),
                    "kind": kind,
                    "words": sentence(pair, group),
                }
            )
        rows.append({"name": row, "cells": cells})
    return {"names": names, "rows": rows}


def cost(group: Group, colours: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the metric against training time, a dot per seed and the mean of each experiment."""
    times = {
        name: [row.trained.train_seconds for row in rows]
        for name, rows in group.rows.items()
        if name in colours
    }
    every = [seconds for mine in times.values() for seconds in mine]
    if len(colours) < 2 or min(every, default=0.0) <= 0:
        return None
    scale, ticks = _dot_scale(group)
    across = Scale(min(every) / 1.3, max(every) * 1.3, math.log)
    means = [(each.name, float(np.mean(times[each.name])), each.mean) for each in group.summaries]
    efficient = set(charts.front([(seconds, score) for _, seconds, score in means]))
    places = [(across(seconds), 100 - scale(score), name) for name, seconds, score in means]
    labels = charts.placed(places, 1.55, 4.2)
    points = [
        {
            "x": x, "y": y, "name": name, "colour": colours[name], "front": index in efficient,
            "side": label.side, "link": group.rows[name][0].name,
            "tip": f"{name}: {minus(f'{score * group.family.factor:.5g}')} {group.family.unit} after "
            f"{display.seconds(seconds)} on average, "
            + ("on the front: nothing quicker is better." if index in efficient else "off the front."),
        }
        for index, ((x, y, _), label, (name, seconds, score)) in enumerate(
            zip(places, labels, means, strict=True)
        )
    ]  # fmt: skip
    seeds = [
        (across(seconds), 100 - scale(value), colours[each.name])
        for each in group.summaries
        for seconds, value in zip(times[each.name], each.by_seed, strict=True)
    ]
    line: list[tuple[float, float]] = []
    for x, y in sorted((places[index][0], places[index][1]) for index in efficient):
        line += [(x, line[-1][1]), (x, y)] if line else [(x, y)]
    return {
        "points": points,
        "seeds": seeds,
        "line": charts.path([*line, (100.0, line[-1][1])]),
        "x_ticks": charts.log_ticks(across),
        "y_ticks": [Tick(100 - tick.at, tick.text) for tick in ticks],
    }


def curves(group: Group, subjects: Sequence[Subject], colours: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the loss on held-out images over training, all seeds of all experiments in one frame."""
    lines: list[tuple[str, Points]] = []
    for subject in subjects:
        if subject.row.experiment in colours and subject.row in group.rows[subject.row.experiment]:
            term = loss_term(subject.record)
            points = series(subject.record, "held_out", term) or series(subject.record, "curve", term)
            if term and points:
                lines.append((subject.row.experiment, points))
    if not lines:
        return None
    steps = max(points[-1][0] for _, points in lines)
    values = [value for _, points in lines for step, value in points if step >= FRAMED * points[-1][0]]
    scale = Scale(*charts.padded(min(values), max(values)))
    return {
        "lines": [
            {
                "d": charts.path([(100 * step / steps, 100 - scale(value)) for step, value in points]),
                "colour": colours[name],
            }
            for name, points in lines
        ],
        "ticks": [Tick(100 - tick.at, tick.text) for tick in charts.linear_ticks(scale, 5)],
        "steps": thousands(steps),
    }
