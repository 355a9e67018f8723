import json
import pathlib
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata

from components.evaluation.metrics import UNITS
from components.reporting import leaderboard
from pipeline.home.layout import Home
from pipeline.runs import report

BETTER = {"verdict": "better", "change": 4.0}


def row(variant: str, values: dict[str, float], **changes: Any) -> dict[str, Any]:
    metrics = {
        name: {"value": value, "lower": value - 0.6, "upper": value + 0.6, "unit": UNITS[name]}
        for name, value in values.items()
    }
    return {
        "variant": variant, "dataset": "mnist", "protocol": "threshold", "profile": "quick", "seed": 0,
        "steps": 3_000, "train_seconds": 41.2, "metrics": metrics, "blessed": True, "why_not": "",
        "pushed_version": 1_795_226_544, "comparison": {"why_not": "none"}, **changes,
    }  # fmt: skip


GENERATIVE = {"elbo": -155.93, "iwelbo": -153.2, "rate": 5.3, "distortion": 150.0, "active_units": 2}
BOTH = {**GENERATIVE, "accuracy": 0.97, "cross_entropy": 0.1}


def test_names_are_whole_and_lines_fit_a_terminal() -> None:
    name = "hypernet_scaled_2"
    text = report.table(
        [row("cvae", GENERATIVE, comparison=BETTER), row(name, BOTH), row("mlp", {"accuracy": 0.9})]
    )
    assert name in text
    assert "-155.9 ±0.6" in text
    assert max(map(len, text.split("\n"))) <= 100
    assert len([line for line in text.split("\n") if "cvae" in line]) == 1  # a row is a line


def test_columns_that_no_row_has_are_left_out() -> None:
    classifiers = report.table([row("mlp", {"accuracy": 0.9})])
    assert "accuracy" in classifiers
    assert "elbo" not in classifiers
    assert "change" not in classifiers
    assert "accuracy" not in report.table([row("cvae", GENERATIVE)])
    assert "▲ better" in report.table([row("cvae", GENERATIVE, comparison=BETTER)])


def test_what_is_not_blessed_is_not_pushed_and_says_why_below() -> None:
    refused = {"blessed": False, "pushed_version": None, "why_not": "elbo -300 is below the floor -205"}
    text = report.table([row("mlp", {"accuracy": 0.9}), row("cvae", GENERATIVE, **refused)])
    [first, second] = [
        line.split() for line in text.split("\n") if line.lstrip().startswith(("mlp", "cvae "))
    ][:2]
    assert first[-1] == "1795226544"
    assert second[-1] == "no"
    assert text.split("\n")[-1] == "cvae is not blessed: elbo -300 is below the floor -205"


def test_a_variant_that_failed_is_a_line_of_the_table() -> None:
    failed = {**row("aae", {}), "steps": None, "train_seconds": None, "dataset": None, "failed": "not finite"}
    text = report.table([failed, row("mlp", {"accuracy": 0.9})])
    assert text.startswith("dataset mnist ")
    [line] = [line for line in text.split("\n") if "aae" in line]
    assert line.split() == ["aae", "failed"]
    assert len(line) <= max(len(other) for other in text.split("\n") if "mlp" in other)  # in its own column
    assert "not blessed" not in text


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "home"


def executed(home: pathlib.Path, rows: list[dict[str, Any]], number: int) -> int:
    """The id of an execution whose output is a report on `rows`."""
    folder = home / "artifacts" / str(number)
    folder.mkdir(parents=True)
    (folder / leaderboard.FILE).write_text(json.dumps(rows))
    (folder / f"only-in-{number}").touch()
    config = metadata.sqlite_metadata_connection_config(str(home / "metadata.db"))
    with metadata.Metadata(config) as handle:
        store = handle.store
        kind = store.put_artifact_type(mlmd.ArtifactType(name="LatentlineReport"))
        run = store.put_execution_type(mlmd.ExecutionType(name="Leaderboard"))
        [artifact] = store.put_artifacts([mlmd.Artifact(type_id=kind, uri=str(folder))])
        [execution] = store.put_executions([mlmd.Execution(type_id=run)])
        event = mlmd.Event(artifact_id=artifact, execution_id=execution, type=mlmd.Event.OUTPUT)
        event.path.steps.add().key = "report"
        store.put_events([event])
    return int(execution)


def test_a_report_takes_the_place_of_the_one_before_as_a_whole(home: pathlib.Path) -> None:
    for number in (1, 2):
        rows = [row("mlp", {"accuracy": 0.5 + number / 10})]
        text = report.publish(Home(home), executed(home, rows, number))
        assert text == report.table(rows)
        present = sorted(path.name for path in (home / "report").iterdir())
        assert present == ["leaderboard.json", f"only-in-{number}"]
    assert not (home / ".report").exists()
