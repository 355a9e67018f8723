"""The metadata store as a graph: artifacts, the executions that made them and those that used them."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import types
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.types import artifact_utils

from pipeline.home.layout import Home

Artifacts = dict[str, list[types.Artifact]]
"""Artifacts by the key under which an execution takes or gives them."""


class Node(NamedTuple):
    """Where an execution belongs: `Trainer.cvae` of a run of a pipeline."""

    name: str
    pipeline: str
    run: str


class Graph:
    """Walks along events. Executions and artifacts are those of the store."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._types = {kind.id: kind for kind in store.get_artifact_types()}

    def at(self, uri: str, kind: str) -> types.Artifact | None:
        """The newest artifact of the type named `kind` that lies at `uri`."""
        found = [a for a in self._store.get_artifacts_by_uri(uri) if self._types[a.type_id].name == kind]
        return self._typed(max(found, key=lambda artifact: artifact.id)) if found else None

    def of_type(self, kind: str) -> list[types.Artifact]:
        """All artifacts of a type that are there, oldest first."""
        found = [a for a in self._store.get_artifacts_by_type(kind) if a.state != mlmd.Artifact.DELETED]
        return [self._typed(artifact) for artifact in sorted(found, key=lambda artifact: artifact.id)]

    def of_node(self, pipeline: str, node: str, kind: str) -> list[types.Artifact]:
        """The artifacts of a type that a node of a pipeline gave, oldest first, deleted ones too."""
        context = self._store.get_context_by_type_and_name(
            constants.NODE_CONTEXT_TYPE_NAME, f"{pipeline}.{node}"
        )
        if context is None:
            return []
        executions = [execution.id for execution in self._store.get_executions_by_context(context.id)]
        events = self._store.get_events_by_execution_ids(executions) if executions else []
        numbers = {event.artifact_id for event in events if event.type == event.OUTPUT}
        found = [
            a for a in self._store.get_artifacts_by_id(sorted(numbers)) if self._types[a.type_id].name == kind
        ]
        return [self._typed(artifact) for artifact in found]

    def pipelines(self) -> list[str]:
        """The names of the pipelines that have run."""
        contexts = self._store.get_contexts_by_type(constants.PIPELINE_CONTEXT_TYPE_NAME)
        return sorted(context.name for context in contexts)

    def maker(self, artifact: types.Artifact) -> Any:
        """The execution that made the artifact: the first that gave it, later ones took it from the cache."""
        events = self._store.get_events_by_artifact_ids([artifact.id])
        [execution] = self._store.get_executions_by_id(
            [min(event.execution_id for event in events if event.type == event.OUTPUT)]
        )
        return execution

    def users(self, artifact: types.Artifact) -> list[Any]:
        """The executions that took the artifact, oldest first."""
        events = self._store.get_events_by_artifact_ids([artifact.id])
        numbers = {event.execution_id for event in events if event.type == event.INPUT}
        return list(self._store.get_executions_by_id(sorted(numbers))) if numbers else []

    def inputs(self, execution: Any) -> Artifacts:
        """What the execution took."""
        return self._around(execution, mlmd.Event.INPUT)

    def outputs(self, execution: Any) -> Artifacts:
        """What the execution gave."""
        return self._around(execution, mlmd.Event.OUTPUT)

    def node(self, execution: Any) -> Node:
        """Where the execution belongs."""
        names = {c.type: c.name for c in self._store.get_contexts_by_execution(execution.id)}
        pipeline = names.get(constants.PIPELINE_CONTEXT_TYPE_NAME, "")
        node = names.get(constants.NODE_CONTEXT_TYPE_NAME, "").removeprefix(f"{pipeline}.")
        return Node(node, pipeline, names.get(constants.PIPELINE_RUN_CONTEXT_TYPE_NAME, ""))

    def _around(self, execution: Any, direction: int) -> Artifacts:
        events = [e for e in self._store.get_events_by_execution_ids([execution.id]) if e.type == direction]
        if not events:
            return {}
        artifacts = {a.id: a for a in self._store.get_artifacts_by_id([e.artifact_id for e in events])}
        found: Artifacts = {}
        for event in events:
            found.setdefault(event.path.steps[0].key, []).append(self._typed(artifacts[event.artifact_id]))
        return found

    def _typed(self, artifact: Any) -> types.Artifact:
        return artifact_utils.deserialize_artifact(self._types[artifact.type_id], artifact)


def value(execution: Any, name: str) -> Any:
    """An execution property; None where the execution has none of that name."""
    for properties in (execution.custom_properties, execution.properties):
        if name in properties:
            kind = properties[name].WhichOneof("value")
            return getattr(properties[name], kind) if kind else None
    return None


def when(element: Any) -> str:
    """When an execution or artifact of the store was made, ISO 8601 in the machine's time zone."""
    moment = datetime.datetime.fromtimestamp(element.create_time_since_epoch / 1000).astimezone()
    return moment.isoformat(timespec="seconds")


def connection(home: Home) -> Any:
    """Return TFX's connection of the metadata store of a home."""
    return metadata.sqlite_metadata_connection_config(str(home.database))


@contextlib.contextmanager
def opened(home: Home) -> Iterator[tuple[Any, Graph]]:
    """The metadata store of a home: TFX's handle for writing, and the graph for reading."""
    with metadata.Metadata(connection(home)) as handle:
        yield handle, Graph(handle.store)
