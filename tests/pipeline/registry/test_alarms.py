"""Alarms for slow decline from the first to the last: a small real store, real pushes, journal and hooks."""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from small import TOYS, VARIANT, pipeline
from tfx.orchestration import metadata as tfx_metadata

from components.evaluation import nights
from components.evaluation.gated import GateSettings
from components.gate.noise import Declared
from components.gate.record import Alarm, Measured, Record, decide
from components.gate.verdict import Difference
from components.serving.versions import by_variant, published
from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from pipeline.execution.local import LocalRunner
from pipeline.home import journal, metadata
from pipeline.home.journal import Command, Outcome, Result
from pipeline.home.layout import Home
from pipeline.registry import alarm_end, alarms, lineage, production, prune
from pipeline.registry.production import ProductionError
from pipeline.runs import account
from pipeline.runs.record import recorded
from pipeline.service import status

ERA = {"variant": VARIANT, "dataset": TOYS.dataset}
GATE = GateSettings(("accuracy",), ERA, {"accuracy": Declared(0.01, seeds=20)})
QUIET = 20


def with_quiet_nights(record: Record) -> Record:
    same = Difference(np.asarray(0.0), np.asarray(1e-4), np.asarray(np.inf))
    own = Difference(np.asarray(0.9), np.asarray(4e-4), np.asarray(np.inf))
    for _ in range(QUIET):
        measured = {each.model: Measured({"accuracy": same}, {"accuracy": own}) for each in record.anchors}
        record = decide(record, record.era, {"accuracy": same}, measured, GATE.noise)
    return record


