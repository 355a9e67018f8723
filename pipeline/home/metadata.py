"""The one door to ML Metadata, with typed answers; besides this module only the launcher opens the store."""

import contextlib
import dataclasses
import datetime
import enum
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import filelock
import ml_metadata
from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import types
from tfx.components.evaluator import constants as evaluator
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.types import artifact_utils, standard_artifacts

from components.identity import Identity, of_model
from components.serving import pushed, versions
from pipeline.home.layout import Home

MODEL = standard_artifacts.Model.TYPE_NAME
EVALUATION = standard_artifacts.ModelEvaluation.TYPE_NAME
BLESSING = standard_artifacts.ModelBlessing.TYPE_NAME
NAME = re.compile(r"[\w.-]+/[\w.-]+/\d+")
"""What names an artifact: node, output key and execution."""
LOCK = "latentline_lock"
"""Context type of the claims to locks, and their custom property that names the lock."""
TRIES = 5
"""How often a change of a claim is tried that meets other transactions."""
REASON = "latentline_error"
"""Custom property of a failed execution: why, in one line."""
PLACES = (
    evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY,
    evaluator.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY,
    pushed.DESTINATION,
)
"""Custom properties of artifacts that hold paths under the home."""
ERRORS = (RuntimeError, errors.StatusError)
"""What a store that cannot be opened, read or written raises, whichever library notices it."""
PATIENCE = 600.0
"""Seconds that a process of a run waits at most for its turn; each takes a fraction of a second."""


class State(enum.Enum):
    """How far an execution has come."""

    UNKNOWN = mlmd.Execution.UNKNOWN
    NEW = mlmd.Execution.NEW
    RUNNING = mlmd.Execution.RUNNING
    COMPLETE = mlmd.Execution.COMPLETE
    FAILED = mlmd.Execution.FAILED
    CACHED = mlmd.Execution.CACHED
    CANCELED = mlmd.Execution.CANCELED

    @property
    def active(self) -> bool:
        """Return whether some process is, or was, at work on the execution."""
        return self in (State.NEW, State.RUNNING)

    @property
    def succeeded(self) -> bool:
        """Return whether the outputs of the execution may be used."""
        return self in (State.COMPLETE, State.CACHED)


class Node(NamedTuple):
    """Where an execution belongs: `Trainer.cvae` of a run of a pipeline."""

    name: str
    pipeline: str
    run: str

    @property
    def variant(self) -> str:
        """Return the variant that the node is of; empty for a node of all variants."""
        return self.name.partition(".")[2]


@dataclasses.dataclass(frozen=True)
class Execution:
    """One execution.

    Attributes:
      id: its number in the store.
      state: how far it has come.
      made: when it was registered, in milliseconds since 1970.
      properties: its execution properties by name.
    """

    id: int
    state: State
    made: int
    properties: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One artifact.

    Attributes:
      id: its number in the store.
      kind: name of its type.
      uri: its folder.
      live: whether the store still counts on its files.
      made: when it was recorded, in milliseconds since 1970.
      tfx: the artifact as TFX's own functions take it.
    """

    id: int
    kind: str
    uri: str
    live: bool
    made: int
    tfx: types.Artifact = dataclasses.field(repr=False, compare=False)

    @property
    def local(self) -> bool:
        """Return whether the artifact lies on a file system of this machine."""
        return "://" not in self.uri

    def text(self, name: str) -> str:
        """Return a custom property that is text; empty if the artifact has none of that name."""
        return str(self.tfx.get_string_custom_property(name))


class Model(Artifact):
    """A trained model."""


class Blessing(Artifact):
    """A verdict on a model, by the gate or by a person."""

    @property
    def blessed(self) -> bool:
        """Return whether the verdict allows a push."""
        found = self.tfx.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY)
        return bool(found == evaluator.BLESSED_VALUE)

    @property
    def model(self) -> int:
        """Return the id of the model that the verdict is on."""
        return int(self.tfx.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY))

    @property
    def model_uri(self) -> str:
        """Return the folder of the model that the verdict is on."""
        return self.text(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY)

    @property
    def baseline(self) -> int:
        """Return the id of the model that the candidate was compared with; 0 for none."""
        return int(self.tfx.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY) or 0)


class Push(Artifact):
    """What a push, promotion or rollback left: the version, or that there is none."""

    @property
    def version(self) -> int | None:
        """Return the version that the model was pushed as; None if it was not pushed."""
        return pushed.version(self.tfx)

    @property
    def destination(self) -> str:
        """Return the folder of the version; empty if the model was not pushed."""
        return pushed.destination(self.tfx)


KINDS: Mapping[str, type[Artifact]] = {
    MODEL: Model,
    BLESSING: Blessing,
    standard_artifacts.PushedModel.TYPE_NAME: Push,
}
Artifacts = dict[str, list[Artifact]]
"""Artifacts by the key under which an execution takes or gives them."""


class Decision(NamedTuple):
    """An execution that records what a person decides, from its registration to its end."""

    execution: int
    contexts: Sequence[Any]


class Claim(NamedTuple):
    """A claim to the lock `name`: `number` counts its claims, `beats` the holder's signs of life."""

    name: str
    number: int
    holder: str
    beats: int
    released: bool


