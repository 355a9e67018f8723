"""AnomalyGate, which stops a run whose data does not satisfy the schema or cannot support a verdict."""

import os
from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.validation import plausibility
from components.validation.statistics import split_statistics


class DataAnomaly(ValueError):
    """The data of this run does not satisfy the schema; the message names each anomaly."""


@component
def AnomalyGate(
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
) -> None:
    """Fail with DataAnomaly, naming the anomalies, if ExampleValidator found any in any split.

    Fails as well if the test split has classes that the train split lacks.
    """
    splits = artifact_utils.decode_split_names(statistics.split_names)
    check(anomalies, {split: split_statistics(statistics, split) for split in splits})


def check(
    anomalies: standard_artifacts.ExampleAnomalies,
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList] | None = None,
) -> None:
    """Raise DataAnomaly for an anomaly, or for missing classes by the `statistics` of the splits."""
    statistics = statistics or {}
    found = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        uri = artifact_utils.get_split_uri([anomalies], split)
        proto = anomalies_pb2.Anomalies()
        proto.ParseFromString(
            io_utils.read_bytes_file(os.path.join(uri, example_validator.DEFAULT_FILE_NAME))
        )
        for name, info in sorted(proto.anomaly_info.items()):
            found += [f"{split}/{name}: {each}" for each in _sentences(name, info, statistics.get(split))]
    if missing := plausibility.missing_classes(statistics):
        found.append(missing)
    if found:
        raise DataAnomaly(
            f"the data does not satisfy the schema ({'; '.join(found)}). "
            "Correct the data, or change schemas/schema.pbtxt if the data is right"
        )


def _sentences(
    name: str,
    info: anomalies_pb2.AnomalyInfo,
    statistics: statistics_pb2.DatasetFeatureStatisticsList | None,
) -> list[str]:
    """Return what is wrong with a feature; for a custom validation, TFDV's description is only the query."""
    kind = anomalies_pb2.AnomalyInfo.Type.Value(plausibility.CUSTOM)
    custom = [reason.short_description for reason in info.reason if reason.type == kind]
    if not custom:
        return [info.description]
    found = f" ({plausibility.measured(statistics, name)})" if statistics else ""
    # The first one only: the others of a feature follow from the same cause.
    return [f"{custom[0]}{found}", *(each.description for each in info.reason if each.type != kind)]
