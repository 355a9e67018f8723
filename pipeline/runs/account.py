"""The outcome of a run, variant by variant: from the runner, the metadata store and the serving folder."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import numpy as np

from components.evaluation.gated import record_of
from components.gate.line import alarm_text, line, refusal, warnings
from components.gate.verdict import warnings as beyond_chance
from components.ingest.example_gen import WINDOW
from components.ingest.spans import SEPARATOR
from components.reporting.results import why_not
from components.validation import drift
from pipeline.config.settings import Settings
from pipeline.dag.partial import variant
from pipeline.execution import diagnosis
from pipeline.home import journal, metadata
from pipeline.home.journal import Outcome, Result, Writer
from pipeline.home.layout import Home
from pipeline.home.metadata import Artifact, Blessing, Push

log = logging.getLogger(__name__)


class Ran(Protocol):
    """How the nodes of a run have ended, by the runner of one machine or by the exit task of a cluster."""

    @property
    def executions(self) -> Mapping[str, int]:
        """Return the execution of each node that ended well, by node id; 0 for one that was skipped."""

    @property
    def failures(self) -> Mapping[str, str]:
        """Return why each node failed that did, by node id; empty for what was left out for it."""

    @property
    def all_cached(self) -> bool:
        """Return whether the run has done nothing new."""


def settle(
    writer: Writer,
    settings: Settings,
    runner: Ran,
    before: Mapping[str, Collection[int]],
    say: Callable[[str], None],
    home: Home | None = None,
) -> None:
    """Note spans, drift and the outcome of each variant, whether the run succeeded or not.

    before: the versions by variant when the run began. home: that of the settings, or a cluster's. If the
    outcome cannot be read, that is reported in a line, since it must not hide the error that the run may have
    ended with.
    """
    if not runner.executions and not runner.failures:
        return
    try:
        with metadata.opened(home or Home.of(settings.home)) as store:
            outputs = {
                name: {key: given[0] for key, given in store.outputs(execution).items()}
                for name, execution in runner.executions.items()
                if execution
            }
        writer.note(spans=spans(outputs.get("IdxExampleGen", {})))
        if found := outputs.get("DriftValidator", {}).get("anomalies"):
            writer.note(drift=tuple(drift.descriptions(found.uri)))
        pushing = bool(settings.endpoints)
        outcomes = {
            trial.name: outcome(trial.name, outputs, runner.failures, before.get(trial.name, ()), pushing)
            for trial in settings.trials
        }
        evaluations = {
            name: outputs[f"Evaluator.{name}"]["evaluation"].uri
            for name in outcomes
            if "evaluation" in outputs.get(f"Evaluator.{name}", {})
        }
        standing = journal.alarms(journal.read(home or Home.of(settings.home)))
        outcomes = with_gate(outcomes, evaluations, standing)
        writer.note(variants=outcomes, cached=runner.all_cached)
        if not runner.all_cached:
            for name, one in outcomes.items():
                if one.gate:
                    say(f"  {name}: {one.gate}")
        for name, one in outcomes.items():
            for words in (*filter(None, [one.alarm]), *one.warnings):
                say(f"! {name}: {words}")
    except Exception as error:
        log.exception("the outcome of the run cannot be read")
        say(f"! the outcome of each variant cannot be read: {diagnosis.explain(error, settings.home)}")


def with_gate(
    outcomes: Mapping[str, Outcome], evaluations: Mapping[str, str], standing: Collection[str] = ()
) -> dict[str, Outcome]:
    """Return the outcomes with what the gate found, and refusals that chance explains as held.

    evaluations: folder of each variant's evaluation. standing: the variants whose alarm stood before the run.
    Holm's procedure over the variants of the run decides which refusals are more than chance does among so
    many; demands that a model misses are none of chance.
    """
    records = {name: record for name, folder in evaluations.items() if (record := record_of(folder))}
    chances = {name: record.chance for name, record in records.items() if record.findings}
    named = dict(zip(chances, beyond_chance(np.array(list(chances.values()))), strict=True))
    found = dict(outcomes)
    for name, record in records.items():
        outcome = dataclasses.replace(
            outcomes[name],
            gate=line(record),
            evaluated=True,
            alarm=alarm_text(record),
            raised=record.alarm is not None and name not in standing,
            warnings=warnings(record),
        )
        if record.alarm:
            outcome = dataclasses.replace(outcome, result=Result.ALARM)
        elif (
            outcome.result is Result.REFUSED
            and outcome.why == refusal(record)
            and not named.get(name, True)
            and not record.too_good
        ):
            among = f"within what chance does among {len(outcomes)} variants"
            outcome = dataclasses.replace(outcome, result=Result.HELD, why=f"{among}: {outcome.why}")
        found[name] = outcome
    return found


def spans(outputs: Mapping[str, Artifact]) -> tuple[str, ...]:
    """Return the folders of the data's spans, newest first, from IdxExampleGen's outputs."""
    examples = outputs.get("examples")
    window = examples.text(WINDOW) if examples else ""
    return tuple(window.split(SEPARATOR)) if window else ()


def outcome(
    name: str,
    outputs: Mapping[str, Mapping[str, Artifact]],
    failures: Mapping[str, str],
    before: Collection[int],
    pushing: bool = True,
) -> Outcome:
    """Return the outcome of a model.

    outputs: of each node, by key; before: versions that existed; pushing: whether the run pushes the model.
    """
    push = outputs.get(f"Pusher.{name}", {}).get("pushed_model")
    evaluated = outputs.get(f"Evaluator.{name}", {})
    if not isinstance(push, Push):
        if not pushing and "evaluation" in evaluated:
            return Outcome(Result.EVALUATED, why=why_not(evaluated["evaluation"].uri, name))
        mine = [message for node, message in failures.items() if variant(node) == name and message]
        shared = [message for node, message in failures.items() if not variant(node) and message]
        if mine:
            return Outcome(Result.FAILED, why=mine[0])
        return Outcome(Result.SKIPPED, why=shared[0] if shared else "the run ended before")
    if push.version is not None:
        return Outcome(Result.CACHED if push.version in before else Result.PUSHED, version=push.version)
    blessing = evaluated.get("blessing")
    if isinstance(blessing, Blessing) and blessing.blessed:
        return Outcome(
            Result.REFUSED,
            why="the gate blessed it, but somebody rolled back from it; only `promote` pushes it",
        )
    return Outcome(
        Result.REFUSED, why=why_not(evaluated["evaluation"].uri, name) if "evaluation" in evaluated else ""
    )