class Store:
    """The metadata store, open; lists are in the order in which their elements were recorded.

    Paths of a home's store are given as they are in the home in which the store was found, wherever the home
    lay when they were recorded.
    """

    def __init__(self, handle: metadata.Metadata, home: Home | None = None) -> None:
        """Read through an open handle; home: in which the store was found, None for one outside homes."""
        self._handle = handle
        self._home = home
        self._store = handle.store
        self._types: dict[int, Any] = {}

    def at(self, uri: str, kind: str) -> Artifact | None:
        """Return the newest artifact of the type named `kind` that lies at `uri`; None if there is none."""
        if self._home:
            uri = self._home.here(uri)
        there = self._store.get_artifacts_by_uri(uri) or self._recorded_elsewhere(uri)
        found = [a for a in there if self._kind(a.type_id).name == kind]
        return self._artifact(max(found, key=lambda artifact: artifact.id)) if found else None

    def move(self, home: Home) -> bool:
        """Record all paths as they are in `home`; return whether that changed any.

        All of them change in one transaction; the newest artifact shows whether there is something to do.
        """
        options = ml_metadata.ListOptions(limit=1, order_by=ml_metadata.OrderByField.ID, is_asc=False)
        if not any(_move(each, home) for each in self._store.get_artifacts(list_options=options)):
            return False
        moved = [each for each in self._store.get_artifacts() if _move(each, home)]
        self._store.put_artifacts(moved)
        return True

    def artifact(self, number: int) -> Artifact:
        """Return the artifact of that id. Raises ValueError if there is none."""
        [found] = self._store.get_artifacts_by_id([number])
        return self._artifact(found)

    def of_type(self, kind: str) -> list[Artifact]:
        """Return all artifacts of a type that are not recorded as deleted."""
        found = [a for a in self._store.get_artifacts_by_type(kind) if a.state != mlmd.Artifact.DELETED]
        return [self._artifact(artifact) for artifact in _ascending(found)]

    def blessings(self) -> list[Blessing]:
        """Return all verdicts on models, those whose files are gone as well."""
        found = self._store.get_artifacts_by_type(BLESSING)
        return [each for a in _ascending(found) if isinstance(each := self._artifact(a), Blessing)]

    def of_node(self, pipeline: str, node: str, kind: str) -> list[Artifact]:
        """Return the artifacts of a type that a node of a pipeline gave, deleted ones as well."""
        executions = self._executions_of(constants.NODE_CONTEXT_TYPE_NAME, f"{pipeline}.{node}")
        numbers = {e.artifact_id for e in self._events(e.id for e in executions) if e.type == e.OUTPUT}
        found = self._store.get_artifacts_by_id(sorted(numbers))
        return [self._artifact(a) for a in found if self._kind(a.type_id).name == kind]

    def live_artifacts(self) -> list[Artifact]:
        """Return all artifacts whose files the store counts on."""
        options = ml_metadata.ListOptions(filter_query="state = LIVE")
        return [self._artifact(a) for a in _ascending(self._store.get_artifacts(list_options=options))]

    def artifacts_of(self, executions: Collection[int]) -> set[int]:
        """Return the ids of the artifacts that the executions took, gave, or had from the cache."""
        return {event.artifact_id for event in self._events(executions)}

    def pipelines(self) -> list[str]:
        """Return the names of the pipelines that have run."""
        contexts = self._store.get_contexts_by_type(constants.PIPELINE_CONTEXT_TYPE_NAME)
        return sorted(context.name for context in contexts)

    def maker(self, artifact: Artifact) -> Execution:
        """Return the execution that made the artifact: the first that gave it; later ones had it cached."""
        events = self._store.get_events_by_artifact_ids([artifact.id])
        first = min(event.execution_id for event in events if event.type == event.OUTPUT)
        [execution] = self._store.get_executions_by_id([first])
        return _execution(execution)

    def identity(self, model: Artifact) -> Identity:
        """Return what a model was trained on."""
        return of_model(self._store, model.id)

    def users(self, artifact: Artifact) -> list[Execution]:
        """Return the executions that took the artifact."""
        events = self._store.get_events_by_artifact_ids([artifact.id])
        numbers = {event.execution_id for event in events if event.type == event.INPUT}
        found = self._store.get_executions_by_id(sorted(numbers)) if numbers else []
        return [_execution(execution) for execution in found]

    def inputs(self, execution: int) -> Artifacts:
        """Return what an execution took, by input key."""
        return self._around(execution, mlmd.Event.INPUT)

    def outputs(self, execution: int) -> Artifacts:
        """Return what an execution gave, or what the original gave if it was cached, by output key."""
        return self._around(execution, mlmd.Event.OUTPUT)

    def node(self, execution: int) -> Node:
        """Return where an execution belongs."""
        names = {c.type: c.name for c in self._store.get_contexts_by_execution(execution)}
        pipeline = names.get(constants.PIPELINE_CONTEXT_TYPE_NAME, "")
        node = names.get(constants.NODE_CONTEXT_TYPE_NAME, "").removeprefix(f"{pipeline}.")
        return Node(node, pipeline, names.get(constants.PIPELINE_RUN_CONTEXT_TYPE_NAME, ""))

    def execution(self, number: int) -> Execution:
        """Return the execution of that id. Raises ValueError if there is none."""
        [found] = self._store.get_executions_by_id([number])
        return _execution(found)

    def executions(self) -> list[Execution]:
        """Return all executions."""
        return [_execution(execution) for execution in _ascending(self._store.get_executions())]

    def active_executions(self) -> list[Execution]:
        """Return the executions that are recorded as under way."""
        found = []
        for state in ("NEW", "RUNNING"):
            options = ml_metadata.ListOptions(filter_query=f"last_known_state = {state}")
            found += self._store.get_executions(list_options=options)
        return [_execution(execution) for execution in _ascending(found)]

    def newest_execution(self) -> Execution | None:
        """Return the newest execution; None if there is none."""
        options = ml_metadata.ListOptions(limit=1, order_by=ml_metadata.OrderByField.ID, is_asc=False)
        found = self._store.get_executions(list_options=options)
        return _execution(found[0]) if found else None

    def executions_of_node(self, pipeline: str, node: str) -> list[Execution]:
        """Return the executions of a node of a pipeline."""
        found = self._executions_of(constants.NODE_CONTEXT_TYPE_NAME, f"{pipeline}.{node}")
        return [_execution(execution) for execution in _ascending(found)]

    def executions_of_run(self, run: str) -> list[Execution]:
        """Return the executions that belong to the run of that name."""
        found = self._executions_of(constants.PIPELINE_RUN_CONTEXT_TYPE_NAME, run)
        return [_execution(execution) for execution in _ascending(found)]

    def mark_failed(self, execution: int) -> None:
        """Record an execution as failed."""
        [found] = self._store.get_executions_by_id([execution])
        found.last_known_state = mlmd.Execution.FAILED
        self._store.put_executions([found])

    def active_executions_of(self, node: Any) -> list[Execution]:
        """Return the executions of `node`, a bound node of a pipeline's IR, that have not ended."""
        contexts = context_lib.prepare_contexts(self._handle, node.contexts)
        found = execution_lib.get_executions_associated_with_all_contexts(self._handle, contexts)
        return [_execution(each) for each in found if execution_lib.is_execution_active(each)]

    def record_failure(self, node: Any, why: str) -> None:
        """Record that `node`, a bound node of a pipeline's IR, has failed in its run, and why.

        An execution that was left unfinished becomes a failed one; where there is none, one is made.
        """
        contexts = context_lib.prepare_contexts(self._handle, node.contexts)
        found = execution_lib.get_executions_associated_with_all_contexts(self._handle, contexts)
        for execution in found:
            if not execution_lib.is_execution_successful(execution):
                execution.last_known_state = mlmd.Execution.FAILED
                execution.custom_properties[REASON].string_value = why
                self._store.put_executions([execution])
        if not found:
            made = execution_lib.prepare_execution(self._handle, node.node_info.type, mlmd.Execution.FAILED)
            made.custom_properties[REASON].string_value = why
            execution_lib.put_execution(self._handle, made, contexts)

    def mark_deleted(self, artifact: Artifact) -> None:
        """Record that the files of an artifact are gone, so that nothing is read from its folder again."""
        [found] = self._store.get_artifacts_by_id([artifact.id])
        found.state = mlmd.Artifact.DELETED
        self._store.put_artifacts([found])

    def mark_live(self, artifact: Artifact) -> None:
        """Record that the files of an artifact are there again."""
        [found] = self._store.get_artifacts_by_id([artifact.id])
        found.state = mlmd.Artifact.LIVE
        self._store.put_artifacts([found])

    def begin_decision(
        self,
        kind: str,
        pipeline: str,
        variant: str,
        about: Artifact,
        facts: Mapping[str, str | int],
        key: str = "model",
    ) -> Decision:
        """Register the execution of a person's decision, which takes the artifact `about` as its input `key`.

        kind: name of the execution type.
        """
        register = context_lib.register_context_if_not_exists
        parent = register(self._handle, constants.PIPELINE_CONTEXT_TYPE_NAME, pipeline)
        run = f"{kind}-{time.time_ns()}"
        contexts = [
            parent,
            register(self._handle, constants.PIPELINE_RUN_CONTEXT_TYPE_NAME, run, parent_contexts=[parent]),
            register(self._handle, constants.NODE_CONTEXT_TYPE_NAME, f"{pipeline}.{kind}.{variant}"),
        ]
        execution = execution_publish_utils.register_execution(
            self._handle,
            mlmd.ExecutionType(name=kind),
            contexts,
            input_artifacts={key: [about.tfx]},
            exec_properties=dict(facts),
        )
        return Decision(execution.id, contexts)

    def finish_decision(
        self,
        decision: Decision,
        model: Artifact,
        blessing: str,
        push: str,
        destination: str,
        version: int,
        others: Mapping[str, Sequence[types.Artifact]] | None = None,
    ) -> None:
        """Record that a decision was carried out, with a blessing of `model` as the gate gives one.

        blessing, push: folders of the two artifacts; destination: folder of the version; others: what else
        the decision gives, by output key.
        """
        blessed = standard_artifacts.ModelBlessing()
        blessed.uri = blessing
        blessed.set_string_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
        blessed.set_int_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
        blessed.set_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY, evaluator.BLESSED_VALUE)
        made = standard_artifacts.PushedModel()
        made.uri = push
        pushed.mark(made, destination, version)
        self.finish(decision, {"blessing": [blessed], "pushed_model": [made], **(others or {})})

    def finish(self, decision: Decision, given: Mapping[str, Sequence[types.Artifact]]) -> None:
        """Record that a decision was carried out, with what it gives by output key."""
        execution_publish_utils.publish_succeeded_execution(
            self._handle, decision.execution, decision.contexts, dict(given)
        )

    def claim(self, name: str, number: int, holder: str) -> Claim | None:
        """Make the claim of that number to a lock; None if somebody else made it or the store was busy."""
        made = mlmd.Context(name=f"{name} {number}")
        made.custom_properties[LOCK].string_value = name
        made.custom_properties["number"].int_value = number
        made.custom_properties["holder"].string_value = holder
        try:
            made.type_id = self._store.put_context_type(mlmd.ContextType(name=LOCK))
            self._store.put_contexts([made])
        except (errors.AlreadyExistsError, errors.AbortedError):
            return None
        return Claim(name, number, holder, 0, released=False)

    def newest_claim(self, name: str) -> Claim | None:
        """Return the newest claim to a lock; None if there is none."""
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        query = f"type = '{LOCK}' AND custom_properties.{LOCK}.string_value = '{quoted}'"
        options = ml_metadata.ListOptions(
            limit=1, order_by=ml_metadata.OrderByField.ID, is_asc=False, filter_query=query
        )
        found = [_claim(context) for context in self._store.get_contexts(list_options=options)]
        return found[0] if found else None

    def keep(self, claim: Claim, beats: int) -> None:
        """Write down a sign of life of the holder of a claim."""
        self._change_claim(claim, "beats", beats)

    def release(self, claim: Claim) -> None:
        """Give a lock back."""
        self._change_claim(claim, "released", 1)

    def _change_claim(self, claim: Claim, name: str, value: int) -> None:
        change = mlmd.Context()
        for attempt in range(1, TRIES + 1):
            change.CopyFrom(self._store.get_context_by_type_and_name(LOCK, f"{claim.name} {claim.number}"))
            change.custom_properties[name].int_value = value
            try:
                self._store.put_contexts([change])
                return
            except errors.AbortedError:  # of two transactions that met, the store gave this one up
                if attempt == TRIES:
                    raise
                time.sleep(0.1 * attempt)

    def _executions_of(self, kind: str, name: str) -> Sequence[Any]:
        context = self._store.get_context_by_type_and_name(kind, name)
        return self._store.get_executions_by_context(context.id) if context else []

    def _events(self, executions: Iterable[int]) -> Sequence[Any]:
        numbers = sorted(executions)
        return self._store.get_events_by_execution_ids(numbers) if numbers else []

    def _around(self, execution: int, direction: int) -> Artifacts:
        events = [e for e in self._events([execution]) if e.type == direction]
        artifacts = {a.id: a for a in self._store.get_artifacts_by_id([e.artifact_id for e in events])}
        found: Artifacts = {}
        for event in events:
            # An artifact that is taken under two keys, as a baseline and an anchor, has one event with both.
            for key in [step.key for step in event.path.steps if step.HasField("key")]:
                found.setdefault(key, []).append(self._artifact(artifacts[event.artifact_id]))
        return found

    def _recorded_elsewhere(self, uri: str) -> Sequence[Any]:
        """Return the artifacts of a home that was moved, and not recorded anew since, by what names them."""
        name = versions.artifact_name(uri)
        if not self._home or not NAME.fullmatch(name):
            return []
        options = ml_metadata.ListOptions(filter_query=f"uri LIKE '%/{self._home.artifacts.name}/{name}'")
        found = self._store.get_artifacts(list_options=options)
        return [each for each in found if versions.artifact_name(each.uri) == name]  # _ is any letter to LIKE

    def _kind(self, number: int) -> Any:
        if number not in self._types:
            self._types = {kind.id: kind for kind in self._store.get_artifact_types()}
        return self._types[number]

    def _artifact(self, raw: Any) -> Artifact:
        kind = self._kind(raw.type_id)
        if self._home:
            _move(raw, self._home)
        return KINDS.get(kind.name, Artifact)(
            id=raw.id,
            kind=kind.name,
            uri=raw.uri,
            live=raw.state != mlmd.Artifact.DELETED,
            made=raw.create_time_since_epoch,
            tfx=artifact_utils.deserialize_artifact(kind, raw),
        )


