import random
from collections.abc import Mapping, Sequence

import pytest

from pipeline.kubeflow.tasks import Task, divided, kind_of, longest_chain, with_verdict

LINE = {
    "Trainer.v": ["Transform"],
    "Gallery.v": ["IdxExampleGen", "Trainer.v"],
    "Resolver.v": ["Trainer.v"],
    "Evaluator.v": ["IdxExampleGen", "Trainer.v", "Resolver.v"],
    "Pusher.v": ["Trainer.v", "Evaluator.v"],
}
SHARED = {
    "IdxExampleGen": [],
    "ImportSchemaGen": [],
    "StatisticsGen": ["IdxExampleGen", "ImportSchemaGen"],
    "AnomalyGate": ["StatisticsGen"],
    "Transform": ["AnomalyGate", "IdxExampleGen"],
}


def pipeline(*variants: str) -> dict[str, list[str]]:
    lines = {
        node.replace(".v", f".{variant}"): [other.replace(".v", f".{variant}") for other in needed]
        for variant in variants
        for node, needed in LINE.items()
    }
    return {**SHARED, **lines, "Resolver.report": list(lines), "Leaderboard": [*lines, "Resolver.report"]}


def one_pool(node: str) -> str:
    return "cpu"


def check(tasks: Sequence[Task], upstream: Mapping[str, Sequence[str]]) -> None:
    """Each node in one task, each task after what it needs, each node after the nodes it needs."""
    order = [node for task in tasks for node in task.nodes]
    assert sorted(order) == sorted(upstream)
    assert len({task.name for task in tasks}) == len(tasks)
    of = {node: task.name for task in tasks for node in task.nodes}
    done: set[str] = set()
    for task in tasks:
        assert set(task.upstream) <= done
        done.add(task.name)
    before = {task.name: set(task.upstream) for task in tasks}
    for task in tasks:  # in order, so that what comes before each is complete
        before[task.name] |= {far for near in task.upstream for far in before[near]}
    for node, needed in upstream.items():
        for other in needed:
            assert of[other] == of[node] or of[other] in before[of[node]]
            assert order.index(other) < order.index(node)


def test_a_run_has_one_task_for_data_two_for_each_variant_and_one_for_the_report() -> None:
    nodes = pipeline("cvae", "vae_dense")
    tasks = divided(nodes, one_pool)
    check(tasks, nodes)
    assert [task.name for task in tasks] == [
        "data", "train-cvae", "evaluate-cvae", "train-vae-dense", "evaluate-vae-dense", "report",
    ]  # fmt: skip
    assert tasks[2].nodes == ("Resolver.cvae", "Evaluator.cvae", "Pusher.cvae", "Gallery.cvae")
    assert tasks[-1].upstream == ("evaluate-cvae", "evaluate-vae-dense")
    assert longest_chain(tasks) == 4


def test_a_warm_start_is_looked_up_where_the_trainer_runs() -> None:
    nodes = pipeline("cvae")
    nodes = {"Resolver.base.cvae": ["Transform"], **nodes}
    nodes = {**SHARED, **nodes, "Trainer.cvae": ["Transform", "Resolver.base.cvae"]}
    tasks = divided(nodes, lambda node: "gpu" if node.startswith("Trainer.") else "cpu")
    check(tasks, nodes)
    [train] = [task for task in tasks if task.kind == "train"]
    assert train.nodes == ("Resolver.base.cvae", "Trainer.cvae")
    assert train.pool == "gpu"


def test_a_node_of_another_pool_gets_a_task_of_its_own_between_the_others() -> None:
    nodes = pipeline("cvae")
    tasks = divided(nodes, lambda node: "once" if node == "AnomalyGate" else "cpu")
    check(tasks, nodes)
    shared = [(task.nodes, task.pool, task.upstream) for task in tasks if task.kind == "data"]
    assert shared == [
        (("IdxExampleGen", "ImportSchemaGen", "StatisticsGen"), "cpu", ()),
        (("AnomalyGate",), "once", ("data",)),
        (("Transform",), "cpu", ("data-2",)),
    ]


def test_a_node_that_nobody_has_heard_of_runs_alone() -> None:
    nodes = {**SHARED, "My_Own.Node": ["StatisticsGen"]}
    nodes["Transform"] = [*nodes.pop("Transform"), "My_Own.Node"]  # last, as it needs the new one
    tasks = divided(nodes, one_pool)
    check(tasks, nodes)
    assert [task.name for task in tasks] == ["data", "my-own-node", "data-2"]


@pytest.mark.parametrize("seed", range(40))
def test_any_graph_in_any_pools_keeps_its_order(seed: int) -> None:
    dice = random.Random(seed)
    names = [
        *SHARED,
        *(f"{kind}.{v}" for v in "abc" for kind in ("Resolver.base", "Trainer", "Evaluator", "X")),
    ]
    dice.shuffle(names)
    nodes = {
        name: dice.sample(names[:index], min(index, dice.randrange(4))) for index, name in enumerate(names)
    }
    pools = {name: dice.choice(["cpu", "gpu"]) for name in names}
    check(divided(nodes, lambda node: pools.get(node, "cpu")), nodes)


def test_names_that_look_alike_stay_apart() -> None:
    nodes: dict[str, list[str]] = {"Trainer.a_b": [], "Trainer.a-b": [], "Trainer.a.b": []}
    assert [task.name for task in divided(nodes, one_pool)] == ["train-a-b", "train-a-b-2", "train-a-b-3"]


def test_the_verdict_follows_the_report_and_nothing_else() -> None:
    tasks = with_verdict(divided(pipeline("cvae"), one_pool))
    assert (tasks[-1].name, tasks[-1].upstream) == ("verdict", ("report",))
    assert with_verdict(divided(SHARED, one_pool)) == divided(SHARED, one_pool)


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ("Resolver.statistics", ("data", "")), ("Resolver.report", ("report", "")),
        ("Resolver.base.cvae", ("train", "cvae")), ("Resolver.cvae", ("evaluate", "cvae")),
        ("Trainer.lr.0.1", ("train", "lr.0.1")), ("Leaderboard", ("report", "")),
    ],
)  # fmt: skip
def test_a_node_has_the_kind_and_the_line_of_its_task(node: str, kind: tuple[str, str]) -> None:
    assert kind_of(node) == kind
