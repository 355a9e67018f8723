"""What models are trained on, traced through ML Metadata as TFX records it."""

import json
from typing import Any

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2

from components import identity
from components.identity import CLASSES_OF_0_1, DATASET, SHAPE_OF_0_1, UNKNOWN, Identity

ASKED = {"dataset": "as asked", "protocol": "grey"}


class Records:
    """A store into which executions are entered, with what they took and gave."""

    def __init__(self) -> None:
        fake = mlmd_pb2.ConnectionConfig(fake_database=mlmd_pb2.FakeDatabaseConfig())
        self.store = mlmd.MetadataStore(fake)
        self._kind = self.store.put_artifact_type(mlmd_pb2.ArtifactType(name="Anything"))
        self._execution = self.store.put_execution_type(mlmd_pb2.ExecutionType(name="Anything"))

    def made(self, taken: dict[str, int], job: Any = None, **properties: str | int) -> int:
        """Enter an execution that took artifacts by key and gave one; the id of that."""
        artifact = mlmd_pb2.Artifact(type_id=self._kind)
        for name, value in properties.items():
            if isinstance(value, int):
                artifact.custom_properties[name].int_value = value
            else:
                artifact.custom_properties[name].string_value = value
        [given] = self.store.put_artifacts([artifact])
        execution = mlmd_pb2.Execution(type_id=self._execution)
        if job is not None:
            execution.custom_properties["custom_config"].string_value = json.dumps({"job": job})
        [maker] = self.store.put_executions([execution])
        events = [self._event(given, maker, mlmd_pb2.Event.OUTPUT, "given")]
        events += [self._event(each, maker, mlmd_pb2.Event.INPUT, key) for key, each in taken.items()]
        self.store.put_events(events)
        return int(given)

    @staticmethod
    def _event(artifact: int, execution: int, kind: Any, key: str) -> mlmd_pb2.Event:
        event = mlmd_pb2.Event(artifact_id=artifact, execution_id=execution, type=kind)
        event.path.steps.add().key = key
        return event


@pytest.fixture
def records() -> Records:
    return Records()


def test_a_model_was_trained_on_what_its_examples_say_whatever_its_trainer_was_told(records: Records) -> None:
    raw = records.made({}, dataset="scans", image_shape="32x32", classes=26)
    transformed = records.made({"examples": raw})
    other = records.made({}, job={})
    model = records.made({"base_model": other, "examples": transformed}, job=ASKED)
    assert identity.of_model(records.store, model) == Identity("scans", "grey", "32x32", 26)


@pytest.mark.parametrize(
    ("job", "dataset", "protocol"),
    [(ASKED, "as asked", "grey"), ({}, UNKNOWN, ""), (None, UNKNOWN, ""), ([], UNKNOWN, "")],
)
def test_a_model_of_before_was_trained_on_what_its_trainer_was_told(
    records: Records, job: Any, dataset: str, protocol: str
) -> None:
    transformed = records.made({"examples": records.made({})})
    model = records.made({"examples": transformed}, job=job)
    expected = Identity(dataset, protocol, SHAPE_OF_0_1, CLASSES_OF_0_1)
    assert identity.of_model(records.store, model) == expected


def test_what_was_made_of_examples_is_of_their_data_set(records: Records) -> None:
    scans, letters = (records.made({}, dataset=name) for name in ("scans", "letters"))
    made = [records.made({"examples": each}) for each in (scans, letters, records.made({}))]
    assert identity.datasets_of(records.store, made) == {made[0]: "scans", made[1]: "letters"}
    assert identity.datasets_of(records.store, []) == {}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({}, ""),
        ({DATASET: "scans"}, "data set mnist, now scans"),
        ({"protocol": "grey", "classes": 26}, "protocol threshold, now grey, classes 10, now 26"),
        ({"image_shape": "32x32"}, "image shape 28x28, now 32x32"),
    ],
)
def test_each_difference_is_named_with_what_was_and_what_is(now: dict[str, Any], words: str) -> None:
    before = Identity("mnist", "threshold", "28x28", 10)
    assert before.differences(Identity(**{**vars(before), **now})) == words
