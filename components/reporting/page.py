"""Arrange what a run found for the report page: what is said, what is drawn, and where."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from components.ingest import sources
from components.reporting import charts, display, experiments
from components.reporting.charts import Scale, Tick
from components.reporting.curves import curve_panel, term_panel
from components.reporting.exhibit import SHARED
from components.reporting.panels import Subject, best_of_both, family_panel, strip_alt
from components.reporting.words import (
    CLASSIFIER,
    FAMILIES,
    Family,
    difference,
    finite,
    headline,
    lede,
    lists,
    minus,
    moved,
    scaled,
    thousands,
    value_text,
)
from schemas.records import Row, Status, Verdict

MOST_PLANES = 8
"""Latent planes on a page, best models first: each is some 100 kB."""
HARD_IMAGES = 10
FILTER_FROM = 12
"""Variants from which on the page has a box to filter them."""
NAMES = {"eval": "test"}
"""What the page calls a split, where its name is another."""


class About(NamedTuple):
    """What is known of the run as a whole.

    made: when. splits: of the data: name, examples, labels. anomalies: found, empty for none. drift: found;
    None if nothing was compared. families: of variants that failed, as far as it is known. source: where the
    data was read from.
    """

    made: str
    splits: Sequence[Mapping[str, Any]]
    anomalies: str
    drift: Sequence[str] | None
    families: Mapping[str, str]
    source: str = ""


def view(
    subjects: Sequence[Subject],
    failed: Sequence[Row],
    about: About,
    groups: Sequence[experiments.Group] = (),
) -> dict[str, Any]:
    """Return everything that the template shows.

    subjects: in any order; failed: rows of models that failed. There must be at least one of either. groups:
    comparisons of experiments.
    """
    rows = [subject.row for subject in subjects]
    panels = []
    for family in FAMILIES:
        panel = family_panel(family, subjects, failed, about.families)
        if panel is not None:
            panels.append({**panel, "curves": curve_panel(family, ranking(subjects))})
    ranked = ranking(subjects)
    first = next((row.training for row in rows if row.training), None)
    counts = {split["split"]: split["examples"] for split in about.splits}
    title = headline(rows, failed)
    return {
        "title": title,
        "lede": lede(rows, failed),
        "warnings": [(row.name, sentence) for row in rows for sentence in row.warnings],
        "dataset": sources.title(first.dataset) if first else "",
        "source": about.source,
        "counts": [f"{thousands(count)} {NAMES.get(name, name)}" for name, count in counts.items()],
        "first": first,
        "span": next((row.span for row in rows if row.span), None),
        "made": about.made,
        "best": [each for panel in panels if (each := panel["best"])] + best_of_both(ranked),
        "lists": lists(rows, failed),
        "protocols": ", ".join(dict.fromkeys(row.trained.protocol for row in rows)),
        "seeds": sorted({row.trained.seed for row in rows}),
        "comparisons": [experiments.panel(group, subjects, i) for i, group in enumerate(groups)],
        "panels": panels,
        "walls": [wall_row(subject) for subject in ranked if subject.sprite("wall")],
        "originals": originals(subjects),
        "hard": hard(ranked),
        "planes": [plane(s) for s in ranked if s.sprite("plane")][:MOST_PLANES],
        "plane_data": {s.row.name: plane(s)["data"] for s in ranked if s.sprite("plane")},
        "film_steps": max((len(s.facts.get("steps", ())) for s in subjects), default=0),
        "sections": [section(subject) for subject in ranked],
        "failed": [failure(row) for row in failed],
        "filter": len(rows) + len(failed) >= FILTER_FROM,
        "splits": about.splits,
        "anomalies": about.anomalies,
        "drift": about.drift,
        "curves": {box["id"]: box["data"] for panel in panels for box in panel["curves"]},
    }


def ranking(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects by family, the best first; models of both families are with the generative ones."""
    found: list[Subject] = []
    for family in FAMILIES:
        mine = [s for s in subjects if family.metric in s.row.metrics and s not in found]
        found += sorted(mine, key=lambda s: -finite(s.row.metrics[family.metric].value))
    return [*found, *(s for s in subjects if s not in found)]


def originals(subjects: Sequence[Subject]) -> dict[str, Any] | None:
    """Return the test images that all variants show; None if no gallery has them."""
    subject = next((s for s in subjects if "digits" in s.facts), None)
    if subject is None:
        return None
    return {
        "digits": subject.facts["digits"],
        "points": subject.facts["points"],
        "strip": subject.sprites.get(SHARED[0], ""),
        "sprite": subject.sprites.get(SHARED[1], ""),
    }


