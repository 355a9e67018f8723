"""AnomalyGate, which stops a run whose data does not satisfy the schema."""

import os

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils


class DataAnomaly(ValueError):
    """The data of this run does not satisfy the schema; the message names each anomaly."""


@component
def AnomalyGate(anomalies: InputArtifact[standard_artifacts.ExampleAnomalies]) -> None:
    """Fail with DataAnomaly, naming the anomalies, if ExampleValidator found any in any split."""
    check(anomalies)


def check(anomalies: standard_artifacts.ExampleAnomalies) -> None:
    """Raise DataAnomaly if the artifact has an anomaly."""
    found = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        uri = artifact_utils.get_split_uri([anomalies], split)
        proto = anomalies_pb2.Anomalies()
        proto.ParseFromString(
            io_utils.read_bytes_file(os.path.join(uri, example_validator.DEFAULT_FILE_NAME))
        )
        found += [f"{split}/{name}: {info.description}" for name, info in sorted(proto.anomaly_info.items())]
    if found:
        raise DataAnomaly(
            f"the data does not satisfy the schema ({'; '.join(found)}). "
            "Correct the data, or change schemas/schema.pbtxt if the data is right"
        )
