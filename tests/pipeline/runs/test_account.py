"""What came of a run is entered in the journal: here of runs that end before training, on real spans."""

import pathlib

import numpy as np
import pytest
from tfx.dsl.compiler.compiler import Compiler

from components.ingest import idx, sources
from pipeline.config.errors import RunFailed
from pipeline.config.notify import DRIFT, FAILURE
from pipeline.config.settings import Settings
from pipeline.dag.partial import variant
from pipeline.execution.local import LocalRunner
from pipeline.home import journal
from pipeline.home.layout import Home
from pipeline.pipeline import create_pipeline
from pipeline.runs import account, hooks

AFTER = ("Transform", "Resolver.report", "Leaderboard")


def deliver(folder: pathlib.Path, change: int) -> None:
    """Digits as a span, grey values XORed with `change`."""
    folder.mkdir(parents=True)
    for split, prefix in idx.PREFIXES.items():
        images, labels = sources.digits()[split]
        idx.write(str(folder / f"{prefix}-images-idx3-ubyte"), images ^ np.uint8(change))
        idx.write(str(folder / f"{prefix}-labels-idx1-ubyte"), labels)


def run(settings: Settings) -> journal.RunRecord:
    """The record of a run of the nodes before Transform."""
    home = pathlib.Path(settings.home)
    writer, error = journal.Writer.begin(Home(home), journal.Command.RUN), None
    ir = Compiler().compile(create_pipeline(settings, sources.Dataset("data", settings.data)))
    nodes = [node.pipeline_node.node_info.id for node in ir.nodes]
    for index in reversed(range(len(nodes))):
        if nodes[index] in AFTER or variant(nodes[index]) in settings.variants:
            del ir.nodes[index]
    runner = LocalRunner(lambda line: None)
    try:
        runner.run_with_ir(ir)
    except RunFailed as failure:
        error = failure
    account.settle(writer, settings, runner, {}, pytest.fail)
    writer.end(1.0, error)
    return writer.record


def test_a_run_that_drift_stopped_is_a_failure_and_a_drift(tmp_path: pathlib.Path) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    home.mkdir()
    settings = Settings(variants=("linear",), data=str(data), home=str(home), spans=1)
    deliver(data / "span-1", 0)
    first = run(settings)
    assert (first.spans, first.drift, first.exit_code) == (("span-1",), (), 0)
    assert first.variants == {"linear": journal.Outcome(journal.Result.SKIPPED, why="the run ended before")}
    deliver(data / "span-2", 255)
    second = run(settings)
    assert (second.spans, second.exit_code) == (("span-2",), 1)
    assert second.drift
    assert all("has drifted" in line for line in second.drift)
    assert second.variants["linear"].result == journal.Result.SKIPPED
    assert second.variants["linear"].why.startswith("DriftGate failed")
    assert [event["event"] for event in hooks.events(second)] == [FAILURE, DRIFT]
    assert journal.read(Home(home))[-1] == second


def test_a_store_that_cannot_be_read_is_said_and_hides_nothing(tmp_path: pathlib.Path) -> None:
    settings = Settings(variants=("linear",), home=str(tmp_path / "home"))
    said: list[str] = []
    runner = LocalRunner(said.append)
    runner.executions = {"Pusher.linear": 3}
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "metadata.db").write_text("no database at all, but long enough to be looked at" * 9)
    writer = journal.Writer.begin(Home(tmp_path / "home"), journal.Command.RUN)
    account.settle(writer, settings, runner, {}, said.append)
    [line] = said
    assert line.startswith("! the outcome of each variant cannot be read")
