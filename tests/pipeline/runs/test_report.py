import dataclasses
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata

from components.evaluation.metrics import UNITS
from components.reporting import leaderboard
from pipeline.home import archive
from pipeline.home.journal import Command, Outcome, Result, RunRecord
from pipeline.home.layout import Home
from pipeline.runs import failure, report
from schemas.records import Change, Gain, Metric, Row, Status, Training, Verdict

BETTER = Change("elbo", -160.0, "smoke", 60, 4.0, 0.8, Verdict.BETTER)
TRAINING = Training(
    family="generative", dataset="mnist", protocol="threshold", profile="quick", seed=0, steps=3_000,
    batch_size=32, parameters=69_989, examples=60_000, importance_samples=5, train_seconds=41.2,
    step_seconds=40.0, images_per_second=2_000.0,
)  # fmt: skip


def row(variant: str, values: dict[str, float], **changes: Any) -> Row:
    metrics = {name: Metric(value, value - 0.6, value + 0.6, UNITS[name]) for name, value in values.items()}
    facts = {"status": Status.PUSHED, "pushed_version": 1_795_226_544, "training": TRAINING, **changes}
    return Row(variant=variant, metrics=metrics, **facts)


GENERATIVE = {"elbo": -155.93, "iwelbo": -153.2, "rate": 5.3, "distortion": 150.0, "active_units": 2}
BOTH = {**GENERATIVE, "accuracy": 0.97, "cross_entropy": 0.1}
GAIN = Gain(1.2, 0.8, 1.6, "nats per image", "elbo", "/a/model/3", 17)


def table(rows: list[Row]) -> str:
    """The leaderboard where every version that was pushed is the newest."""
    return report.table(rows, {row.variant: [row.pushed_version] for row in rows if row.pushed_version})


def cells(text: str, variant: str) -> list[list[str]]:
    """The rows of the table that begin with the variant's name."""
    return [
        line.split() for line in text.split("\n") if line.split()[:1] == [variant] and "is not" not in line
    ]


@pytest.mark.parametrize("gain", [None, GAIN])
@pytest.mark.parametrize("change", [None, BETTER])
@pytest.mark.parametrize("seconds", [0.5, 11_345.0])
def test_names_are_whole_and_tables_fit_80_columns(
    gain: Gain | None, change: Change | None, seconds: float
) -> None:
    name = "hypernet_scaled_2"
    slow = dataclasses.replace(TRAINING, train_seconds=seconds, steps=123_456)
    facts = {"gain": gain, "change": change, "training": slow}
    rows = [row("cvae", GENERATIVE, **facts), row(name, BOTH, **facts), row("mlp", {"accuracy": 0.9})]
    text = table(rows)
    assert "-155.9 ±0.6" in text
    assert max(map(len, text.split("\n"))) <= report.WIDTH
    assert len(cells(text, "cvae")) == 1
    assert len(cells(text, name)) == 2  # a model of both families is a row of each table
    assert len(cells(text, "mlp")) == 1


def test_columns_that_no_row_has_are_left_out() -> None:
    classifiers = table([row("mlp", {"accuracy": 0.9})])
    assert "accuracy" in classifiers
    assert "elbo" not in classifiers
    assert "change" not in classifiers
    assert "gain" not in classifiers
    assert "accuracy" not in table([row("cvae", GENERATIVE)])
    assert "▲ better" in table([row("cvae", GENERATIVE, change=BETTER)])


def test_the_gain_of_a_model_of_both_families_is_in_the_table_of_its_metric() -> None:
    text = table([row("m2", BOTH, gain=GAIN), row("mlp", {"accuracy": 0.9})])
    assert text.count("+1.2 ±0.4") == 1
    assert "+1.2 ±0.4" in text.split("Classifiers")[0]


def test_a_row_has_one_verdict() -> None:
    text = table([row("cvae", GENERATIVE, change=BETTER, gain=GAIN)])
    assert "+1.2 ±0.4" in text
    assert "better" not in text


def test_what_is_not_blessed_is_not_pushed_and_says_why_below() -> None:
    why = "elbo -300 is below the floor -205"
    refused = row("cvae", GENERATIVE, status=Status.REFUSED, pushed_version=None, why_not=why)
    text = table([row("mlp", {"accuracy": 0.9}), refused])
    assert cells(text, "mlp")[0][-1] == "1795226544"
    assert cells(text, "cvae")[0][-1] == "no"
    assert text.split("\n")[-1] == f"cvae is not blessed: {why}"


def test_a_variant_that_failed_is_a_line_below_the_tables() -> None:
    text = table([Row("aae", Status.FAILED, why_not="not finite"), row("mlp", {"accuracy": 0.9})])
    assert text.startswith("dataset mnist ")
    assert text.split("\n")[-1] == "aae failed: not finite"
    assert "not blessed" not in text


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "home"


