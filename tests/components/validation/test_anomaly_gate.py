import pathlib

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import standard_artifacts

from components.validation import anomaly_gate as gate


def anomalies(folder: pathlib.Path, **by_split: dict[str, str]) -> standard_artifacts.ExampleAnomalies:
    artifact = standard_artifacts.ExampleAnomalies()
    artifact.uri = str(folder)
    artifact.split_names = '["train", "eval"]'
    for split in ("train", "eval"):
        proto = anomalies_pb2.Anomalies()
        for feature, description in by_split.get(split, {}).items():
            proto.anomaly_info[feature].description = description
        path = folder / f"Split-{split}" / "SchemaDiff.pb"
        path.parent.mkdir()
        path.write_bytes(proto.SerializeToString())
    return artifact


def test_clean_data_passes(tmp_path: pathlib.Path) -> None:
    gate.check(anomalies(tmp_path))


def test_an_anomaly_in_any_split_stops_the_run_and_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(gate.DataAnomaly, match="eval/label: Out-of-range values"):
        gate.check(anomalies(tmp_path, eval={"label": "Out-of-range values"}))