def when(element: Execution | Artifact) -> str:
    """Return when an execution or artifact was recorded, ISO 8601 in the time zone of the machine."""
    return moment(element.made)


def moment(milliseconds: int) -> str:
    """Return a time of the store, in milliseconds since 1970, as `when` does."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(timespec="seconds")


class InTurn(metadata.Metadata):
    """TFX's handle of a store that processes of one run share: it is open in one of them at a time.

    SQLite would refuse one of two transactions that meet, after it has done part of the work. The lock is
    the kernel's, so that it is free again when its holder is killed.
    """

    def __init__(self, home: Home) -> None:
        super().__init__(connection(home))
        self.home = home
        self._lock = filelock.FileLock(home.metadata_lock)

    def __enter__(self) -> "InTurn":
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.005)
        except filelock.Timeout as error:
            raise RuntimeError(
                f"{self.home.database} was in use by other components for {PATIENCE:.0f} s; "
                "if none of them is running any more, the same command goes on from here"
            ) from error
        try:
            super().__enter__()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            super().__exit__(*raised)
        finally:
            self._lock.release()


def connection(home: Home) -> Any:
    """Return TFX's connection of the metadata store of a home."""
    if home.shared:
        return home.shared.connection
    return metadata.sqlite_metadata_connection_config(str(home.database))


