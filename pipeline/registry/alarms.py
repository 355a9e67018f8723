"""Alarms for slow decline in ML Metadata: which stand, and what is recorded when somebody ends one."""

import json
from typing import NamedTuple

from tfx.types import standard_artifacts
from tfx.utils import io_utils

from components.evaluation import gated, nights
from components.gate.record import Record
from components.serving import manifests
from pipeline.home import metadata
from pipeline.home.journal import Command
from pipeline.home.metadata import Artifact, Store

TYPES = {
    command: f"{nights.BY_PERSONS}{command.capitalize()}" for command in (Command.ACCEPT, Command.RESUME)
}
"""Names of the execution types of the decisions that end an alarm and nothing else."""
EVALUATION = "evaluation"
"""Key of what a decision gives that ends an alarm."""


class Newest(NamedTuple):
    """The gate's newest record of a variant, and what holds it: an evaluation, or what a decision gave."""

    variant: str
    record: Record
    artifact: Artifact


def newest(store: Store) -> dict[str, Newest]:
    """Return the gate's newest record of each variant. Raises ValueError where one cannot be read."""
    by_variant: dict[str, dict[int, Artifact]] = {}
    for each in store.of_type(metadata.EVALUATION):
        if text := each.text(nights.GATE):
            by_variant.setdefault(json.loads(text)["era"]["variant"], {})[each.id] = each
    found = {}
    for variant, artifacts in by_variant.items():
        last = nights.newest([artifact.tfx for artifact in artifacts.values()])
        assert last is not None
        found[variant] = Newest(variant, nights.record(last), artifacts[last.id])
    return found


def after(record: Record, command: Command) -> Record:
    """Return what the gate goes on from once somebody has ended the alarm of a record with that word."""
    return record.accepted() if command is Command.ACCEPT else record.resumed()


def end(store: Store, newest: Newest, command: Command, user: str, reason: str, root: str) -> Record:
    """Record in ML Metadata, in one execution, that somebody ended an alarm with ACCEPT or RESUME.

    root: the pipeline root. Returns what the gate goes on from. Raises OSError.
    """
    kind, going_on = TYPES[command], after(newest.record, command)
    pipeline = store.node(store.maker(newest.artifact).id).pipeline
    facts: dict[str, str | int] = {"variant": newest.variant, "user": user, "reason": reason}
    decision = store.begin_decision(kind, pipeline, newest.variant, newest.artifact, facts, key=EVALUATION)
    folder = "/".join([root.rstrip("/"), kind, EVALUATION, str(decision.execution)])
    store.finish(decision, {EVALUATION: [write(going_on, folder)]})
    return going_on


def write(record: Record, folder: str) -> standard_artifacts.ModelEvaluation:
    """Write a record into the folder of what a decision gives, and return that artifact. Raises OSError."""
    io_utils.write_string_file(f"{folder}/{gated.FILE}", record.to_json())
    if "://" not in folder:
        manifests.write(folder)
    made = standard_artifacts.ModelEvaluation()
    made.uri = folder
    made.set_string_custom_property(nights.GATE, record.to_json())
    return made
