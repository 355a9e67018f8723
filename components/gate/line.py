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


def line(record: Record) -> str:
    """Return the operator's line of one variant; empty where nothing was compared."""
    parts = [_of_metric(METRICS[name], record, each) for name, each in record.findings.items()]
    return "; ".join(filter(None, [*parts, _past(record)]))


def refusal(record: Record) -> str:
    """Return why a record refuses its candidate, as a sentence; empty if it does not."""
    reasons = []
    for name, finding in record.findings.items():
        if finding.refused:
            metric = METRICS[name]
            reasons.append(f"{_compared(metric, finding)}; {_detectable(metric, finding)}")
        if record.only_data and finding.implausible:
            variant = record.era.get("variant", "VARIANT")
            reasons.append(
                f"too good to be true: {_unusual(METRICS[name], finding)}; look at the labels of the newest "
                f"data, then `latentline promote {variant}`"
            )
    return "; ".join(filter(None, [*reasons, alarm_text(record)]))


def alarm_text(record: Record) -> str:
    """Return what the alarm that stands is about, as a sentence; empty if none does."""
    if record.alarm is None:
        return ""
    metric, name = METRICS[record.alarm.metric], record.era.get("variant", "VARIANT")
    lost = record.lost[record.alarm.metric]
    total = lost + record.past.loss.get(record.alarm.metric, 0.0)
    since = f", {metric.number(total)} {_since_first(record)}" if record.past.accepted else ""
    return (
        f"alarm for slow decline since {record.alarm.raised}: {metric.name} has lost {metric.number(lost)} "
        f"against the level before{since}; nothing is pushed until somebody ends it: "
        f"`latentline accept {name}`, `rollback` or `resume`, each with --reason"
    )


def warnings(record: Record) -> tuple[str, ...]:
    """Return what somebody should look at, beside refusals and alarms, as sentences."""
    found = []
    for name, finding in record.findings.items():
        metric = METRICS[name]
        if finding.above_ceiling:
            found.append(
                f"trainings differ in {name} by more than 3 times the declared noise; make them more stable, "
                "or measure the noise with your data (`make measure-noise`)"
            )
        if finding.harder:
            found.append(
                f"the anchor's own {name} has fallen: the data has become harder or its labels worse; look "
                "at the newest test split"
            )
        if finding.implausible and not record.only_data:
            found.append(
                f"unusual gain: {_unusual(metric, finding)}; that model was trained with other settings, so "
                "the candidate is accepted, but look at the labels of the newest data"
            )
        if finding.detectable > finding.most_detectable:
            found.append(
                f"{_detectable(metric, finding)}, and the recipe's max_detectable_loss is "
                f"{metric.number(finding.most_detectable)}; give more test images"
            )
    return tuple(found)


def _of_metric(metric: Metric, record: Record, finding: Finding) -> str:
    return "; ".join(
        [_compared(metric, finding), _detectable(metric, finding), _since(metric, record, finding)]
    )


def _past(record: Record) -> str:
    """Return what was lost in eras whose ends were accepted, up to the beginning of this one."""
    if not record.past.accepted:
        return ""
    lost = ", ".join(f"{METRICS[name].number(loss)} of {name}" for name, loss in record.past.loss.items())
    return f"{lost} were lost before this era, {_since_first(record)}"


def _since_first(record: Record) -> str:
    times = "once" if record.past.accepted == 1 else f"{record.past.accepted} times"
    return f"since the first era of {record.past.since}, accepted {times}"


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


def _unusual(metric: Metric, finding: Finding) -> str:
    half = Z_95 * math.sqrt(finding.test_variance)
    return (
        f"{metric.name} {metric.number(finding.gain, '+')} (test ±{metric.number(half)}) against the model "
        f"in production, expected at most {metric.number(finding.max_gain, '+')}"
    )


def _since(metric: Metric, record: Record, finding: Finding) -> str:
    since = f"since the anchor of {record.anchor.date}: " if record.anchor else ""
    if not finding.measured:
        return f"{since}alarm not armed (noise of training not measured)"
    if not math.isfinite(finding.decline):
        return f"{since}alarm not armed ({min(record.nights, alarm.EARLIER)} of {alarm.EARLIER} nights)"
    return (
        f"{since}{metric.number(finding.recent, '+')} over {record.nights} nights, "
        f"alarm at {finding.alarm_at:.1f}, now {finding.decline:.1f}"
    )