def executed(home: pathlib.Path, rows: list[Row], number: int) -> int:
    """The id of an execution whose output is a report on `rows`."""
    folder = home / "artifacts" / str(number)
    folder.mkdir(parents=True)
    (folder / leaderboard.FILE).write_text(json.dumps([each.to_json() for each in rows]))
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


def test_a_version_that_was_replaced_is_not_called_pushed() -> None:
    [cell] = cells(
        report.table([row("mlp", {"accuracy": 0.9})], {"mlp": [1_795_226_544, 1_795_999_999]}), "mlp"
    )
    assert cell[-1] == "replaced"
    [cell] = cells(report.table([row("mlp", {"accuracy": 0.9})], {}), "mlp")
    assert cell[-1] == "replaced"


def present(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_takes_the_place_of_the_one_before_as_a_whole_and_each_is_archived(
    home: pathlib.Path,
) -> None:
    for number in (1, 2):
        rows = [row("mlp", {"accuracy": 0.5 + number / 10})]
        text = report.publish(Home(home), executed(home, rows, number), f"night-{number}")
        assert text == report.table(rows, {})
        assert present(home / "report") == ["leaderboard.json", f"only-in-{number}", "runs"]
    assert not (home / ".report").exists()
    for number in (1, 2):
        kept = home / "report" / "runs" / f"night-{number}"
        assert present(kept) == ["leaderboard.json", f"only-in-{number}"]
    assert present(home / "report" / "runs") == ["night-1", "night-2"]


FAILED = RunRecord(
    stamp="20261125-030000", number=3, command=Command.RUN, host="h", pid=1, process="p",
    started="2026-11-25T03:00:00+01:00", spans=("span-5",),
    variants={
        "mlp": Outcome(Result.SKIPPED, why="DriftGate failed: <b>ink</b> has drifted"),
        "cvae": Outcome(Result.FAILED, why="not finite"),
    },
)  # fmt: skip


def test_a_failed_run_leaves_a_page_with_what_failed_the_log_s_end_and_the_last_figures(
    home: pathlib.Path,
) -> None:
    report.publish(Home(home), executed(home, [row("mlp", {"accuracy": 0.9})], 1), "20261124-030000")
    log = home / "run.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    failed = dataclasses.replace(FAILED, log=str(log))
    failure.publish(Home(home), failed, "DriftGate failed: <b>ink</b> has drifted")
    newest, archived = home / "report", home / "report" / "runs" / failed.stamp
    for folder, link in ((newest, "runs/20261124-030000"), (archived, "../20261124-030000")):
        text = (folder / "index.html").read_text()
        assert "The run of 2026-11-25 03:00 failed" in text
        assert text.count("&lt;b&gt;ink&lt;/b&gt; has drifted") == 1
        assert "line 999\n" not in text.split("line 960")[0]
        assert "line 959" not in text
        assert "line 999" in text
        assert "span-5" in text
        assert "<td>not finite</td>" in text
        [found] = re.findall(r'href="([^"#]+)"', text)
        assert found == f"{link}/index.html"
        assert (folder / link).is_dir()
    assert (newest / "leaderboard.json").exists()  # the last figures there are
    assert present(archived) == ["index.html"]


def test_the_first_run_s_failure_has_a_page_without_a_link(home: pathlib.Path) -> None:
    home.mkdir()
    failure.publish(Home(home), FAILED, "MNIST cannot be downloaded")
    text = (home / "report" / "index.html").read_text()
    assert "MNIST cannot be downloaded" in text
    assert re.findall(r'href="([^"#]+)"', text) == []


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (1, ["4", "5"]),
        (2, ["2", "3", "4", "5"]),
        (3, ["1", "2", "3", "4", "5"]),
        (9, ["1", "2", "3", "4", "5"]),
    ],
)
def test_reports_of_failed_runs_are_kept_as_long_as_those_beside_them(
    home: pathlib.Path, keep: int, left: list[str]
) -> None:
    for stamp, good in {"1": True, "2": True, "3": False, "4": True, "5": False}.items():
        folder = Home(home).report_of(stamp)
        folder.mkdir(parents=True)
        (folder / ("leaderboard.json" if good else "index.html")).touch()
    gone = archive.outdated(Home(home), keep)
    assert sorted(set("12345") - {path.name for path in gone}) == left


def test_the_page_of_a_failure_is_written_without_tensorflow_and_tfx() -> None:
    code = "import sys, pipeline.runs.run; sys.exit(bool({'tfx', 'tensorflow'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
