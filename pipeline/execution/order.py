"""The order in which the nodes of a run start: what is ready, a variant's line before the next variant's."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.dag.partial import variant
from trainer import variants
from trainer.job import Job


class Queue:
    """The nodes of a run that have not started, and those that have not ended.

    TFX's own order has all trainers before the first evaluator. Here a variant's nodes come before those of
    the next variant, so that a run that is stopped has pushed what it had time for, and a model that is
    ready is not kept waiting by the training of another.
    """

    def __init__(self, nodes: Sequence[Any]) -> None:
        """Take the nodes of a compiled pipeline, in an order in which they could run one after another."""
        ranks = {"": -1}  # what all variants need comes before any of them
        for node in nodes:
            ranks.setdefault(variant(node.node_info.id), len(ranks))
        self._waiting = sorted(nodes, key=lambda node: ranks[variant(node.node_info.id)])
        self._unfinished = {node.node_info.id for node in nodes}

    def __bool__(self) -> bool:
        return bool(self._unfinished)

    def take(self, cores: int, most: int) -> Any | None:
        """Return the next node that may start now on `cores` free cores of `most`; None if there is none.

        A node that asks for more cores than there are gets all of them.
        """
        for node in self._waiting:
            ready = self._unfinished.isdisjoint(node.upstream_nodes)
            if ready and min(cores_of(node), most) <= cores:
                self._waiting.remove(node)
                return node
        return None

    def ended(self, name: str) -> None:
        """Note that a node has ended, well or not, or was left out."""
        self._unfinished.remove(name)


def cores_of(node: Any) -> int:
    """Return the cores that a node keeps busy: those of its recipe for a trainer, else 1."""
    parameters = node.parameters.parameters
    if "custom_config" not in parameters:
        return 1
    given = json.loads(parameters["custom_config"].field_value.string_value)
    if "job" not in given:
        return 1
    job = Job.from_dict(given["job"])
    return variants.load(job.variant).recipe.with_overrides(job.recipe).cores
