"""Where a pipeline runs: the places it writes to, its metadata store, and what Beam runs on."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_node import BaseNode

from pipeline.config.engines import COMPONENTS, EVERY, LOCAL_BEAM
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
      beam: Beam arguments by component (`Transform`, ...); `default` is for those not named.
    """

    root: str
    serving: str
    schema: str
    metadata: Any = None
    beam: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=lambda: {EVERY: LOCAL_BEAM})

    def with_beam_arguments(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes, with Beam's arguments given to those that TFX takes for components of Beam.

        IdxExampleGen is one by its class only and keeps to its own process.
        """
        for node in nodes:
            if isinstance(node, BaseBeamComponent):
                component = re.split("[.-]", node.id)[0]
                chosen = self.beam.get(component, self.beam[EVERY])
                node.with_beam_pipeline_args(list(chosen if component in COMPONENTS else LOCAL_BEAM))
        return list(nodes)


def local(home: Home, beam: Mapping[str, Sequence[str]]) -> Target:
    """Return this machine as a target: everything under `home`, metadata in SQLite."""
    return Target(
        root=str(home.artifacts),
        serving=str(home.serving),
        schema=str(SCHEMA_FILE),
        metadata=connection(home),
        beam=beam,
    )
