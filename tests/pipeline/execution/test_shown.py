import json
import pathlib

import pytest

from pipeline.execution import shown

ROWS = [
    {"name": "cvae", "metrics": {"elbo": {"value": -101.5, "lower": -103.0}, "rate": {"value": 9.0}}},
    {"name": "mlp.s1", "metrics": {"accuracy": {"value": 0.97, "unit": "fraction"}}},
    {"name": "broken", "metrics": None},
    {"name": "failed"},
]


@pytest.fixture
def report(tmp_path: pathlib.Path) -> str:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>report</h1>")
    (folder / "leaderboard.md").write_text("| variant |")
    (folder / "leaderboard.json").write_text(json.dumps(ROWS))
    return str(folder)


def executor_input(scheme: str) -> str:
    """What Kubeflow puts in place of `{{$}}`, as its launcher of 2.17 writes it."""
    artifacts = {
        name: {
            "artifacts": [{"name": name, "type": {"schemaTitle": kind}, "uri": f"{scheme}bucket/run/{name}"}]
        }
        for name, kind in (
            ("page", "system.HTML"),
            ("summary", "system.Markdown"),
            ("metrics", "system.Metrics"),
        )
    }
    outputs = {"artifacts": artifacts, "outputFile": "/tmp/kfp_outputs/output_metadata.json"}
    return json.dumps({"inputs": {"parameterValues": {}}, "outputs": outputs})


@pytest.mark.parametrize(("scheme", "mount"), [("minio://", "minio"), ("s3://", "s3"), ("gs://", "gcs")])
def test_the_report_lies_where_the_launcher_takes_it_from(
    report: str, tmp_path: pathlib.Path, scheme: str, mount: str
) -> None:
    shown.publish(executor_input(scheme), report, mounts=str(tmp_path))
    assert (tmp_path / mount / "bucket/run/page").read_text() == "<h1>report</h1>"
    assert (tmp_path / mount / "bucket/run/summary").read_text() == "| variant |"
    [metrics] = json.loads((tmp_path / "tmp/kfp_outputs/output_metadata.json").read_text())["artifacts"][
        "metrics"
    ]["artifacts"]
    assert metrics["uri"] == f"{scheme}bucket/run/metrics"
    assert metrics["metadata"] == {"cvae.elbo": -101.5, "mlp.s1.accuracy": 0.97}


def test_storage_of_an_unknown_kind_is_refused(report: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="begins with none of gs://, s3://, minio://"):
        shown.publish(executor_input("oss://"), report, mounts=str(tmp_path))
