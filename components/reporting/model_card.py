"""Write model cards: what a model is, what it was trained on, what it reaches, and where its limits are."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from components.ingest import sources
from components.reporting.display import interval
from schemas import CLASSES
from schemas.records import Metric, Row, Training

CARD = "model_card.json"
TEXT = "model_card.md"
OTHER_LINK = re.compile(r"\](?=\s*:|\s*\((?!\s*https?://))", re.IGNORECASE)
"""The bracket that makes a Markdown link to, or a definition of, anything but a web page."""
"""Files beside a pushed SavedModel: the card as JSON and as Markdown."""

MEASURED = {
    "generative": "how well the model explains images (bounds on log p(x)) and rebuilds them",
    "classifier": "how often it finds an image's label, and at what cost in nats",
    "both": "how well the model explains images, and how often it finds their labels",
}


class Data(NamedTuple):
    """The data that a model was trained and tested on.

    Attributes:
      dataset: its name, for programs; see components.ingest.sources.title.
      source: the file or folder that it was read from.
      splits: the statistics of each split.
      reading: how it was read, the fields of formats.Reading.
    """

    dataset: str
    source: str
    splits: Sequence[Mapping[str, Any]]
    reading: Mapping[str, Any]


def card(row: Row, slices: Mapping[str, Mapping[str, Any]], data: Data, source: str) -> dict[str, Any]:
    """Return the card of one model.

    row: of the leaderboard, of a model that did not fail. slices: label -> metrics. source: the folder of
    the model artifact.
    """
    keep = ("protocol", "profile", "seed", "steps", "batch_size", "train_seconds")
    training = row.trained
    return {
        "model": {
            "name": row.name,
            "experiment": row.experiment,
            "variant": row.variant,
            "summary": training.summary,
            "family": training.family,
            "parameters": training.parameters,
            "version": row.pushed_version,
            "source": source,
        },
        "data": {
            "dataset": data.dataset,
            "title": sources.title(data.dataset),
            "source": data.source,
            "reading": dict(data.reading),
            "classes": CLASSES,
            "splits": {split["split"]: split["examples"] for split in data.splits},
            **({"span": row.span} if row.span else {}),
        },
        "training": {
            **{name: getattr(training, name) for name in keep},
            **{name: training.resolved.get(name, getattr(training, name)) for name in ("config", "recipe")},
        },
        "blessed": row.blessed,
        "metrics": row.to_json()["metrics"],
        "metrics_by_label": slices,
        "limits": limits(training),
    }


def limits(training: Training) -> list[str]:
    """Return what the figures do not say, as sentences."""
    found = [
        f"Measured on the test split of {sources.title(training.dataset)} only; other images were not tried.",
        f"Images are prepared by the protocol {training.protocol!r}; figures of other protocols are not "
        "comparable.",
        "Intervals are over test images (95 %); another seed can differ by more than that.",
        f"One training run, seed {training.seed}, profile {training.profile!r}"
        + ("." if training.profile == "full" else ", which is shorter than the source's own budget."),
    ]
    if training.family in ("generative", "both"):
        found += [
            f"elbo and iwelbo ({training.importance_samples} importance samples) are lower bounds on "
            "log p(x); `latentline evaluate` gives a tighter one.",
            "A high likelihood does not mean that an image is typical; samples may repeat training images.",
        ]
    if training.family in ("classifier", "both"):
        found.append(
            "Probabilities are not calibrated; an image that shows no class is assigned one as well."
        )
    return found


def markdown(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    model, data, training = card["model"], card["data"], card["training"]
    splits = ", ".join(f"{count:,} {split}" for split, count in data["splits"].items())
    lines = [
        f"# {cell(model.get('name', model['variant']))}, version {model['version']}",
        "",
        *([cell(model["summary"]), ""] if model["summary"] else []),
        f"- **What**: {model['family']} model of {model['parameters']:,} parameters, a SavedModel.",
        f"- **Data**: {cell(data['title'])} ({splits} images; {data['classes']} classes), from "
        f"`{cell(data['source'])}`.",
        f"- **Protocol**: {training['protocol']}.",
        f"- **Training**: {training['steps']:,} steps of {training['batch_size']} images, profile "
        f"{training['profile']}, seed {training['seed']}, {training['train_seconds']:.1f} s.",
        *(
            f"- **{name.capitalize()}**: `{cell(json.dumps(training[name], sort_keys=True))}`."
            for name in ("config", "recipe")
            if training.get(name)
        ),
        f"- **Gate**: {'blessed' if card['blessed'] else 'not blessed'}.",
        f"- **Made from**: `{cell(model['source'])}`.",
        "",
        f"## Metrics: {MEASURED[model['family']]}",
        "",
        "| metric | value | 95 % interval | unit |",
        "|---|---:|---:|---|",
        *(
            f"| {name} | {m['value']:.4g} | {m['lower']:.4g} to {m['upper']:.4g} | {m['unit']} |"
            for name, m in card["metrics"].items()
        ),
        "",
        *by_label(card["metrics_by_label"]),
        "## Limits",
        "",
        *(f"- {cell(sentence)}" for sentence in card["limits"]),
    ]
    return "\n".join(lines) + "\n"


def by_label(slices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table with one row per label and one column per metric, values with half their interval."""
    if not slices:
        return []
    names = list(next(iter(slices.values())))
    return [
        "## By label",
        "",
        f"| label | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(
            f"| {label} | {' | '.join(interval(Metric(**metrics[name])) for name in names)} |"
            for label, metrics in slices.items()
        ),
        "",
    ]


def cell(text: str) -> str:
    """Escape text so that it stays text within Markdown, also within a table.

    Of links only those to http and https stay; any other could run code in a viewer (`javascript:`, `data:`).
    """
    line = " ".join(html.escape(str(text), quote=False).splitlines())
    return OTHER_LINK.sub("&#93;", line).replace("|", "\\|")