@contextlib.contextmanager
def opened(where: Home | Any) -> Iterator[Store]:
    """Open the metadata store of a home, of a connection or of TFX's handle. Raises what ERRORS lists."""
    with handle(where) as ready:
        yield Store(ready, _home(where))


def handle(where: Home | Any) -> metadata.Metadata:
    """Return TFX's handle of the metadata store of a home or of a connection; a handle stays what it is."""
    if isinstance(where, metadata.Metadata):
        return where
    return metadata.Metadata(connection(where) if isinstance(where, Home) else where)


def _home(where: Home | Any) -> Home | None:
    """Return the home that the store belongs to, where that is known."""
    if isinstance(where, InTurn):
        return where.home
    return where if isinstance(where, Home) else None


def _move(raw: Any, home: Home) -> bool:
    """Replace the paths of an artifact by those in `home`; return whether that changed any."""
    found = {name: value.string_value for name, value in raw.custom_properties.items() if name in PLACES}
    changed = raw.uri != home.here(raw.uri)
    raw.uri = home.here(raw.uri)
    for name, path in found.items():
        changed = changed or path != home.here(path)
        raw.custom_properties[name].string_value = home.here(path)
    return changed


def _claim(raw: Any) -> Claim:
    values = raw.custom_properties
    return Claim(
        values[LOCK].string_value,
        values["number"].int_value,
        values["holder"].string_value,
        values["beats"].int_value,
        released=bool(values["released"].int_value),
    )


def _execution(raw: Any) -> Execution:
    properties = {}
    for values in (raw.properties, raw.custom_properties):
        for name, value in values.items():
            kind = value.WhichOneof("value")
            properties[name] = getattr(value, kind) if kind else None
    return Execution(raw.id, State(raw.last_known_state), raw.create_time_since_epoch, properties)


def _ascending(elements: Iterable[Any]) -> list[Any]:
    return sorted(elements, key=lambda element: element.id)
