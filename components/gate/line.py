"""The gate's findings as operators read them: one line per variant."""

import enum
import math
from typing import NamedTuple

from components.gate import alarm
from components.gate.evidence import Z_95
from components.gate.night import Home, Judgement
from components.gate.verdict import Difference

RECENT = 7
"""Newest nights whose mean is shown against the anchor."""

PERCENT = 100.0


class State(enum.Enum):
    """What the gate did with a candidate."""

    NOISE = "noise"
    BETTER = "better than production"
    HELD = "held: within what chance does among {variants} variants"
    REFUSED = "refused: worse than chance explains"
    ALARM = "not pushed: the candidates have declined"


class Metric(NamedTuple):
    """How a metric is shown. unit: after each number, as " points"; scale: what numbers are multiplied by."""

    name: str
    unit: str = ""
    scale: float = 1.0

    def number(self, value: float, sign: str = "") -> str:
        """Return a value of the metric with its unit."""
        return f"{value * self.scale:{sign}.{self._digits(value)}f}{self.unit}"

    def _digits(self, value: float) -> int:
        return 2 if 0 < abs(value * self.scale) < 0.1 else 1


METRICS = {"elbo": Metric("elbo", " nats"), "accuracy": Metric("accuracy", " points", PERCENT)}
"""The headline metrics: nats per image, and accuracies in percentage points."""


def state(judgement: Judgement, gain: Difference, named: bool) -> State:
    """Return what the gate does with a candidate of one variant.

    named: whether Holm's procedure over the run's variants names it, so that its refusal is a WARNING.
    """
    if judgement.alarmed:
        return State.ALARM
    if judgement.verdict.refused:
        return State.REFUSED if named else State.HELD
    half = Z_95 * math.sqrt(2 * float(judgement.noise.variance) + float(gain.variance))
    return State.BETTER if float(gain.mean) > half else State.NOISE


def line(
    metric: Metric, gain: Difference, judgement: Judgement, home: Home, named: bool, anchored: str
) -> str:
    """Return the operator's line of one variant.

    gain: over production. named: as for `state`. anchored: date of the era's anchor, empty without one.
    """
    test = Z_95 * math.sqrt(float(gain.variance))
    training = Z_95 * math.sqrt(2 * float(judgement.noise.variance))
    found = state(judgement, gain, named).value.format(variants=home.variants)
    parts = [
        f"{metric.name} {metric.number(float(gain.mean), '+')} "
        f"(test ±{metric.number(test)}, training ±{metric.number(training)}): {found}",
        f"a loss of {metric.number(float(judgement.verdict.detectable))} would be refused tonight in 99 %",
        *([since(metric, judgement, home, anchored)] if anchored else []),
    ]
    if judgement.noise.above_ceiling:
        parts.append("trainings differ more than 3 times the declared noise")
    return "; ".join(parts)


def since(metric: Metric, judgement: Judgement, home: Home, anchored: str) -> str:
    """Return how the era stands: its newest nights against the anchor, and the alarm."""
    history = judgement.history
    nights = int(history.nights)
    if not math.isfinite(float(judgement.decline)):
        armed = min(nights, alarm.EARLIER)
        return f"since the anchor of {anchored}: alarm not armed ({armed} of {alarm.EARLIER} nights)"
    newest = history.clipped[-min(nights, RECENT) :]
    return (
        f"since the anchor of {anchored}: {metric.number(float(newest.mean()), '+')} over {nights} nights, "
        f"alarm at {alarm.threshold(home.variants):.1f}, now {float(judgement.decline):.1f}"
    )
