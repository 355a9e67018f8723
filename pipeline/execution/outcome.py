"""What became of a node: TFX's launcher returns the same way from a success, a failure and a skip."""

import enum
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata


class Outcome(enum.Enum):
    """How a node ended."""

    COMPLETE = "complete"
    CACHED = "cached"
    SKIPPED = "skipped"
    """A condition was false; nothing was to be done."""
    UNRESOLVED = "unresolved"
    """Its inputs could not be resolved, which the launcher only logs."""

    @property
    def good(self) -> bool:
        """Whether what comes after may run."""
        return self is not Outcome.UNRESOLVED


def read(connection: Any, execution_id: int | None) -> Outcome:
    """What the metadata store at `connection` says of the execution that the launcher returned."""
    if not execution_id:
        return Outcome.SKIPPED
    with metadata.Metadata(connection) as handle:
        [execution] = handle.store.get_executions_by_id([execution_id])
    known = {mlmd.Execution.COMPLETE: Outcome.COMPLETE, mlmd.Execution.CACHED: Outcome.CACHED}
    return known.get(execution.last_known_state, Outcome.UNRESOLVED)