def wall_row(subject: Subject) -> dict[str, Any]:
    """Return a row of the wall of digits."""
    return {
        "name": subject.row.name,
        "status": subject.row.status,
        "now": subject.sprite("wall"),
        "production": subject.sprite("production"),
        "film": subject.sprite("film"),
        "steps": list(subject.facts.get("steps", ())),
        "columns": subject.facts.get("film_columns", 10),
    }


def hard(subjects: Sequence[Subject]) -> dict[str, Any] | None:
    """Return what each classifier reads on the images that most of them misread; None if none is misread."""
    readers = [s for s in subjects if "read" in s.facts]
    if not readers:
        return None
    labels = readers[0].facts["points"]
    wrong = [sum(s.facts["read"][i][0] != label for s in readers) for i, label in enumerate(labels)]
    chosen = sorted((i for i, count in enumerate(wrong) if count), key=lambda i: -wrong[i])[:HARD_IMAGES]
    if not chosen:
        return None
    rows = -(-len(labels) // 20)
    return {
        "images": [
            {
                "label": labels[i],
                "x": round(100 * (i % 20) / 19, 3),
                "y": round(100 * (i // 20) / max(rows - 1, 1), 3),
            }
            for i in chosen
        ],
        "rows": rows,
        "readers": [
            {
                "name": s.row.name,
                "cells": [
                    (
                        s.facts["read"][i][0],
                        f"{100 * s.facts['read'][i][1]:.0f} %",
                        s.facts["read"][i][0] == labels[i],
                    )
                    for i in chosen
                ],
            }
            for s in readers
        ],
    }


def plane(subject: Subject) -> dict[str, Any]:
    """Return a latent plane: its sprites, and where test images lie in it."""
    facts = subject.facts
    if facts["quantiles"]:
        values = (0.1, 0.3, 0.5, 0.7, 0.9)
        ticks = [Tick(round(100 * (value - 0.02) / 0.96, 1), f"{value:g}") for value in values]
        words = ("latent unit 1, prior quantile", "latent unit 2, prior quantile")
    else:
        ticks = [
            Tick(round(100 * (value / 2.2 + 1) / 2, 1), minus(f"{value:+d}" if value else "0"))
            for value in (-2, -1, 0, 1, 2)
        ]
        words = ("principal component 1, standard deviations", "principal component 2, standard deviations")
    places = facts["positions"]
    outside = sum(not (0 <= x <= 1 and 0 <= y <= 1) for x, y in places)
    by_class: dict[int, list[tuple[float, float]]] = {}
    for (x, y), label in zip(places, facts["points"], strict=True):
        if 0 <= x <= 1 and 0 <= y <= 1:
            by_class.setdefault(label, []).append((round(1000 * x), round(1000 * (1 - y))))
    return {
        "name": subject.row.name,
        "sprite": subject.sprite("plane"),
        "rebuilt": subject.sprite("rebuilt"),
        "dots": {label: "".join(f"M{x} {y}h0" for x, y in dots) for label, dots in sorted(by_class.items())},
        "centres": {
            label: tuple(charts.quantile(sorted(axis), 0.5) for axis in zip(*dots, strict=True))
            for label, dots in sorted(by_class.items())
        },
        "data": {
            "x": words[0],
            "y": words[1],
            "ticks": [[f"{tick.at}%", tick.text] for tick in ticks],
            "two": facts["quantiles"],
            "dims": facts["dimensions"],
            "outside": outside,
            "at": places,
        },
    }


def section(subject: Subject) -> dict[str, Any]:
    """Return a variant's own section."""
    row, training = subject.row, subject.row.trained
    family = next((f for f in FAMILIES if f.metric in row.metrics), None)
    files = [(picture["title"], picture["file"]) for picture in subject.gallery.get("pictures", ())]
    return {
        "name": row.name,
        "status": row.status,
        "summary": training.summary,
        "value": f"{value_text(row.metrics[family.metric], family)} {family.unit}"
        if family
        else "not measured",
        "verdict": section_verdict(row),
        "figures": figures_of(row),
        "labels": [chart for f in FAMILIES if (chart := label_chart(f, subject)) is not None],
        "terms": term_panel(subject),
        "strips": [
            (title, caption, image)
            for title, caption, image in (
                ("Samples, none picked", f"samples of {row.name}", subject.sprite("samples")),
                ("Costliest mistakes", strip_alt(subject, CLASSIFIER), subject.sprite("mistakes")),
            )
            if image
        ],
        "confusion": confusion(subject.facts.get("confusion")),
        "calibration": subject.facts.get("calibration"),
        "calibration_error": subject.facts.get("calibration_error"),
        "files": files,
        "left_out": dict(subject.gallery.get("left_out", {})),
        "config": dict(training.resolved.get("config", training.config)),
        "recipe": dict(training.resolved.get("recipe", training.recipe)),
        "warm_start": training.warm_start,
    }


def section_verdict(row: Row) -> str:
    """Return the verdict on a model as a heading."""
    if row.status is Status.REFUSED:
        if row.gain is not None and row.gain.verdict is Verdict.WORSE:
            return f"Refused: worse than production, {difference(row.gain)}"
        return f"Refused: {row.why_not or 'the evaluation gave no reason'}"
    words = (
        f"Pushed as version {row.pushed_version}" if row.pushed_version else "Accepted, without a new version"
    )
    if row.gain is not None:
        return f"{words}: {difference(row.gain)} against production"
    return f"{words}: there was no model in production to compare with"


def figures_of(row: Row) -> list[tuple[str, str]]:
    """Return the figures of a section: metrics with their units, and what the training was."""
    training = row.trained
    found = [
        (name.replace("_", " "), minus(f"{display.interval(metric)} {metric.unit}"))
        for name, metric in row.metrics.items()
    ]
    found.append(
        (
            "training",
            f"{thousands(training.steps)} steps of {training.batch_size}, "
            f"{display.seconds(training.train_seconds)}",
        )
    )
    found.append(("parameters", thousands(training.parameters)))
    found.append(("protocol", training.protocol))
    found.append(("profile, seed", f"{training.profile}, {training.seed}"))
    if row.change is not None and row.gain is None:
        found.append(("since the last run", moved(row.change)))
    elif row.gain is None:
        found.append(("since the last run", row.not_compared or "nothing to compare with"))
    return found


def label_chart(family: Family, subject: Subject) -> dict[str, Any] | None:
    """Return the headline metric by label with its interval, and production's; None without one."""
    found = [
        (label, metrics[family.metric])
        for label, metrics in subject.by_label.items()
        if family.metric in metrics
    ]
    found = [(label, metric) for label, metric in found if math.isfinite(metric.value)]
    if len(found) < 2:
        return None
    known = subject.production_by_label
    before = {
        label: known[label][family.metric].value
        for label, _ in found
        if family.metric in known.get(label, {})
    }
    ends = [end for _, m in found for end in (m.lower, m.upper) if math.isfinite(end)] + list(before.values())
    low, high = charts.padded(min(ends) * family.factor, max(ends) * family.factor)
    scale = Scale(low, high)
    width = 100 / len(found)
    marks = []
    for place, (label, metric) in enumerate(found):
        shown = scaled(metric, family.factor)
        words = f"digit {label}: {minus(display.interval(shown))} {family.unit}"
        if label in before:
            words += f", production {minus(f'{before[label] * family.factor:.4g}')}"
        marks.append(
            {
                "label": label,
                "x": round((place + 0.5) * width, 2),
                "y": 100 - scale.clipped(shown.value),
                "ends": [100 - scale.clipped(shown.lower), 100 - scale.clipped(shown.upper)],
                "production": 100 - scale.clipped(before[label] * family.factor) if label in before else None,
                "words": words,
            }
        )
    ticks = [Tick(100 - tick.at, tick.text) for tick in charts.linear_ticks(scale, 4)]
    return {"title": f"{family.word}, {family.unit} by label", "marks": marks, "ticks": ticks}


def confusion(counts: Sequence[Sequence[int]] | None) -> list[list[tuple[int, str]]] | None:
    """Return a confusion matrix with the style of each cell: dg on the diagonal, q1 to q3 by frequency."""
    if counts is None:
        return None
    rows = []
    for true, line in enumerate(counts):
        total = max(sum(line), 1)
        cells = []
        for guess, count in enumerate(line):
            share = count / total
            kind = (
                "dg"
                if guess == true
                else ""
                if not count
                else "q1"
                if share < 0.02
                else "q2"
                if share < 0.08
                else "q3"
            )
            cells.append((count, kind))
        rows.append(cells)
    return rows


def failure(row: Row) -> dict[str, str]:
    """Return the section of a variant that failed."""
    return {"name": row.name, "why": row.why_not or "the log of the run says why"}
