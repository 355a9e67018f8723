"""The order in which nodes start."""

import json
import random

import pytest
from tfx.proto.orchestration import pipeline_pb2

from pipeline.execution.order import Queue, cores_of
from trainer.job import Job


def node(name: str, *upstream: str, cores: int = 1) -> pipeline_pb2.PipelineNode:
    """A node of an IR; with more cores than one, of a trainer whose recipe asks for them."""
    made = pipeline_pb2.PipelineNode()
    made.node_info.id = name
    made.upstream_nodes.extend(upstream)
    if cores > 1:
        job = Job("linear", "digits", "threshold", "smoke", 0, recipe={"cores": cores})
        value = made.parameters.parameters["custom_config"].field_value
        value.string_value = json.dumps({"job": job.to_dict()})
    return made


def line(variant: str, cores: int = 1) -> list[pipeline_pb2.PipelineNode]:
    return [
        node(f"Trainer.{variant}", "Transform", cores=cores),
        node(f"Resolver.night.{variant}", f"Trainer.{variant}"),
        node(f"Evaluator.{variant}", f"Resolver.night.{variant}"),
        node(f"Pusher.{variant}", f"Evaluator.{variant}"),
    ]


def by_layers(*lines: list[pipeline_pb2.PipelineNode]) -> list[pipeline_pb2.PipelineNode]:
    """The nodes in TFX's order: all trainers, then all that follows them, and so on."""
    last = node("Leaderboard", *(each[-1].node_info.id for each in lines))
    return [node("Transform"), *(one for layer in zip(*lines, strict=True) for one in layer), last]


def one_after_another(queue: Queue) -> list[str]:
    started = []
    while queue:
        found = queue.take(1, 1)
        assert found is not None
        started.append(found.node_info.id)
        queue.ended(started[-1])
    return started


def test_a_variant_s_line_is_finished_before_the_next_variant_is_trained() -> None:
    first, second = line("mlp"), line("linear", cores=2)
    expected = ["Transform", *(each.node_info.id for each in (*first, *second)), "Leaderboard"]
    assert one_after_another(Queue(by_layers(first, second))) == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_node_starts_before_its_inputs_are_there_or_on_cores_that_are_taken(seed: int) -> None:
    dice = random.Random(seed)
    names = [f"{kind}.{variant}" for variant in "abcd" for kind in ("Trainer", "Evaluator", "Gallery")]
    dice.shuffle(names)
    cores = {name: dice.choice([1, 1, 2, 3]) for name in names}
    upstream = {name: dice.sample(names[:index], min(index, 2)) for index, name in enumerate(names)}
    queue = Queue([node(name, *upstream[name], cores=cores[name]) for name in names])
    most = 2
    ended: set[str] = set()
    running: dict[str, int] = {}
    while queue:
        while found := queue.take(most - sum(running.values()), most):
            name = found.node_info.id
            assert set(upstream[name]) <= ended
            running[name] = min(cores[name], most)
            assert sum(running.values()) <= most
        assert running, "nothing runs, though not all has ended"
        name = dice.choice(list(running))
        del running[name]
        ended.add(name)
        queue.ended(name)
    assert ended == set(names)


def test_a_small_node_starts_beside_a_large_one_that_has_to_wait_for_cores() -> None:
    queue = Queue([node("Trainer.a", cores=2), node("Trainer.b", cores=2), node("Trainer.c")])
    started = []
    free = 3
    while found := queue.take(free, 3):
        started.append(found.node_info.id)
        free -= cores_of(found)
    assert started == ["Trainer.a", "Trainer.c"]


def test_a_node_that_asks_for_more_cores_than_there_are_gets_all_of_them() -> None:
    queue = Queue([node("Trainer.a", cores=8), node("Trainer.b")])
    found = queue.take(2, 2)
    assert found is not None
    assert cores_of(found) == 8
    assert queue.take(0, 2) is None
