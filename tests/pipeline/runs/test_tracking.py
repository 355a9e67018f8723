import dataclasses
import importlib.util
import json
import pathlib
import socket
from typing import Any

import mlflow
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from mlflow import MlflowClient
from tfx.orchestration import metadata

from pipeline.commands import run
from pipeline.config.errors import SettingsError
from pipeline.config.settings import Settings
from pipeline.dag.fingerprint import trainer_code
from pipeline.runs import tracking
from schemas import TRAINING_RECORD
from schemas.records import Gain, Metric, Row, Status, Training

ROW = Row(
    variant="mlp",
    status=Status.PUSHED,
    training=Training(
        family="classifier", summary="A classifier.", dataset="digits", seed=3, protocol="threshold",
        profile="smoke", steps=60, batch_size=64, parameters=26_506, examples=1433, importance_samples=5,
        train_seconds=2.5, step_seconds=2.0, images_per_second=900.0, config={"hidden": [16]},
        recipe={"learning_rate": 0.01},
        resolved={
            "config": {"hidden": [16], "activation": "as it was then"},
            "recipe": {"learning_rate": 0.01, "optimizer": "adam", "floor": 0.5},
        },
    ),
    metrics={"accuracy": Metric(0.93, 0.9, 0.96, "fraction")},
    pushed_version=17,
    span=4,
    gain=Gain(0.01, -0.02, 0.04, "fraction", "accuracy"),
)  # fmt: skip
RECORD: dict[str, Any] = {
    "curve": [{"step": step, "values": {"loss": 1 / step}} for step in range(1, 1501)],
    "held_out": [{"step": 30, "values": {"loss": float("nan")}}, {"step": 60, "values": {"loss": 0.5}}],
}


