"""What came of a run is entered in the journal: here of runs that end before training, on real spans."""

import pathlib

import numpy as np
import pytest
from tfx.dsl.compiler.compiler import Compiler

from components.evaluation import gated
from components.gate.record import decide
from components.gate.verdict import Difference
from components.ingest import idx, sources
from pipeline.config.errors import RunFailed
from pipeline.config.notify import DRIFT, FAILURE
from pipeline.config.settings import Settings
from pipeline.dag.partial import variant
from pipeline.execution.local import LocalRunner
from pipeline.home import journal
from pipeline.home.journal import Outcome, Result
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


@pytest.mark.usefixtures("one_attempt")
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


def evaluated(folder: pathlib.Path, gain: float) -> str:
    """An evaluation whose candidate gains so many nats over production, with a standard error of 1."""
    folder.mkdir()
    difference = Difference(np.asarray(gain), np.asarray(1.0), np.asarray(np.inf))
    record = decide(None, {}, {"elbo": difference}, {}, {})
    (folder / gated.FILE).write_text(record.to_json())
    return str(folder)


def test_what_chance_explains_among_many_variants_is_held_and_the_rest_is_refused(
    tmp_path: pathlib.Path,
) -> None:
    gains = {"same": 0.0, "unlucky": -2.7, "worse": -6.0, **{f"v{number}": 0.1 for number in range(13)}}
    folders = {name: evaluated(tmp_path / name, gain) for name, gain in gains.items()}
    outcomes = {
        name: Outcome(Result.REFUSED, why=gated.refused_because(folder))
        if gated.refused_because(folder)
        else Outcome(Result.PUSHED, 1)
        for name, folder in folders.items()
    }
    found = account.with_gate(outcomes, folders)
    assert found["same"].result is Result.PUSHED
    assert found["unlucky"].result is Result.HELD
    assert found["unlucky"].why.startswith("within what chance does among 16 variants: elbo -2.7 nats")
    assert found["worse"].result is Result.REFUSED
    assert all("would be refused tonight in 99 %" in each.gate for each in found.values())


def test_alone_every_refusal_counts(tmp_path: pathlib.Path) -> None:
    folder = evaluated(tmp_path / "mlp", -2.7)
    outcomes = {"mlp": Outcome(Result.REFUSED, why=gated.refused_because(folder))}
    assert account.with_gate(outcomes, {"mlp": folder})["mlp"].result is Result.REFUSED


def test_a_demand_that_a_model_misses_is_never_held(tmp_path: pathlib.Path) -> None:
    folders = {name: evaluated(tmp_path / name, -2.7) for name in map(str, range(16))}
    why = f"elbo -300 is below the floor -200; {gated.refused_because(folders['0'])}"
    outcomes = {name: Outcome(Result.REFUSED, why=why) for name in folders}
    found = account.with_gate(outcomes, folders)
    assert {each.result for each in found.values()} == {Result.REFUSED}


def test_evaluations_without_a_record_leave_outcomes_as_they_are(tmp_path: pathlib.Path) -> None:
    outcomes = {"mlp": Outcome(Result.REFUSED, why="below its floor")}
    assert account.with_gate(outcomes, {"mlp": str(tmp_path)}) == outcomes
    assert account.with_gate(outcomes, {}) == outcomes
