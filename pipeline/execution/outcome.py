"""What became of a node: TFX's launcher returns the same way from a success, a failure and a skip."""

import enum
from typing import Any

from pipeline.home import metadata
from pipeline.home.metadata import State


class NodeOutcome(enum.Enum):
    """How a node ended."""

    COMPLETE = "complete"
    CACHED = "cached"
    SKIPPED = "skipped"
    """A condition was false; nothing was to be done."""
    UNRESOLVED = "unresolved"
    """Its inputs could not be resolved, which the launcher only logs."""

    @property
    def good(self) -> bool:
        """Return whether what comes after the node may run."""
        return self is not NodeOutcome.UNRESOLVED


def read(connection: Any, execution_id: int | None) -> NodeOutcome:
    """Return what the store of a connection or handle says of the execution that the launcher returned."""
    if not execution_id:
        return NodeOutcome.SKIPPED
    with metadata.opened(connection) as store:
        state = store.execution(execution_id).state
    return {State.COMPLETE: NodeOutcome.COMPLETE, State.CACHED: NodeOutcome.CACHED}.get(
        state, NodeOutcome.UNRESOLVED
    )
