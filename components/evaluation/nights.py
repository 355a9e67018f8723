"""The nights of a variant in ML Metadata: which record a night starts from, and which models it measures."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx import types
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import standard_artifacts

from components.gate.record import Record
from components.serving import manifests, pushed, versions

GATE = "gate"
"""Custom property of an evaluation, and of what a person's decision gives: the record of the gate."""
CANDIDATE = "candidate_model_id"
"""Custom property of an evaluation: the model that it is of. A person's decision has none."""
DECISIONS = ("accept", "resume", "rollback")
"""Keys of EarlierNight's inputs that hold what a person's decision gave: each word ends an alarm."""
BY_PERSONS = "latentline."
"""How the names of execution types begin that record a person's decision."""

log = logging.getLogger(__name__)


class EarlierNight(ResolverStrategy):
    """Resolves the gate's last record of a variant before the candidate was first judged, and its anchors.

    A candidate that was judged before meets the same record again, so that a second identical run is cached
    and no candidate counts twice; unless somebody has decided since, or an alarm of a later night stands.
    Inputs: `candidate`, `evaluation`, `model`, and one for each of DECISIONS; the resolved `evaluation` and
    `model` may be empty. A model that somebody rolled back from is no anchor. In a home of 0.1, which has no
    records, the oldest intact model that the gate pushed under today's settings is the anchor.
    """

    def __init__(self, serving: str = "", job: str = "{}") -> None:
        """Set the folder of the variant's versions, and what its trainer is asked to do, as JSON.

        As JSON, since TFX restores a mapping only if all its values have one type.
        """
        self._serving, self._job = serving, json.loads(job)

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolve the inputs; TFX calls this. Raises ValueError or OSError where a record cannot be read."""
        try:
            return self._resolved(store, input_dict)
        except (OSError, ValueError) as error:
            # TFX swallows what a strategy raises; the runner reports what is logged.
            log.error("what the gate knows of earlier nights cannot be read: %s", error)
            raise

    def _resolved(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        evaluations = [each for key in ("evaluation", *DECISIONS) for each in input_dict.get(key, ())]
        found = before(candidates, evaluations)
        withdrawn = versions.withdrawn(self._serving) if self._serving else set()
        usable = [m for m in input_dict["model"] if versions.artifact_name(m.uri) not in withdrawn]
        if found:
            wanted = {anchor.model for anchor in record(found).anchors}
            anchors = [model for model in usable if model.id in wanted]
        else:
            others = [model for model in usable if model.id not in candidates]
            anchors = [] if ordered(evaluations) else first_pushed(store, others, self._job)
        return {**input_dict, "evaluation": [found] if found else [], "model": anchors}


def record(evaluation: types.Artifact) -> Record:
    """Return the gate's record of an evaluation. Raises ValueError where it cannot be read."""
    return Record.from_json(evaluation.get_string_custom_property(GATE))


def ordered(evaluations: Sequence[types.Artifact]) -> list[types.Artifact]:
    """Return those evaluations that have a record, in the order of the nights, and decisions among them.

    A candidate that was judged again keeps its place, so that an old one does not cut the era short. After a
    decision, a candidate that is judged again counts as new.
    """
    first: dict[int, int] = {}
    found = []
    for each in sorted(evaluations, key=lambda evaluation: evaluation.id):
        if not each.get_string_custom_property(GATE):
            continue
        candidate = _candidate(each)
        if not candidate:
            first.clear()
        found.append((first.setdefault(candidate, each.id) if candidate else each.id, each.id, each))
    return [each for _, _, each in sorted(found, key=lambda entry: entry[:2])]


def newest(evaluations: Sequence[types.Artifact]) -> types.Artifact | None:
    """Return the evaluation or decision with the newest record; None if there is none."""
    known = ordered(evaluations)
    return known[-1] if known else None


def before(candidates: Collection[int], evaluations: Sequence[types.Artifact]) -> types.Artifact | None:
    """Return what holds the record that a candidate, given by its id, starts from; None for an empty one."""
    known = ordered(evaluations)
    decided = max((index for index, each in enumerate(known) if not _candidate(each)), default=-1)
    mine = [index for index, each in enumerate(known) if index > decided and _candidate(each) in candidates]
    if not known or not mine:
        return known[-1] if known else None
    if _candidate(known[-1]) not in candidates and record(known[-1]).alarm:
        return known[-1]
    first = known[mine[0]].id
    earlier = [each for each in known[: mine[0]] if each.id < first]
    return earlier[-1] if earlier else None


def first_pushed(
    store: mlmd.MetadataStore, models: Sequence[types.Artifact], job: Mapping[str, Any]
) -> list[types.Artifact]:
    """Return the oldest intact model that the gate has pushed and that was trained as `job` asks; or none."""
    for model in sorted(models, key=lambda artifact: artifact.id):
        events = store.get_events_by_artifact_ids([model.id])
        made = [event.execution_id for event in events if event.type == mlmd_pb2.Event.OUTPUT]
        used = [event.execution_id for event in events if event.type == mlmd_pb2.Event.INPUT]
        if not any(_trained_as(store, number, job) for number in made):
            continue
        if not any(_pushed_by(store, number) for number in used):
            continue
        if "://" in model.uri or not manifests.damage(model.uri, thorough=True):
            return [model]
    return []


def _trained_as(store: mlmd.MetadataStore, execution: int, job: Mapping[str, Any]) -> bool:
    [found] = store.get_executions_by_id([execution])
    try:
        asked = json.loads(found.custom_properties["custom_config"].string_value)["job"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(asked, dict) and {**asked, "seed": 0} == {**job, "seed": 0}


def _pushed_by(store: mlmd.MetadataStore, execution: int) -> bool:
    """Return whether an execution is one of the pipeline's own, and has pushed a model."""
    [found] = store.get_executions_by_id([execution])
    if found.type.startswith(BY_PERSONS):
        return False
    events = store.get_events_by_execution_ids([execution])
    given = [event.artifact_id for event in events if event.type == mlmd_pb2.Event.OUTPUT]
    for raw in store.get_artifacts_by_id(given) if given else ():
        if raw.type == standard_artifacts.PushedModel.TYPE_NAME:
            push = standard_artifacts.PushedModel()
            push.set_mlmd_artifact(raw)
            if pushed.version(push) is not None:
                return True
    return False


def _candidate(evaluation: types.Artifact) -> int:
    return int(evaluation.get_int_custom_property(CANDIDATE) or 0)