class Home:
    """A home as a run of one good and one failed variant leaves it, without the run."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for part in ("pictures", "cards"):
            (folder / "report" / part / "mlp").mkdir(parents=True)
            (folder / "report" / part / "mlp" / f"{part}.txt").write_text(part)
        rows = [ROW.to_json(), Row("aae", Status.FAILED, why_not="no disk").to_json()]
        (folder / "report" / "leaderboard.json").write_text(json.dumps(rows))
        self.settings = Settings(variants=("mlp", "aae"), home=str(folder), mlflow=str(folder / "mlruns"))
        self.executions = {
            "Trainer.mlp": self.execute("model_run"),
            "Evaluator.mlp": self.execute("evaluation"),
        }
        (folder / "model_run" / TRAINING_RECORD).write_text(json.dumps(RECORD))
        self.client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
        self.said: list[str] = []

    def execute(self, key: str) -> int:
        """An execution with one output."""
        (self.folder / key).mkdir(exist_ok=True)
        config = metadata.sqlite_metadata_connection_config(str(self.folder / "metadata.db"))
        with metadata.Metadata(config) as handle:
            store = handle.store
            kind = store.put_artifact_type(mlmd.ArtifactType(name=key))
            node = store.put_execution_type(mlmd.ExecutionType(name=f"of {key}"))
            [artifact] = store.put_artifacts([mlmd.Artifact(type_id=kind, uri=str(self.folder / key))])
            [execution] = store.put_executions([mlmd.Execution(type_id=node)])
            event = mlmd.Event(artifact_id=artifact, execution_id=execution, type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = key
            store.put_events([event])
        return int(execution)

    def publish(self, run: str = "20260101-000000") -> None:
        tracking.publish(self.settings, self.executions, run, self.said.append)

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("latentline")
        return list(self.client.search_runs([experiment.experiment_id])) if experiment else []


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path)


def test_what_was_logged_is_read_back_by_mlflow_s_own_client(home: Home) -> None:
    home.publish()
    [run] = home.runs()
    # Pictures that a server stores are sent where MLflow as a whole points to, not where one client does.
    assert mlflow.get_tracking_uri() == tracking.address(home.settings.mlflow)
    assert run.info.run_name == "mlp"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time >= 2_500
    params = run.data.params
    assert (params["variant"], params["dataset"], params["seed"]) == ("mlp", "digits", "3")
    assert (params["config.hidden"], params["recipe.learning_rate"]) == ("[16]", "0.01")
    assert params["recipe.optimizer"] == "adam"  # also what nobody changed
    assert params["config.activation"] == "as it was then"  # not as the code has it now
    assert params["span"] == "4"
    assert params["code"] == trainer_code("mlp")
    assert run.data.metrics["test/accuracy"] == 0.93
    assert run.data.metrics["test/accuracy_upper"] == 0.96
    assert run.data.metrics["test/gain_over_production"] == 0.01
    tags = run.data.tags
    assert (tags["blessed"], tags["pushed_version"], tags["latentline.run"]) == (
        "yes",
        "17",
        "20260101-000000",
    )
    curve = home.client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in curve] == [
        (point["step"], point["values"]["loss"]) for point in RECORD["curve"]
    ]
    [held_out] = home.client.get_metric_history(
        run.info.run_id, "held_out/loss"
    )  # without what is not finite
    assert (held_out.step, held_out.value) == (60, 0.5)
    for inside, part in (("pictures", "pictures"), ("model_card", "cards")):
        [file] = home.client.list_artifacts(run.info.run_id, inside)
        assert file.path == f"{inside}/{part}.txt"
    assert home.said == [
        f"MLflow {home.settings.mlflow and tracking.address(home.settings.mlflow)}: 1 logged, 0 there already"
    ]


def test_of_a_record_of_0_1_what_was_overridden_is_logged() -> None:
    old = dataclasses.replace(ROW, training=dataclasses.replace(ROW.trained, resolved={}))
    found = tracking.params(old)
    assert found["config.hidden"] == [16]
    assert "recipe.optimizer" not in found


def test_a_model_is_logged_once_and_a_newly_evaluated_one_again(home: Home) -> None:
    home.publish()
    home.publish("20260102-000000")
    assert len(home.runs()) == 1
    assert home.said[-1].endswith("0 logged, 1 there already")
    home.executions["Evaluator.mlp"] = home.execute("evaluation")
    home.publish("20260103-000000")
    assert len(home.runs()) == 2


def test_what_was_logged_in_part_is_logged_anew(home: Home) -> None:
    cards = home.folder / "report" / "cards"
    cards.rename(home.folder / "elsewhere")
    home.publish()
    assert "the run itself is complete" in home.said[-1]
    assert [run.info.status for run in home.runs()] == ["RUNNING"]
    (home.folder / "elsewhere").rename(cards)
    home.publish()
    assert sorted(run.info.status for run in home.runs()) == ["FINISHED", "RUNNING"]
    home.publish()
    assert len(home.runs()) == 2


def test_a_server_that_is_down_is_one_line_and_no_failure(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        object.__setattr__(home.settings, "mlflow", f"http://127.0.0.1:{free.getsockname()[1]}")
        home.publish()
    [line] = home.said
    assert line.startswith(f"! MLflow {home.settings.mlflow}: ")
    assert "Connection refused; the run itself is complete" in line


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ("/data/ml runs", "file:///data/ml%20runs"),
        ("file:///a", "file:///a"),
        ("http://b:5000", "http://b:5000"),
    ],
)
def test_folders_and_addresses_are_both_places(place: str, uri: str) -> None:
    assert tracking.address(place) == uri


def test_without_its_client_nothing_starts_and_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: found(name, *rest) if name != "mlflow" else None
    )
    Settings(variants=("mlp",))
    with pytest.raises(SettingsError, match="pip install mlflow-skinny==") as raised:
        Settings(variants=("mlp",), mlflow="/runs")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("place", ["sqlite:///a.db", "databricks://b"])
def test_places_that_the_client_alone_cannot_use_are_refused(place: str) -> None:
    with pytest.raises(SettingsError, match="mlflow must be a folder"):
        Settings(variants=("mlp",), mlflow=place)


def test_the_command_s_option_is_the_setting() -> None:
    assert "mlflow" in run.FIELDS
