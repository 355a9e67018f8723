"""What the gate writes down about a night, which is all that the next night needs to know."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from components.gate import alarm, noise
from components.gate.evidence import Z_95
from components.gate.history import History
from components.gate.night import Home, Judgement, judge
from components.gate.noise import Declared
from components.gate.verdict import LEVEL, Difference

RECENT = 7
"""Newest nights whose mean is shown against the anchor."""

UNMEASURED = Declared(0.0, seeds=2)
"""Where the noise of training was never measured, the noise of the test split alone counts."""


class Measured(NamedTuple):
    """What was measured of an anchor tonight, by headline metric.

    score: candidate minus anchor. own: of the anchor alone, with the variance of its mean.
    """

    score: Mapping[str, Difference]
    own: Mapping[str, Difference]


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A model that nights are measured from.

    Attributes:
      model: its id.
      name: of its artifact, wherever the root lies, as `Trainer.mlp/model/16`.
      date: since when it is the anchor, ISO 8601.
      histories: by headline metric, candidate minus anchor on the nights since.
      settled: `histories` as they were before the decline that the standing alarm is about; else empty.
      first: by headline metric, the anchor's own on its first night.
      own: by headline metric, the anchor's own less that of its first night.
    """

    model: int
    name: str
    date: str
    histories: Mapping[str, History] = dataclasses.field(default_factory=dict)
    settled: Mapping[str, History] = dataclasses.field(default_factory=dict)
    first: Mapping[str, float] = dataclasses.field(default_factory=dict)
    own: Mapping[str, History] = dataclasses.field(default_factory=dict)

    def with_night(self, tonight: Measured, training: Mapping[str, noise.Noise]) -> "Anchor":
        """Return the anchor with one more night. training: by headline metric, the noise of training."""
        histories = {
            name: self.histories.get(name, History.empty()).with_night(
                score.mean, score.variance, training[name].variance
            )
            for name, score in tonight.score.items()
        }
        first = {**{name: float(own.mean) for name, own in tonight.own.items()}, **self.first}
        mine = {}
        for name, own in tonight.own.items():
            before = self.own.get(name, History.empty())
            known = noise.undeclared(before.scores, before.test_variances)
            mine[name] = before.with_night(own.mean - first[name], own.variance, known.variance)
        return dataclasses.replace(self, histories=histories, first=first, own=mine)

    def before_decline(self, nights: int) -> "Anchor":
        """Return the anchor with its histories of `nights` nights ago set aside."""
        settled = {name: history.without_newest(nights) for name, history in self.histories.items()}
        return dataclasses.replace(self, settled=settled)

    def resumed(self) -> "Anchor":
        """Return the anchor whose nights go on from before the decline."""
        return dataclasses.replace(self, histories=self.settled or self.histories, settled={})

    def to_json(self) -> dict[str, Any]:
        """Return the anchor in the form that `from_json` reads."""
        return {
            name: {key: each.to_json() for key, each in value.items()} if name in HISTORIES else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Anchor":
        """Return the anchor that `to_json` gave. Raises ValueError, TypeError and AttributeError."""
        values: dict[str, Any] = {
            name: {key: History.from_json(each) for key, each in value.items()}
            if name in HISTORIES
            else value
            for name, value in stored.items()
        }
        return cls(**values)


HISTORIES = ("histories", "settled", "own")
"""Fields of an Anchor that hold a history by headline metric."""


@dataclasses.dataclass(frozen=True)
class Alarm:
    """An alarm that stands until somebody ends it.

    Attributes:
      raised: the date, ISO 8601.
      metric: the headline metric that has declined.
      loss: the level before the decline less the mean of the nights since.
    """

    raised: str
    metric: str
    loss: float


@dataclasses.dataclass(frozen=True)
class Past:
    """What was lost in eras that ended because somebody accepted a decline.

    Attributes:
      accepted: how often.
      loss: by headline metric, the sum.
      since: date of the first era's anchor, ISO 8601; empty if nothing was accepted.
    """

    accepted: int = 0
    loss: Mapping[str, float] = dataclasses.field(default_factory=dict)
    since: str = ""


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
      alarm_at: the z at which the alarm is raised.
      loss: the era's level less the mean of the newest nights; 0 while there is no level.
      harder: whether the anchor's own score has fallen by more than chance explains.
      most_detectable: the largest `detectable` that the recipe allows; inf for any.
      max_gain: the largest gain that a night's data brings; inf for any.
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
    alarm_at: float
    loss: float
    harder: bool
    most_detectable: float
    max_gain: float

    @property
    def implausible(self) -> bool:
        """Return whether even the lower end of the gain's 95 % interval exceeds what is believed."""
        return self.gain - Z_95 * math.sqrt(self.test_variance) > self.max_gain


NO_PAST = Past()
CANDIDATES = 1000
"""Newest candidates of an era that a record names."""
FIELDS = ["alarm", "anchors", "candidates", "era", "findings", "only_data", "past"]
"""Of a record in JSON."""
ALONE = Home(variants=1)


@dataclasses.dataclass(frozen=True)
class Record:
    """One night of one variant.

    Attributes:
      era: what has to stay the same for nights to be comparable, by name.
      anchor: the model that scores are measured from; None while the era has none.
      spare: takes the anchor's place if that is lost.
      findings: by headline metric; empty where there was nothing to compare with.
      alarm: that stands; None if none does.
      past: of the eras before, whose ends somebody accepted.
      candidates: ids of the models that were judged in the era, the newest CANDIDATES, with tonight's.
      only_data: whether production was trained as the candidate, so that only the data has changed.
    """

    era: Mapping[str, Any]
    anchor: Anchor | None = None
    spare: Anchor | None = None
    findings: Mapping[str, Finding] = dataclasses.field(default_factory=dict)
    alarm: Alarm | None = None
    past: Past = NO_PAST
    candidates: tuple[int, ...] = ()
    only_data: bool = False

    @property
    def refused(self) -> bool:
        """Return whether the candidate is worse than chance explains, or better than is believed."""
        return self.too_good or any(finding.refused for finding in self.findings.values())

    @property
    def too_good(self) -> bool:
        """Return whether the candidate gains more, in any metric, than new data alone can bring."""
        return self.only_data and any(finding.implausible for finding in self.findings.values())

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
        histories = self.anchor.histories.values() if self.anchor else ()
        return max((int(history.nights) for history in histories), default=0)

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """Return the anchor and its spare, as far as there are any."""
        return tuple(each for each in (self.anchor, self.spare) if each)

    @property
    def lost(self) -> Mapping[str, float]:
        """Return the loss of the era by headline metric: of the metric in alarm, at least what raised it."""
        found = {name: finding.loss for name, finding in self.findings.items()}
        if self.alarm:
            found[self.alarm.metric] = max(found.get(self.alarm.metric, 0.0), self.alarm.loss)
        return found

    def anchored_by(self, anchor: Anchor) -> "Record":
        """Return the record with a blessed model as the era's anchor, or as its spare, if one is wanting."""
        if len(self.anchors) == 2 or anchor.model in [each.model for each in self.anchors]:
            return self
        return self._with_anchors([*self.anchors, anchor])

    def without(self, models: Iterable[int]) -> "Record":
        """Return the record without its lost anchors; the spare takes the place of a lost anchor."""
        lost = set(models)
        return self._with_anchors([each for each in self.anchors if each.model not in lost])

    def accepted(self) -> "Record":
        """Return the beginning of a new era after somebody accepted the decline."""
        found = self.lost
        loss = {
            name: self.past.loss.get(name, 0.0) + found.get(name, 0.0) for name in {*self.past.loss, *found}
        }
        since = self.past.since or (self.anchor.date if self.anchor else "")
        past = Past(self.past.accepted + 1, loss, since)
        return Record(self.era, past=past, candidates=self.candidates)

    def resumed(self) -> "Record":
        """Return the record after somebody removed the cause: later nights count against the old level."""
        ended = dataclasses.replace(self, alarm=None)
        return ended._with_anchors([each.resumed() for each in self.anchors])

    def _with_anchors(self, anchors: Iterable[Anchor]) -> "Record":
        first, second = [*anchors, None, None][:2]
        return dataclasses.replace(self, anchor=first, spare=second)

    def to_json(self) -> str:
        """Return the record in the form that `from_json` reads."""
        return json.dumps(
            {
                "era": self.era,
                "anchors": [each.to_json() for each in self.anchors],
                "findings": {name: dataclasses.asdict(each) for name, each in self.findings.items()},
                "alarm": dataclasses.asdict(self.alarm) if self.alarm else None,
                "past": dataclasses.asdict(self.past),
                "candidates": self.candidates,
                "only_data": self.only_data,
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Return the record in `text`. Raises ValueError where it is not what `to_json` gave."""
        try:
            stored = json.loads(text)
            if sorted(stored) != FIELDS:
                raise ValueError(f"the gate's record of an earlier night cannot be read ({sorted(stored)})")
            return cls(
                stored["era"],
                findings={name: Finding(**each) for name, each in stored["findings"].items()},
                alarm=Alarm(**stored["alarm"]) if stored["alarm"] else None,
                past=Past(**stored["past"]),
                candidates=tuple(map(int, stored["candidates"])),
                only_data=bool(stored["only_data"]),
            )._with_anchors([Anchor.from_json(each) for each in stored["anchors"]])
        except (AttributeError, KeyError, RecursionError, TypeError) as error:
            raise ValueError(f"the gate's record of an earlier night cannot be read ({error})") from error


@dataclasses.dataclass(frozen=True)
class Limits:
    """What bounds a night, beside statistics.

    Attributes:
      candidate, production: ids of the two models; 0 for none.
      most_detectable: by headline metric, the largest detectable loss that the recipe allows.
      max_gain: by headline metric, the largest gain over production that a night's data brings.
    """

    candidate: int = 0
    production: int = 0
    most_detectable: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_gain: Mapping[str, float] = dataclasses.field(default_factory=dict)


def decide(
    earlier: Record | None,
    era: Mapping[str, Any],
    gains: Mapping[str, Difference],
    measured: Mapping[int, Measured],
    declared: Mapping[str, Declared],
    home: Home = ALONE,
    date: str = "",
    limits: "Limits | None" = None,
) -> Record:
    """Judge the candidate of a night.

    earlier: the variant's last record, None if there is none; of another era, only its alarm counts. gains:
    over production by headline metric, empty without production; then the night is not counted. measured: by
    the id of an anchor. declared: the noise of training by metric, absent where it was not measured; then the
    candidate is compared with production alone, by the noise of the test split. Each of several metrics is
    tested at its share of the level. date: of the night, ISO 8601. limits: of what is believed and detected.
    """
    limits = limits or Limits()
    same = earlier is not None and dict(earlier.era) == dict(era)
    known = earlier if earlier is not None and same else Record(era, alarm=earlier.alarm if earlier else None)
    tonight = measured.get(known.anchor.model) if known.anchor else None
    home = home._replace(variants=home.variants * max(len(gains), 1))
    judged = {
        name: judge(
            known.anchor.histories.get(name, History.empty()) if known.anchor else History.empty(),
            gain,
            tonight.score.get(name) if tonight else None,
            declared.get(name) or UNMEASURED,
            home,
            LEVEL / len(gains),
            against_level=declared.get(name) is not None,
        )
        for name, gain in gains.items()
    }
    training = {name: found.noise for name, found in judged.items()}
    if judged:
        anchors = [
            each.with_night(measured[each.model], training) if each.model in measured else each
            for each in known.anchors
        ]
        known = known._with_anchors(anchors)
        known = _with_alarm(known, {n: f for n, f in judged.items() if n in declared}, home, date)
    findings = {
        name: _finding(known, name, gains[name], found, name in declared, home, limits)
        for name, found in judged.items()
    }
    only_data = earlier is None or limits.production in known.candidates
    before = [number for number in known.candidates if number != limits.candidate]
    candidates = tuple(filter(None, (*before, limits.candidate)))[-CANDIDATES:]
    return dataclasses.replace(known, findings=findings, candidates=candidates, only_data=only_data)


def _with_alarm(record: Record, judged: Mapping[str, Judgement], home: Home, date: str) -> Record:
    """Return the record with an alarm if none stands and a metric has declined."""
    declined = {name: found for name, found in judged.items() if bool(found.alarmed)}
    if record.alarm or not declined:
        return record
    name, found = max(declined.items(), key=lambda item: float(item[1].decline))
    nights = alarm.newest(found.history, found.noise, found.correlation)
    before = found.history.without_newest(nights).level()
    loss = float(before.mean) - found.history.mean_of_newest(nights)
    raised = dataclasses.replace(record, alarm=Alarm(date, name, loss))
    return raised._with_anchors([each.before_decline(nights) for each in record.anchors])


def _finding(
    record: Record,
    name: str,
    gain: Difference,
    found: Judgement,
    is_measured: bool,
    home: Home,
    limits: "Limits",
) -> Finding:
    anchor = record.anchor
    old = (anchor.settled.get(name) if anchor else None) or found.history.without_newest(RECENT)
    recent = found.history.mean_of_newest(RECENT)
    known = float(old.nights) >= alarm.EARLIER and is_measured
    own = anchor.own.get(name) if anchor else None
    return Finding(
        gain=float(gain.mean),
        test_variance=float(gain.variance),
        training_variance=float(found.noise.variance),
        measured=is_measured,
        above_ceiling=bool(found.noise.above_ceiling) and is_measured,
        chance=float(found.verdict.chance),
        refused=bool(found.verdict.refused),
        against_level=bool(found.verdict.against_level),
        detectable=float(found.verdict.detectable),
        recent=recent,
        decline=float(found.decline) if is_measured else -math.inf,
        alarm_at=alarm.threshold(home.variants),
        loss=float(old.level().mean) - recent if known else 0.0,
        harder=own is not None and _has_fallen(own, home),
        most_detectable=limits.most_detectable.get(name, math.inf),
        max_gain=limits.max_gain.get(name, math.inf),
    )


def _has_fallen(own: History, home: Home) -> bool:
    """Return whether an anchor's own score lies below that of earlier nights by more than chance explains."""
    known = noise.undeclared(own.scores, own.test_variances)
    return bool(alarm.statistic(own, known) > alarm.threshold(home.variants))
