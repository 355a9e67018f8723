"""The graph of a run: which nodes there are, and what the trainers are asked to do."""

import json
import pathlib
from typing import Any

import pytest

from components.ingest.sources import Dataset
from pipeline.config.settings import Settings
from pipeline.dag.partial import reasons, variant
from pipeline.pipeline import create_pipeline

SHARED = {
    "IdxExampleGen", "ImportSchemaGen", "StatisticsGen", "ExampleValidator", "AnomalyGate", "ComparisonGate",
    "Resolver.statistics", "DriftValidator", "DriftGate", "Resolver.report", "Leaderboard",
}  # fmt: skip
LINE = ("Trainer", "Resolver", "Resolver.night", "Gallery", "Evaluator")


def nodes(home: pathlib.Path, **settings: Any) -> dict[str, Any]:
    chosen = Settings(home=str(home), profile="smoke", **settings)
    return {node.id: node for node in create_pipeline(chosen, Dataset("digits", "/data")).components}


def of_line(name: str, *more: str) -> set[str]:
    return {f"{kind}.{name}" for kind in (*LINE, *more)}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two experiments with two seeds each, of which one has a protocol of its own."""
    experiments = {"wide": {"variant": "linear", "protocol": "grey"}, "mlp": {}}
    return nodes(tmp_path_factory.mktemp("home"), experiments=experiments, seeds=(0, 4))


def test_a_run_of_plain_variants_has_the_nodes_and_requests_that_it_always_had(
    tmp_path: pathlib.Path,
) -> None:
    found = nodes(tmp_path, variants=("cvae", "mlp"), seed=3)
    assert set(found) == SHARED | {"Transform"} | of_line("cvae", "Pusher") | of_line("mlp", "Pusher")
    request = json.loads(found["Trainer.mlp"].exec_properties["custom_config"])
    assert request["job"] == {
        "variant": "mlp", "dataset": "digits", "protocol": "threshold", "profile": "smoke", "seed": 3,
        "config": {}, "recipe": {},
    }  # fmt: skip
    assert set(request) == {"job", "code"}


def test_each_experiment_and_seed_has_a_line_and_each_protocol_a_transform(compared: dict[str, Any]) -> None:
    names = ("wide.s0", "wide.s4", "mlp.s0", "mlp.s4")
    lines = set().union(*(of_line(name) for name in names))
    assert set(compared) == SHARED | {"Transform", "Transform-grey"} | lines
    for name in names:
        job = json.loads(compared[f"Trainer.{name}"].exec_properties["custom_config"])["job"]
        protocol = "grey" if name.startswith("wide") else "threshold"
        assert (job["seed"], job["protocol"]) == (int(name[-1]), protocol)
        transform = "Transform" if protocol == "threshold" else "Transform-grey"
        trainer = compared[f"Trainer.{name}"]
        assert transform in {node.id for node in trainer.upstream_nodes}
        assert {variant(f"{kind}.{name}") for kind in LINE} == {name}
    described = json.loads(compared["Leaderboard"].exec_properties["described"])
    assert described["wide.s4"]["experiment"] == "wide"
    assert described["wide.s4"]["variant"] == "linear"


def test_lines_of_a_transform_that_failed_are_lost_for_its_reason() -> None:
    failures = {
        "Transform-grey": "Transform-grey failed: no room",
        "Trainer.wide.s0": "",
        "Pusher.wide.s0": "",
    }
    assert reasons(failures) == {"wide.s0": "Transform-grey failed: no room"}
