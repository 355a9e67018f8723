"""The gate's findings as operators read them: one line per variant."""

import enum
import math
from typing import NamedTuple

from components.gate import alarm
from components.gate.evidence import Z_95
from components.gate.record import Finding, Record

PERCENT = 100.0


class State(enum.Enum):
    """What the gate makes of a candidate."""

    NOISE = "noise"
    BETTER = "better than the model in production"
    WORSE = "worse than the model in production by more than chance explains"
    BELOW = "below the level of earlier nights by more than chance explains"


class Metric(NamedTuple):
    """How a metric is shown. unit: after each number, as " points"; scale: what numbers are multiplied by."""

    name: str
    unit: str = ""
    scale: float = 1.0

    def number(self, value: float, sign: str = "") -> str:
        """Return a value of the metric with its unit."""
        digits = 2 if 0 < abs(value * self.scale) < 0.1 else 1
        return f"{value * self.scale:{sign}.{digits}f}{self.unit}"


METRICS = {"elbo": Metric("elbo", " nats"), "accuracy": Metric("accuracy", " points", PERCENT)}
"""The headline metrics: nats per image, and accuracies in percentage points."""


def state(finding: Finding) -> State:
    """Return what the gate makes of a candidate in one metric."""
    if finding.refused:
        return State.BELOW if finding.against_level else State.WORSE
    half = Z_95 * math.sqrt(2 * finding.training_variance + finding.test_variance)
    return State.BETTER if finding.gain > half else State.NOISE


def line(record: Record, variants: int) -> str:
    """Return the operator's line of one variant of a home with so many; empty where nothing was compared."""
    return "; ".join(
        _of_metric(METRICS[name], record, each, variants) for name, each in record.findings.items()
    )


def refusal(record: Record) -> str:
    """Return why a record refuses its candidate, as a sentence; empty if it does not."""
    reasons = []
    for name, finding in record.findings.items():
        if finding.refused:
            metric = METRICS[name]
            reasons.append(f"{_compared(metric, finding)}; {_detectable(metric, finding)}")
    return "; ".join(reasons)


def _of_metric(metric: Metric, record: Record, finding: Finding, variants: int) -> str:
    parts = [_compared(metric, finding), _detectable(metric, finding)]
    if record.anchor and record.anchored:
        parts.append(_since(metric, record, finding, variants))
    if finding.above_ceiling:
        parts.append("trainings differ more than 3 times the declared noise")
    return "; ".join(parts)


def _compared(metric: Metric, finding: Finding) -> str:
    test = Z_95 * math.sqrt(finding.test_variance)
    training = Z_95 * math.sqrt(2 * finding.training_variance)
    shown = f"±{metric.number(training)}" if finding.measured else "noise not measured"
    return (
        f"{metric.name} {metric.number(finding.gain, '+')} (test ±{metric.number(test)}, training {shown}): "
        f"{state(finding).value}"
    )


def _detectable(metric: Metric, finding: Finding) -> str:
    return f"a loss of {metric.number(finding.detectable)} would be refused tonight in 99 %"


def _since(metric: Metric, record: Record, finding: Finding, variants: int) -> str:
    since = f"since the anchor of {record.anchored}"
    if not finding.measured:
        return f"{since}: alarm not armed (noise of training not measured)"
    if not math.isfinite(finding.decline):
        return f"{since}: alarm not armed ({min(record.nights, alarm.EARLIER)} of {alarm.EARLIER} nights)"
    return (
        f"{since}: {metric.number(finding.recent, '+')} over {record.nights} nights, "
        f"alarm at {alarm.threshold(variants):.1f}, now {finding.decline:.1f}"
    )
