"""Say what a run found: figures with their units, and the sentences of the verdict."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from components.reporting import display
from schemas.records import Change, Gain, Metric, Row, Status, Verdict

MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"
WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """Models that are ranked together.

    Attributes:
      key: for ids. title: a heading. metric: the headline metric; word: how the page calls it.
      factor: from the metric to its unit on the page. unit, gain_unit: of a value and of a difference.
      columns: metrics of the table, the important ones first.
    """

    key: str
    title: str
    metric: str
    word: str
    factor: float
    unit: str
    gain_unit: str
    note: str
    columns: tuple[tuple[str, str, str], ...]


GENERATIVE = Family(
    "elbo", "Generative models", "elbo", "ELBO", 1.0, "nats", "nats",
    "ELBO in nats per image, a lower bound on the log-likelihood. Further right is better.",
    (
        ("distortion", "distortion", "nats"), ("rate", "rate", "nats"), ("active_units", "active", "units"),
        ("codebook_perplexity", "perplexity", "codes"),
        ("reconstruction_mse", "reconstruction", "squared error"), ("iwelbo", "IW-ELBO", "nats"),
        ("bits_per_dimension", "bits", "per pixel"),
        ("rate_uniform", "uniform rate", "nats"),
    ),
)  # fmt: skip
CLASSIFIER = Family(
    "accuracy", "Classifiers and hypernetworks", "accuracy", "accuracy", 100.0, "%", "points",
    "Accuracy in per cent, on a logarithmic axis of the error. Further right is better.",
    (("cross_entropy", "cross-entropy", "nats"),),
)  # fmt: skip
FAMILIES = (GENERATIVE, CLASSIFIER)


def finite(value: float) -> float:
    """Return the value, or minus infinity for one that is not a number."""
    return -math.inf if math.isnan(value) else value


def in_words(count: int, capital: bool = False) -> str:
    """Return a count in words up to seventeen, then in digits."""
    text = WORDS[count] if count < len(WORDS) else str(count)
    return text.capitalize() if capital else text


def headline(rows: Sequence[Row], failed: Sequence[Row]) -> str:
    """Return the verdict on the run as one or two sentences."""
    total = len(rows) + len(failed)
    pushed = [row for row in rows if row.status is Status.PUSHED]
    kept = [row for row in rows if row.status is Status.BLESSED]
    refused = [row for row in rows if row.status is Status.REFUSED]
    if total == 1:
        row = [*rows, *failed][0]
        words = {
            Status.PUSHED: "goes to production",
            Status.BLESSED: "was accepted, and production stays as it is",
            Status.REFUSED: "was refused",
            Status.FAILED: "failed",
        }
        return f"{row.name} {words[row.status]}."
    if len(pushed) == total:
        return f"{'Both' if total == 2 else f'All {in_words(total)}'} models go to production."
    count = in_words(len(pushed), capital=True)
    first = (
        f"{count} of {in_words(total)} models {'goes' if len(pushed) == 1 else 'go'} to production."
        if pushed
        else "No model goes to production."
    )
    parts = []
    if kept:
        parts.append(f"{named(kept)} {was(kept)} accepted without a new version")
    if refused:
        parts.append(f"{named(refused)} {'is' if len(refused) == 1 else 'are'} refused")
    if failed:
        parts.append(f"{named(failed)} failed")
    text = joined(parts)
    if parts[0].split()[0] in WORDS:
        text = text[:1].upper() + text[1:]
    return f"{first} {text}."


def named(rows: Sequence[Row]) -> str:
    """Return the name of a single variant, or how many there are."""
    return rows[0].name if len(rows) == 1 else in_words(len(rows))


def was(rows: Sequence[Row]) -> str:
    """Return the verb for so many rows."""
    return "was" if len(rows) == 1 else "were"


def joined(parts: Sequence[str]) -> str:
    """Return parts as a list in English."""
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def lede(rows: Sequence[Row], failed: Sequence[Row]) -> str:
    """Return what stands behind the verdict: why models were refused, and what moved most."""
    sentences = []
    if failed:
        subject = failed[0].name if len(failed) == 1 else f"{in_words(len(failed), capital=True)} variants"
        sentences.append(
            f"{subject} failed, and nothing of {'it' if len(failed) == 1 else 'them'} was evaluated; "
            "the models in production stay."
        )
    worse = [
        row for row in rows if row.status is Status.REFUSED and row.gain and row.gain.verdict is Verdict.WORSE
    ]
    if worse:
        subject = worse[0].name if len(worse) == 1 else f"{in_words(len(worse), capital=True)} models"
        sentences.append(
            f"{subject} scored worse than production on the same test images, by more than noise explains."
        )
    floors = [row for row in rows if row.status is Status.REFUSED and row not in worse]
    if floors:
        sentences.append(
            f"{floors[0].name} was refused: {floors[0].why_not}."
            if len(floors) == 1
            else f"{in_words(len(floors), capital=True)} models were refused; their sections say why."
        )
    moved = [row for row in rows if row.gain and row.gain.verdict is not Verdict.SAME]
    gained = [row for row in moved if row.gain and row.gain.value > 0]
    if len(gained) > 1:
        most = max(gained, key=lambda row: row.gain.value / max(row.gain.half, 1e-12) if row.gain else 0.0)
        assert most.gain is not None
        sentences.append(f"Most gained: {most.name}, {difference(most.gain)}.")
    if not any(row.gain for row in rows) and rows:
        sentences.append("There was no model in production to compare with.")
    return " ".join(sentences)


def minus(text: str) -> str:
    """Return text with true minus signs in front of digits."""
    return text.replace("-", MINUS)


def thousands(count: float) -> str:
    """Return a count with thin spaces between its thousands."""
    return f"{count:,.0f}".replace(",", THIN)


def scaled(metric: Metric, factor: float) -> Metric:
    """Return a metric in another unit."""
    return Metric(metric.value * factor, metric.lower * factor, metric.upper * factor, metric.unit)


def family_of(metric: str) -> Family:
    """Return the family with this headline metric."""
    return next(family for family in FAMILIES if family.metric == metric)


def value_text(metric: Metric, family: Family) -> str:
    """Return a headline metric with half its interval, in the family's unit."""
    return minus(display.interval(scaled(metric, family.factor)))


