"""Where a pipeline runs: the places it writes to, its metadata store, and Beam's arguments."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_node import BaseNode

from pipeline.config.cluster import EVERY, LOCAL_BEAM
from pipeline.home.layout import Home
from pipeline.home.metadata import connection
from schemas import SCHEMA_FILE


@dataclasses.dataclass(frozen=True)
class Target:
    """A place to run.

    Attributes:
      root: TFX's pipeline root, where artifacts go.
      serving: folder with a folder for each variant's pushed versions.
      schema: the curated schema file, as the process that runs ImportSchemaGen sees it.
      metadata: connection of the metadata store; None where each node's process brings its own.
      beam: Beam arguments by component class (`Transform`, ...); `default` is for the classes not named.
    """

    root: str
    serving: str
    schema: str
    metadata: Any = None
    beam: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=lambda: {EVERY: LOCAL_BEAM})

    def with_beam_arguments(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """The nodes, with Beam's arguments given to those that use Beam."""
        for node in nodes:
            if isinstance(node, BaseBeamComponent):
                node.with_beam_pipeline_args(list(self.beam.get(type(node).__name__, self.beam[EVERY])))
        return list(nodes)


def local(home: Home) -> Target:
    """Return this machine as a target: everything under `home`, metadata in SQLite, Beam in this process."""
    return Target(
        root=str(home.artifacts),
        serving=str(home.serving),
        schema=str(SCHEMA_FILE),
        metadata=connection(home),
    )
