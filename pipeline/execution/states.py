"""How the nodes of a run have ended, as the metadata store has it, which keeps the reasons of failures."""

import dataclasses
import enum
from typing import Any

from pipeline.home import metadata
from pipeline.home.metadata import REASON, Execution

LOST = "its process ended unexpectedly (killed or evicted)"


class Ended(enum.Enum):
    """How a node of a run has ended."""

    WELL = "well"
    FAILED = "failed"
    UNFINISHED = "unfinished"


@dataclasses.dataclass(frozen=True)
class NodeState:
    """How a node has ended, and why if it failed."""

    ended: Ended
    why: str = ""


def of_run(connection: Any, run_id: str) -> dict[str, NodeState]:
    """Return the state of each node of a run that has an execution, by node id."""
    with metadata.opened(connection) as store:
        executions = store.executions_of_run(run_id)
        return {store.node(execution.id).name: _state(execution) for execution in executions}


def record_failure(connection: Any, node: Any, why: str) -> None:
    """Record that `node`, a bound node of the IR, has failed in its run, and why."""
    with metadata.opened(connection) as store:
        store.record_failure(node, why)


def outputs(connection: Any, execution: int, kind: str) -> list[str]:
    """Return the places of the artifacts of a type that an execution gave."""
    with metadata.opened(connection) as store:
        given = store.outputs(execution) if execution else {}
    return [artifact.uri for artifacts in given.values() for artifact in artifacts if artifact.kind == kind]


def _state(execution: Execution) -> NodeState:
    if execution.state.succeeded:
        return NodeState(Ended.WELL)
    if execution.state.active:
        return NodeState(Ended.UNFINISHED, LOST)
    return NodeState(Ended.FAILED, str(execution.properties.get(REASON) or "the log says why"))
