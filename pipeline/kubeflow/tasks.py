"""Divide the nodes of a pipeline into tasks: what runs in one container, one node after the other.

Every pod of a chain costs about 20 seconds (its driver 4, its imports 6, Argo's pauses up to 10), and Argo
keeps several kilobytes for each. So the data of a run is prepared in one task, each variant has one task that
trains and one that evaluates, pushes and makes pictures, and one task writes the report.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from pipeline.dag.partial import variant

DATA, TRAIN, EVALUATE, REPORT = "data", "train", "evaluate", "report"
VERDICT = "verdict"
"""The last task, which runs no node: the run fails there if a variant has failed, once the report is made."""
FINISH = "finish"
"""The exit task, which runs after all others have ended, however they ended: journal and hooks."""
KINDS = {
    "IdxExampleGen": DATA,
    "ComparisonGate": DATA,
    "ImportSchemaGen": DATA,
    "StatisticsGen": DATA,
    "ExampleValidator": DATA,
    "AnomalyGate": DATA,
    "Resolver.statistics": DATA,
    "DriftValidator": DATA,
    "DriftGate": DATA,
    "Transform": DATA,
    "Resolver.report": REPORT,
    "Leaderboard": REPORT,
}
"""The kind of task that a node of the whole run belongs to."""
KINDS_OF_A_LINE = (
    ("Resolver.base.", TRAIN),
    ("Trainer.", TRAIN),
    ("Resolver.", EVALUATE),
    ("Evaluator.", EVALUATE),
    ("Pusher.", EVALUATE),
    ("Gallery.", EVALUATE),
)
"""The same for the nodes of one variant, by the beginning of their ids; the first that fits decides."""
SERVED = {"Resolver.statistics": "DriftValidator", "Resolver.report": "Leaderboard"}
"""The node that a resolver looks something up for; it takes a moment, and goes where that node goes."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One container of a run.

    Attributes:
      name: of the task, unique in the pipeline: `train-cvae`.
      kind: what tasks with the same command have in common: `train`.
      line: the variant that the task belongs to; empty for a task of the whole run.
      nodes: ids of the nodes that run in it, in this order.
      pool: name of the pool that it is sent to.
      upstream: names of the tasks that come before.
    """

    name: str
    kind: str
    line: str
    nodes: tuple[str, ...]
    pool: str
    upstream: tuple[str, ...]

    @property
    def first(self) -> bool:
        """Whether nothing comes before the task."""
        return not self.upstream


def divided(upstream: Mapping[str, Sequence[str]], pool_of: Callable[[str], str]) -> list[Task]:
    """Return the tasks of a pipeline in an order in which they can run.

    upstream: node id -> ids of the nodes before it, in an order in which the nodes can run. Nodes of one kind
    and line share a task where they share a pool and where no node of another task has to run between them. A
    resolver goes where the node goes that it serves.
    """
    groups: list[list[str]] = []
    before: list[set[int]] = []
    group_of: dict[str, int] = {}
    open_groups: dict[tuple[str, str, str], int] = {}
    for name, needed in upstream.items():
        key = (*kind_of(name), pool_of(_served(name)))
        others = {group_of[other] for other in needed if other in group_of}
        index = open_groups.get(key)
        if index is None or any(index in _ancestors(before, other) for other in others - {index}):
            index = open_groups[key] = len(groups)
            groups.append([])
            before.append(set())
        groups[index].append(name)
        before[index] |= others - {index}
        group_of[name] = index
    names = _names(groups)
    return [
        Task(
            names[index],
            *kind_of(groups[index][0]),
            tuple(sorted(groups[index], key=lambda node: node.startswith("Gallery."))),  # pictures can wait
            pool_of(_served(groups[index][0])),
            tuple(names[other] for other in sorted(_nearest(before, index))),
        )
        for index in _order(before)
    ]


def with_verdict(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks with one more at the end, where there is a report to wait for.

    A task of a variant that fails for good ends well for Argo, which would start no other task after a failed
    one; the failure is in the metadata store, from where the verdict reads it.
    """
    return [
        *tasks,
        *(
            Task(VERDICT, VERDICT, "", task.nodes[-1:], task.pool, (task.name,))
            for task in tasks
            if task.kind == REPORT
        ),
    ]


def finish(tasks: Sequence[Task]) -> Task:
    """Return the exit task of a run, in the pool of its last task."""
    return Task(FINISH, FINISH, "", (), tasks[-1].pool, ())


def kind_of(node: str) -> tuple[str, str]:
    """Return the kind and the line of the task that a node belongs to; an unknown node has its own kind."""
    if node in KINDS:
        return KINDS[node], ""
    if node.startswith("Transform-"):  # of a protocol besides the run's own
        return DATA, ""
    for beginning, kind in KINDS_OF_A_LINE:
        if node.startswith(beginning):
            return kind, variant(node)
    return _plain(node), ""


def longest_chain(tasks: Sequence[Task]) -> int:
    """Return the number of tasks on the longest chain of tasks that wait for each other."""
    length: dict[str, int] = {}
    for task in tasks:
        length[task.name] = 1 + max((length[other] for other in task.upstream), default=0)
    return max(length.values(), default=0)


def _served(node: str) -> str:
    """Return the node that a resolver serves; any other node itself."""
    if not node.startswith("Resolver."):
        return node
    line = variant(node)
    return SERVED.get(node) or (f"Trainer.{line}" if kind_of(node)[0] == TRAIN else f"Evaluator.{line}")


def _nearest(before: Sequence[set[int]], group: int) -> set[int]:
    """Return the groups that come before one, without those that come before another of them."""
    needed = before[group]
    return needed - {
        found for other in needed for found in _ancestors(before, other) - {other} if found in needed
    }


def _ancestors(before: Sequence[set[int]], group: int) -> set[int]:
    """Return the group and all groups that come before it."""
    found: set[int] = set()
    pending = [group]
    while pending:
        current = pending.pop()
        if current not in found:
            found.add(current)
            pending += before[current]
    return found


def _order(before: Sequence[set[int]]) -> list[int]:
    """Return the groups in an order in which they can run; the earlier group first where both can."""
    order: list[int] = []
    while len(order) < len(before):
        done = set(order)
        order.append(next(i for i, needed in enumerate(before) if i not in done and needed <= done))
    return order


def _names(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each group: kind and line, and a number where that is taken."""
    names: list[str] = []
    for members in groups:
        kind, line = kind_of(members[0])
        name = wanted = f"{kind}-{_plain(line)}" if line else kind
        count = 1
        while name in names:
            count += 1
            name = f"{wanted}-{count}"
        names.append(name)
    return names


def _plain(text: str) -> str:
    """Return the text with what a task's name may hold: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
