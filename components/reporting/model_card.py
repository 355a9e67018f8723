"""The model card: what a pushed model is, what it was trained on, how good it is, and where it ends."""

import html
import json
from collections.abc import Mapping
from typing import Any

from components.reporting.display import interval

CARD = "model_card.json"
TEXT = "model_card.md"
"""Files beside a pushed SavedModel: the card as data, and for people."""

MEASURED = {
    "generative": "how well the model explains images (bounds on log p(x)) and rebuilds them",
    "classifier": "how often it finds an image's label, and at what cost in nats",
    "both": "how well the model explains images, and how often it finds their labels",
}


def card(
    row: Mapping[str, Any],
    slices: Mapping[str, Mapping[str, Any]],
    data: list[dict[str, Any]],
    source: str,
) -> dict[str, Any]:
    """The card of one variant.

    row: of the leaderboard. slices: label -> metrics. data: the splits' statistics. source: the folder of the
    model artifact.
    """
    keep = ("protocol", "profile", "seed", "steps", "batch_size", "train_seconds", "config", "recipe")
    return {
        "model": {
            "variant": row["variant"],
            "summary": row.get("summary", ""),
            "family": row["family"],
            "parameters": row["parameters"],
            "version": row["pushed_version"],
            "source": source,
        },
        "data": {
            "dataset": row["dataset"],
            "splits": {split["split"]: split["examples"] for split in data},
        },
        "training": {name: row[name] for name in keep if name in row},
        "blessed": row["blessed"],
        "metrics": row["metrics"],
        "metrics_by_label": slices,
        "limits": limits(row),
    }


def limits(row: Mapping[str, Any]) -> list[str]:
    """What the figures do not say, as sentences."""
    found = [
        f"Measured on the test split of {row['dataset']} alone; nothing is known of other images.",
        f"Images are prepared by the protocol {row['protocol']!r}; figures of other protocols are not "
        "comparable.",
        "Intervals are over test images (95 %, jackknife); another seed can differ by more than they say.",
        f"One training run, seed {row['seed']}, profile {row['profile']!r}"
        + ("." if row["profile"] == "full" else ", which is shorter than the source's own budget."),
    ]
    if row["family"] in ("generative", "both"):
        found += [
            f"elbo and iwelbo ({row['importance_samples']} importance samples) are lower bounds on log p(x); "
            "`latentline evaluate` gives a tighter one.",
            "A likelihood is no detector of unusual images, and samples may repeat what the data holds.",
        ]
    if row["family"] in ("classifier", "both"):
        found.append("Probabilities are not calibrated; an image of no class gets one all the same.")
    return found


def markdown(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    model, training = card["model"], card["training"]
    splits = ", ".join(f"{count:,} {split}" for split, count in card["data"]["splits"].items())
    lines = [
        f"# {cell(model['variant'])}, version {model['version']}",
        "",
        *([cell(model["summary"]), ""] if model["summary"] else []),
        f"- **What**: {model['family']} model of {model['parameters']:,} parameters, a SavedModel.",
        f"- **Data**: {cell(card['data']['dataset'])} ({splits} images).",
        f"- **Protocol**: {training['protocol']}.",
        f"- **Training**: {training['steps']:,} steps of {training['batch_size']} images, profile "
        f"{training['profile']}, seed {training['seed']}, {training['train_seconds']:.1f} s.",
        *(
            f"- **Changed {name}**: `{cell(json.dumps(training[name], sort_keys=True))}`."
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
    """A table with a row a label and a column a metric, values with half their interval."""
    if not slices:
        return []
    names = list(next(iter(slices.values())))
    return [
        "## By label",
        "",
        f"| label | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(
            f"| {label} | {' | '.join(interval(metrics[name]) for name in names)} |"
            for label, metrics in slices.items()
        ),
        "",
    ]


def cell(text: str) -> str:
    """Text that stays text within Markdown, also within a table."""
    return html.escape(str(text), quote=False).replace("|", "\\|").replace("\n", " ")