class Life:
    """A home and its nights."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.home = Home(folder / "home")
        self.home.folder.mkdir()
        self.hooked = folder / "alarms"
        hook = f"sh -c 'cat >> {self.hooked}; echo >> {self.hooked}'"
        self.settings = Settings(variants=(VARIANT,), home=str(self.home), notify=Notify(on_alarm=hook))
        self.said: list[str] = []
        self.all_cached = False

    def night(self, wrong: int, keep: int = 0) -> Outcome:
        """A run whose candidate is wrong on so many of 200 images."""
        before = by_variant(str(self.home.serving))
        with recorded(self.settings, self.said.append) as writer:
            runner = LocalRunner(self.said.append)
            runner.run(pipeline(self.home, wrong, GATE, keep=keep))
            account.settle(writer, self.settings, runner, before, self.said.append)
        self.all_cached = runner.all_cached
        assert writer.record.exit_code == 0
        return writer.record.variants[VARIANT]

    def record(self) -> Record:
        with metadata.opened(self.home) as store:
            return alarms.newest(store)[VARIANT].record

    def status(self) -> tuple[int, str]:
        found = status.find(self.home, datetime.datetime.now().astimezone())
        return found.code, "; ".join(found.reasons)

    def events(self) -> list[dict[str, Any]]:
        text = self.hooked.read_text() if self.hooked.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line]

    def versions(self) -> list[int]:
        return published(str(self.home.versions(VARIANT)))

    def end(self, command: Command, reason: str = "seen and judged") -> str:
        return alarm_end.description(alarm_end.end(self.home, VARIANT, command, reason, self.said.append))

    def ended(self) -> list[tuple[str, str]]:
        """The words that ended alarms and their reasons, as lineage has them."""
        with metadata.opened(self.home) as store:
            model = store.of_node("latentline", f"Trainer.{VARIANT}", metadata.MODEL)[0]
            return [(end["by"], end["reason"]) for end in lineage.alarms(store, model)]

    def change(self, change: Callable[[Record], Record]) -> None:
        """Put another record in the place of the newest one, as if nights had been otherwise."""
        with metadata.opened(self.home) as store:
            newest = alarms.newest(store)[VARIANT]
        with tfx_metadata.Metadata(metadata.connection(self.home)) as handle:
            [raw] = handle.store.get_artifacts_by_id([newest.artifact.id])
            changed = change(newest.record).to_json()
            raw.custom_properties[nights.GATE].CopyFrom(mlmd.Value(string_value=changed))
            handle.store.put_artifacts([raw])


@pytest.mark.long
def test_the_life_of_alarms(tmp_path: pathlib.Path) -> None:
    life = Life(tmp_path)
    assert life.night(22).result is Result.PUSHED
    assert life.night(20).result is Result.PUSHED
    assert len(life.record().anchors) == 2
    life.change(with_quiet_nights)

    # One bad night is refused and raises nothing; the second one raises the alarm, and the run exits 0.
    assert life.night(60).result is Result.REFUSED
    assert life.events() == []
    raised = life.night(61)
    assert (raised.result, raised.raised) == (Result.ALARM, True)
    assert raised.alarm.startswith("alarm for slow decline since")
    assert life.status()[0] == status.CRITICAL
    assert f"{VARIANT}: alarm for slow decline" in life.status()[1]
    [event] = life.events()
    assert (event["event"], event["text"]) == ("alarm", f"{VARIANT}: {raised.alarm}")

    # An identical rerun is all cached; the alarm stands, and its hook does not run again.
    again = life.night(61)
    assert life.all_cached
    assert (again.result, again.raised) == (Result.ALARM, False)

    # Under the alarm a candidate that is better than production is measured and not pushed, old ones as well.
    count, versions = life.record().nights, life.versions()
    assert life.night(5).result is Result.ALARM
    assert life.record().nights == count + 1
    assert life.night(60).result is Result.ALARM
    assert life.record().nights == count + 1
    assert (life.versions(), len(life.events())) == (versions, 1)

    # A rollback ends it with its reason; the model that was rolled back from measures nothing any more.
    spare = life.record().anchors[1]
    production.rollback(life.home, VARIANT, None, "", life.said.append)
    assert life.record().alarm is not None
    assert life.said[-1].startswith(f"! the alarm of {VARIANT} stands")
    assert life.status()[0] == status.CRITICAL
    production.promote(life.home, VARIANT, spare.model, "restored", life.said.append)
    production.rollback(life.home, VARIANT, None, "blurred", life.said.append)
    assert life.record().alarm is None
    assert "alarm for slow decline" not in life.status()[1]
    assert life.ended() == [("rollback", "blurred")]
    assert life.night(23).result is Result.PUSHED
    assert spare.model not in [each.model for each in life.record().anchors]
    assert life.record().nights == QUIET + 2

    # The old level still counts: another decline raises the next alarm, and resume ends it.
    life.night(62)
    assert life.night(63).raised
    assert len(life.events()) == 2
    with pytest.raises(ProductionError, match="give --reason"):
        life.end(Command.RESUME, " ")
    with pytest.raises(ProductionError, match=f"no alarm of cvae stands; alarms stand of {VARIANT}"):
        alarm_end.end(life.home, "cvae", Command.RESUME, "why", life.said.append)
    assert "count against the level before the decline" in life.end(Command.RESUME, "labels corrected")
    assert life.status()[0] == status.OK
    assert life.record().nights == QUIET + 2
    with pytest.raises(ProductionError, match="none stands in this home"):
        life.end(Command.RESUME)

    # What was trained under the alarm is judged again once it is ended, and then cached again.
    assert life.night(5).result is Result.PUSHED
    life.night(5)
    assert life.all_cached

    # Accept begins an era: no anchors, and what was lost is counted.
    life.change(lambda record: dataclasses.replace(record, alarm=Alarm("2026-04-01", "accuracy", 0.02)))
    assert "2.0 points lost since the first era of" in life.end(Command.ACCEPT, "smaller model, as agreed")
    assert (life.record().anchors, life.record().past.accepted) == ((), 1)
    accepted = life.night(6)
    assert accepted.result is Result.PUSHED
    assert "were lost before this era" in accepted.gate
    assert [word for word, _ in life.ended()] == ["rollback", "resume", "accept"]

    # The anchor outlives prune and retention.
    for wrong in (7, 8):
        life.night(wrong, keep=1)
    anchor = life.record().anchors[0]
    prune.prune(life.home, 1, False, life.said.append)
    with metadata.opened(life.home) as store:
        model = store.artifact(anchor.model)
    assert model.live
    assert pathlib.Path(model.uri).is_dir()
    assert any(
        pathlib.Path(life.home.versions(VARIANT), str(number), "latentline_source.txt").read_text()
        == model.uri
        for number in life.versions()
    )


def outcome(**facts: Any) -> dict[str, Outcome]:
    return {VARIANT: Outcome(**{"result": Result.REFUSED, "evaluated": True, **facts})}


@pytest.mark.parametrize(
    ("later", "stands"),
    [
        ({}, True),
        ({"variants": {VARIANT: Outcome(Result.FAILED, why="killed")}}, True),
        ({"variants": outcome(alarm="still")}, True),
        ({"variants": outcome()}, False),
        ({"command": Command.PROMOTE, "variants": outcome(evaluated=False)}, True),
        ({"command": Command.ROLLBACK, "variants": outcome(evaluated=False)}, True),
        ({"command": Command.ROLLBACK, "variants": outcome(evaluated=False), "ends_alarm": True}, False),
        ({"command": Command.RESUME, "variants": outcome(evaluated=False), "ends_alarm": True}, False),
        (
            {
                "command": Command.RESUME,
                "variants": outcome(evaluated=False),
                "ends_alarm": True,
                "status": journal.Status.CRASHED,
            },
            True,
        ),
    ],
)
def test_the_journal_knows_which_alarms_stand(later: dict[str, Any], stands: bool) -> None:
    first = journal.RunRecord(
        "1", 1, Command.RUN, "host", 1, "process", "2026-04-01T03:00:00+00:00",
        status=journal.Status.SUCCEEDED, variants=outcome(alarm="declined"),
    )  # fmt: skip
    second = dataclasses.replace(
        first, number=2, **{"variants": {}, "status": journal.Status.SUCCEEDED, **later}
    )
    assert (VARIANT in journal.alarms([first, second])) is stands
