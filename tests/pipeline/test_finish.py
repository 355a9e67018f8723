"""The exit task of a run on a cluster: what it enters in the journal, and whom it tells."""

import json
import pathlib
import signal
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.types import standard_artifacts

from components.evaluation import gated
from components.gate.record import decide
from components.gate.verdict import Difference
from pipeline import finish as entry
from pipeline.config.cluster import Data
from pipeline.config.engines import EVERY, LOCAL_BEAM
from pipeline.config.settings import Settings
from pipeline.execution.plan import Plan
from pipeline.home import journal, metadata
from pipeline.home.layout import Home
from pipeline.home.metadata import REASON
from pipeline.runs import finish


class Run:
    """A run on a cluster whose store is a SQLite file, and a hook that keeps what it is told."""

    def __init__(self, folder: pathlib.Path, variants: tuple[str, ...] = ("mlp",)) -> None:
        self.told = folder / "told"
        self.connection = metadata.connection(Home(folder))
        self.seen = folder / "environment"
        hook = f"sh -c 'cat >> {self.told}; echo >> {self.told}; env > {self.seen}'"
        settings = Settings(variants=variants, notify={"on_failure": hook, "webhook": "$HOOK"})  # type: ignore[arg-type]
        self.plan = Plan(
            settings, Data("d", "/d"), "/root", str(folder / "serving"), "/schema", {EVERY: LOCAL_BEAM}
        )
        self.home = Home.of_cluster(self.plan.serving, self.connection)

    def node(self, name: str, why: str = "", run: str = "run-1", given: Any = None) -> None:
        """Record a node that ended well and gave artifacts, by key, or failed with a reason."""
        with tfx_metadata.Metadata(self.connection) as handle:
            names = {"pipeline": "latentline", "pipeline_run": run, "node": f"latentline.{name}"}
            contexts = [context_lib.register_context_if_not_exists(handle, k, n) for k, n in names.items()]
            if why:
                failed = execution_lib.prepare_execution(
                    handle, mlmd.ExecutionType(name=name), mlmd.Execution.FAILED
                )
                failed.custom_properties[REASON].string_value = why
                execution_lib.put_execution(handle, failed, contexts)
                return
            made = execution_publish_utils.register_execution(handle, mlmd.ExecutionType(name=name), contexts)
            execution_publish_utils.publish_succeeded_execution(handle, made.id, contexts, given or {})

    def judged(self, name: str, gain: float) -> None:
        """Record a candidate that the gate refused for this gain in nats, of standard error 1, or blessed."""
        difference = Difference(np.asarray(gain), np.asarray(1.0), np.asarray(np.inf))
        record = decide(None, {"variant": name}, {"elbo": difference}, {}, {})
        evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
        for key, artifact in (("evaluation", evaluation), ("blessing", blessing)):
            artifact.uri = str(self.told.parent / f"{name}-{key}")
        pathlib.Path(evaluation.uri).mkdir()
        with (
            tf.io.TFRecordWriter(f"{evaluation.uri}/{tfma.METRICS_KEY}"),
            tf.io.TFRecordWriter(f"{evaluation.uri}/{tfma.VALIDATIONS_KEY}") as demands,
        ):
            demands.write(b"")  # a result of TFMA without failures
        pathlib.Path(evaluation.uri, gated.FILE).write_text(record.to_json())
        self.node(f"Evaluator.{name}", given={"evaluation": [evaluation], "blessing": [blessing]})
        push = standard_artifacts.PushedModel()
        push.uri = str(self.told.parent / f"{name}-push")
        self.node(f"Pusher.{name}", given={"pushed_model": [push]})

    def finish(self, run: str = "run-1") -> journal.RunRecord:
        return finish.finish(run, self.plan, self.connection, self.environment)

    environment: ClassVar = {"PATH": "/usr/bin:/bin", "LATENTLINE_METADATA_PASSWORD": "secret", "TOKEN": "t"}

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.told.read_text().splitlines() if line]


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    return Run(tmp_path)


def test_a_run_whose_data_task_failed_is_told_with_the_reason(run: Run) -> None:
    run.node("IdxExampleGen")
    run.node("DriftGate", "DataDrift: the labels have drifted")
    record = run.finish()
    assert (record.status, record.run) == ("failed", "run-1")
    assert record.error == "DriftGate failed: DataDrift: the labels have drifted"
    assert record.variants["mlp"].result == "skipped"
    [event] = run.events()
    assert (event["event"], event["text"]) == ("failure", record.error)
    assert record.hooks == ("webhook on failure: the environment variable HOOK is not set",)
    [kept] = journal.read(run.home)
    assert (kept.stamp, kept.error, kept.hooks) == (record.stamp, record.error, record.hooks)


def test_a_hook_gets_the_variables_of_the_secrets_but_not_those_of_the_metadata_store(run: Run) -> None:
    run.node("Trainer.mlp", "ValueError: no")
    run.finish()
    assert "TOKEN=t" in run.seen.read_text().split()
    assert "secret" not in run.seen.read_text()


@pytest.mark.parametrize(("variants", "result"), [(("mlp", "linear", "cvae"), "held"), (("mlp",), "refused")])
def test_a_refusal_that_chance_explains_among_the_variants_of_a_run_is_held_on_a_cluster_too(
    tmp_path: pathlib.Path, variants: tuple[str, ...], result: str
) -> None:
    run = Run(tmp_path, variants)
    for name in variants:
        run.judged(name, -2.6 if name == "mlp" else 0.0)
    run.node("Leaderboard")
    found = run.finish().variants["mlp"]
    assert (found.result, "elbo -2.6 nats" in found.why) == (result, True)


def test_a_run_that_just_stops_has_failed(run: Run) -> None:
    run.node("IdxExampleGen")
    assert "ended before Leaderboard" in run.finish().error


def test_a_run_that_came_to_its_end_has_succeeded_and_no_failure_is_told(run: Run) -> None:
    run.node("Leaderboard")
    assert run.finish().status == "succeeded"
    assert not run.told.exists()


def test_a_second_attempt_enters_nothing_twice_and_the_next_run_is_another(run: Run) -> None:
    run.node("Trainer.mlp", "ValueError: no")
    first, again = run.finish(), run.finish()
    assert again.stamp == first.stamp
    run.node("Leaderboard", run="run-2")
    run.finish("run-2")
    assert [record.run for record in journal.read(run.home)] == ["run-1", "run-2"]


@pytest.mark.parametrize(
    ("environment", "plan", "code"),
    [({}, True, 2), ({"LATENTLINE_METADATA_SQLITE": "/nowhere/metadata.db"}, True, 4), ({}, False, 2)],
)
def test_a_wrong_request_ends_with_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], plan: bool, code: int
) -> None:
    for name in ("SQLITE", "HOST", "PORT", "DATABASE", "USER", "PASSWORD"):
        monkeypatch.delenv(f"LATENTLINE_METADATA_{name}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(entry, "listen", lambda log_format, verbose: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as ended:
        entry.main(["--run-id", "run-1", "--plan", run.plan.text(hooks=True) if plan else "x"])
    assert ended.value.code == code
