"""What two models must have in common to be compared, from the examples that each was trained on."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx import types

from schemas import CLASSES, SIDE

DATASET, IMAGE_SHAPE, CLASS_COUNT = "dataset", "image_shape", "classes"
"""Custom properties of ingested examples: name of the data set, `28x28`, and values that a label can take."""
SHAPE = f"{SIDE}x{SIDE}"
SHAPE_OF_0_1, CLASSES_OF_0_1 = "28x28", 10
"""Of all examples of version 0.1, which did not record them."""
UNKNOWN = "unknown data"

EXAMPLES = "examples"
"""Key under which trainers and Transform take examples."""


class NotComparable(ValueError):
    """A candidate and the model in production have no test split or no metric in common."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a model was trained on.

    Attributes:
      dataset: name of the data set; UNKNOWN if nothing is recorded.
      protocol: of the binarization; empty if nothing is recorded.
      image_shape: rows and columns, as `28x28`.
      classes: values that a label can take.
    """

    dataset: str
    protocol: str
    image_shape: str = SHAPE
    classes: int = CLASSES

    def differences(self, other: "Identity") -> str:
        """Return what is otherwise in `other`, as `data set mnist, now fashion`; empty if nothing is."""
        words = {"dataset": "data set", "image_shape": "image shape"}
        theirs = vars(other)
        return ", ".join(
            f"{words.get(name, name)} {mine or 'unknown'}, now {theirs[name] or 'unknown'}"
            for name, mine in vars(self).items()
            if mine != theirs[name]
        )


def of_examples(examples: Any, protocol: str, dataset: str = UNKNOWN) -> Identity:
    """Return the identity of models that are trained on ingested examples, an artifact of TFX or its proto.

    dataset: name of data whose examples do not record it, as those of 0.1.
    """
    found = examples.mlmd_artifact if isinstance(examples, types.Artifact) else examples
    properties = found.custom_properties
    if DATASET not in properties:
        return Identity(dataset, protocol, SHAPE_OF_0_1, CLASSES_OF_0_1)
    return Identity(
        properties[DATASET].string_value,
        protocol,
        properties[IMAGE_SHAPE].string_value,
        properties[CLASS_COUNT].int_value,
    )


def of_model(store: mlmd.MetadataStore, model: int) -> Identity:
    """Return what the model of that id was trained on."""
    trainer = _maker(store, model)
    job = _job(trainer)
    protocol, dataset = str(job.get("protocol", "")), str(job.get("dataset") or UNKNOWN)
    made = trainer
    while made is not None and (given := _examples_of(store, made.id)):
        if DATASET in given.custom_properties:
            return of_examples(given, protocol)
        made = _maker(store, given.id)
    return Identity(dataset, protocol, SHAPE_OF_0_1, CLASSES_OF_0_1)


def datasets_of(store: mlmd.MetadataStore, artifacts: Collection[int]) -> dict[int, str]:
    """Return the data set of what was made from ingested examples, such as statistics, by its id.

    What was made from examples of 0.1, which do not record it, is left out.
    """
    makers: dict[int, int] = {}
    for event in store.get_events_by_artifact_ids(list(artifacts)) if artifacts else ():
        if event.type == mlmd_pb2.Event.OUTPUT:
            first = makers.get(event.artifact_id, event.execution_id)
            makers[event.artifact_id] = min(first, event.execution_id)
    taken = {
        event.execution_id: event.artifact_id
        for event in (store.get_events_by_execution_ids(set(makers.values())) if makers else ())
        if _is_examples(event)
    }
    examples = {each.id: each for each in store.get_artifacts_by_id(set(taken.values()))} if taken else {}
    return {
        artifact: examples[taken[maker]].custom_properties[DATASET].string_value
        for artifact, maker in makers.items()
        if maker in taken and DATASET in examples[taken[maker]].custom_properties
    }


def _job(trainer: mlmd_pb2.Execution | None) -> Mapping[str, Any]:
    """Return what a trainer was asked to do; empty if it is not recorded."""
    if trainer is None:
        return {}
    try:
        job = json.loads(trainer.custom_properties["custom_config"].string_value)["job"]
    except (ValueError, KeyError, TypeError):
        return {}
    return job if isinstance(job, dict) else {}


def _maker(store: mlmd.MetadataStore, artifact: int) -> mlmd_pb2.Execution | None:
    """Return the execution that made an artifact, the first that gave it; None if none did."""
    events = store.get_events_by_artifact_ids([artifact])
    made = [event.execution_id for event in events if event.type == mlmd_pb2.Event.OUTPUT]
    return store.get_executions_by_id([min(made)])[0] if made else None


def _examples_of(store: mlmd.MetadataStore, execution: int) -> mlmd_pb2.Artifact | None:
    """Return the examples that an execution took; None if it took none."""
    taken = [
        event.artifact_id for event in store.get_events_by_execution_ids([execution]) if _is_examples(event)
    ]
    return store.get_artifacts_by_id(taken[:1])[0] if taken else None


def _is_examples(event: mlmd_pb2.Event) -> bool:
    keys = [step.key for step in event.path.steps]
    return event.type == mlmd_pb2.Event.INPUT and EXAMPLES in keys
