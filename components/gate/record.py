"""What the gate writes down about a night, which is all that the next night needs to know."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.gate.history import History
from components.gate.night import Home, judge
from components.gate.noise import Declared
from components.gate.verdict import LEVEL, Difference

RECENT = 7
"""Newest nights whose mean is shown against the anchor."""

UNMEASURED = Declared(0.0, seeds=2)
"""Where the noise of training was never measured, the noise of the test split alone counts."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the gate found of one metric on one night.

    Attributes:
      gain: candidate minus production.
      test_variance: squared standard error of `gain`.
      training_variance: of one training, as known before the night.
      measured: whether the noise of training was declared at all.
      above_ceiling: whether trainings differ more than the gate believes.
      chance: of a result this bad from a candidate as good as those before; nan where it cannot be said.
      refused: whether the candidate is refused for this metric.
      against_level: whether it is further below the era's earlier nights than below production.
      detectable: loss that would have been refused with 99 % probability.
      recent: mean of the newest nights against the anchor; 0 without nights.
      decline: the alarm's z; -inf while it is not armed.
    """

    gain: float
    test_variance: float
    training_variance: float
    measured: bool
    above_ceiling: bool
    chance: float
    refused: bool
    against_level: bool
    detectable: float
    recent: float
    decline: float


@dataclasses.dataclass(frozen=True)
class Record:
    """One night of one variant.

    Attributes:
      era: what has to stay the same for nights to be comparable, by name.
      anchor: id of the model that scores are measured from; 0 while the era has none.
      anchored: date of the anchor, ISO 8601; empty without one.
      findings: by headline metric; empty where there was nothing to compare with.
      histories: by headline metric, the nights of the era with this one.
    """

    era: Mapping[str, Any]
    anchor: int
    anchored: str
    findings: Mapping[str, Finding]
    histories: Mapping[str, History]

    @property
    def refused(self) -> bool:
        """Return whether the candidate is worse than chance explains, in any metric."""
        return any(finding.refused for finding in self.findings.values())

    @property
    def chance(self) -> float:
        """Return the chance of a night this bad over all metrics; 1 where nothing was compared."""
        found = [finding.chance for finding in self.findings.values()]
        return (
            min(1.0, len(found) * min(found))
            if found and not any(map(math.isnan, found))
            else (math.nan if found else 1.0)
        )

    @property
    def nights(self) -> int:
        """Return the number of compared candidates of the era."""
        return max((int(history.nights) for history in self.histories.values()), default=0)

    def anchored_by(self, model: int, date: str) -> "Record":
        """Return the record with a blessed model as the era's anchor, unless it has one."""
        return self if self.anchor else dataclasses.replace(self, anchor=model, anchored=date)

    def to_json(self) -> str:
        """Return the record in the form that `from_json` reads."""
        return json.dumps(
            {
                "era": self.era,
                "anchor": self.anchor,
                "anchored": self.anchored,
                "findings": {name: dataclasses.asdict(each) for name, each in self.findings.items()},
                "histories": {name: each.to_json() for name, each in self.histories.items()},
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Return the record in `text`. Raises ValueError where it is not what `to_json` gave."""
        try:
            stored = json.loads(text)
            findings = {name: Finding(**each) for name, each in stored.pop("findings").items()}
            histories = {name: History.from_json(each) for name, each in stored.pop("histories").items()}
            return cls(**stored, findings=findings, histories=histories)
        except (AttributeError, KeyError, RecursionError, TypeError) as error:
            raise ValueError(f"the gate's record of an earlier night cannot be read ({error})") from error


def decide(
    earlier: Record | None,
    era: Mapping[str, Any],
    gains: Mapping[str, Difference],
    scores: Mapping[str, Difference],
    declared: Mapping[str, Declared],
    correlation: float = 0.0,
) -> Record:
    """Judge the candidate of a night.

    earlier: the variant's last record, None if there is none; of another era, it does not count. gains: over
    production by headline metric, empty without production. scores: over the anchor; they count only where
    the era has one. declared: the noise of training by metric, absent where it was not measured; then the
    candidate is compared with production alone, by the noise of the test split. Each of several metrics is
    tested at its share of the level.
    """
    known = earlier if earlier is not None and dict(earlier.era) == dict(era) else None
    histories = dict(known.histories) if known else {}
    findings = {}
    for name, gain in gains.items():
        noise = declared.get(name) or UNMEASURED
        found = judge(
            histories.get(name, History.empty()),
            gain,
            scores.get(name) if known and known.anchor else None,
            noise,
            Home(variants=1, correlation=correlation),
            LEVEL / len(gains),
            against_level=declared.get(name) is not None,
        )
        histories[name] = found.history
        newest = found.history.clipped[np.isfinite(found.history.clipped)][-RECENT:]
        findings[name] = Finding(
            gain=float(gain.mean),
            test_variance=float(gain.variance),
            training_variance=float(found.noise.variance),
            measured=declared.get(name) is not None,
            above_ceiling=bool(found.noise.above_ceiling) and declared.get(name) is not None,
            chance=float(found.verdict.chance),
            refused=bool(found.verdict.refused),
            against_level=bool(found.verdict.against_level),
            detectable=float(found.verdict.detectable),
            recent=float(newest.mean()) if newest.size else 0.0,
            decline=float(found.decline) if declared.get(name) is not None else -math.inf,
        )
    return Record(era, known.anchor if known else 0, known.anchored if known else "", findings, histories)
