import json
from typing import Any

import pytest
from tfx.dsl.compiler import compiler

from components.ingest.sources import Dataset
from pipeline.config.settings import Settings
from pipeline.dag import ir, partial
from pipeline.pipeline import create_pipeline


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = Settings(variants=("cvae", "mlp"), home=str(tmp_path_factory.mktemp("home")))
    return compiler.Compiler().compile(create_pipeline(settings, Dataset("digits", "/data")))


@pytest.fixture
def leaderboard(compiled: Any) -> Any:
    node = type(ir.node_of(compiled, "Leaderboard"))()
    node.CopyFrom(ir.node_of(compiled, "Leaderboard"))
    return node


def unions(node: Any) -> list[list[str]]:
    """The variants of each of the node's unions."""
    keys = [spec.mixed_inputs.input_keys for spec in node.inputs.inputs.values()]
    return [[key.split(".")[1] for key in union] for union in keys if union]


def test_a_variant_that_fails_late_is_left_out_of_every_union(leaderboard: Any) -> None:
    assert all(union == ["cvae", "mlp"] for union in unions(leaderboard))
    failures = {"Evaluator.cvae": "Evaluator.cvae failed: no disk", "Pusher.cvae": ""}
    assert partial.leave_out(leaderboard, failures)
    assert len(unions(leaderboard)) == 6
    assert all(union == ["mlp"] for union in unions(leaderboard))
    told = leaderboard.parameters.parameters[partial.FAILED].field_value.string_value
    assert json.loads(told) == {"cvae": "Evaluator.cvae failed: no disk"}


@pytest.mark.parametrize(
    "failures",
    [
        {"Trainer.cvae": "a", "Trainer.mlp": "b"},  # nothing is left to compare
        {"Trainer.cvae": "a", "StatisticsGen": "b"},
        {"Trainer.cvae": "a", "Resolver.report": "b"},
    ],
)
def test_what_lacks_more_than_single_variants_cannot_run_and_stays_as_it_is(
    leaderboard: Any, failures: dict[str, str]
) -> None:
    before = leaderboard.SerializeToString(deterministic=True)
    assert not partial.leave_out(leaderboard, failures)
    assert leaderboard.SerializeToString(deterministic=True) == before


def test_a_node_of_one_variant_is_not_for_this(compiled: Any) -> None:
    assert not partial.leave_out(ir.node_of(compiled, "Evaluator.cvae"), {"Trainer.cvae": "a"})


def test_the_earlier_report_is_looked_for_by_the_variants_that_are_left(compiled: Any) -> None:
    node = ir.node_of(compiled, "Resolver.report")
    assert partial.leave_out(node, {"Trainer.mlp": "a"})
    assert unions(node) == [["cvae"]]
    assert partial.FAILED not in node.parameters.parameters


def test_the_reason_is_the_failure_and_not_what_was_left_out_for_it() -> None:
    failures = {"Transform": "", "Trainer.mlp": "", "Gallery.mlp": "no memory", "Trainer.aae": ""}
    assert partial.reasons(failures) == {"mlp": "no memory", "aae": ""}