def difference(gain: Gain) -> str:
    """Return a gain with its unit and interval: +0.94 nats (+0.69 to +1.19)."""
    family = family_of(gain.metric)
    found = scaled(gain, family.factor)
    text = display.gain(found)
    value, interval = text.split(" [")
    return minus(f"{value} {family.gain_unit} ({interval.rstrip(']').replace(', ', ' to ')})")


def moved(change: Change) -> str:
    """Return a change since an earlier run with its unit."""
    family = family_of(change.metric)
    text = display.short_gain(
        Metric(
            change.change * family.factor,
            (change.change - change.margin) * family.factor,
            (change.change + change.margin) * family.factor,
            family.unit,
        )
    )
    return minus(f"{text} {family.gain_unit}")


def verdict_of(row: Row) -> Verdict | None:
    """Return the one verdict of a row: on its gain over production, else on its change since a run."""
    if row.gain is not None:
        return row.gain.verdict
    return row.change.verdict if row.change else None


def moved_text(row: Row) -> str:
    """Return what the verdict of a row is on, as a difference; empty without a verdict."""
    if row.gain is not None:
        return difference(row.gain)
    return moved(row.change) if row.change else ""


def lists(rows: Sequence[Row], failed: Sequence[Row]) -> dict[str, Any]:
    """Return the lists beside the verdict: pushed, accepted, refused, failed, and what changed."""
    refused = []
    for row in (row for row in rows if row.status is Status.REFUSED):
        short = row.gain is not None and row.gain.verdict is Verdict.WORSE
        refused.append((row.name, moved_text(row) if short else row.why_not))
    changes = [row for row in rows if verdict_of(row) in (Verdict.BETTER, Verdict.WORSE)]
    return {
        "pushed": [row.name for row in rows if row.status is Status.PUSHED],
        "accepted": [row.name for row in rows if row.status is Status.BLESSED],
        "refused": refused,
        "failed": [row.name for row in failed],
        "changed": [(row.name, verdict_of(row) == Verdict.BETTER, moved_text(row)) for row in changes],
        "same": [row.name for row in rows if verdict_of(row) is Verdict.SAME],
        "against": "production" if any(row.gain for row in rows) else "the last run",
    }
