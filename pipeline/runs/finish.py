"""What the exit task of a run on a cluster does: enter the run in the journal, and run the hooks.

It reads from the metadata store how the nodes have ended, and enters the run beside the pushed versions, as a
run on one machine is entered in the journal of its home. A second attempt enters nothing twice and runs the
hooks again. pipeline.finish is its entry point.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.errors import RunFailed
from pipeline.config.settings import Settings
from pipeline.execution import node, states
from pipeline.execution.events import tell
from pipeline.execution.plan import Plan
from pipeline.home import journal, metadata
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Execution, State
from pipeline.runs import account, hooks

LAST_NODE = "Leaderboard"
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How the nodes of a run have ended; see pipeline.runs.account.Ran."""

    executions: Mapping[str, int]
    failures: Mapping[str, str]
    all_cached: bool
    began: int
    """Milliseconds since 1970; 0 if no node has begun."""
    pushed_before: Mapping[str, Sequence[int]]
    """Versions by variant that an earlier run pushed, of Pushers that were taken from the cache."""

    @property
    def error(self) -> RunFailed | None:
        """Return why the run failed; None if it did not."""
        reasons = [failure for failure in self.failures.values() if failure]
        if reasons:
            return RunFailed("\n".join(reasons))
        if LAST_NODE not in self.executions:
            return RunFailed(
                f"the run ended before {LAST_NODE}, and no component says why: it was stopped, or its pods "
                "were lost; its page in Kubeflow Pipelines says more"
            )
        return None


def finish(run_id: str, plan: Plan, connection: Any, environment: Mapping[str, str]) -> journal.RunRecord:
    """Enter the run of that id in the journal, and run its hooks. Raises HomeInUse and OSError."""
    home = Home.of_cluster(plan.serving, connection)
    ended = of_run(connection, run_id)
    with exclusive(home):
        writer = entered(home, run_id, plan.settings)
        account.settle(writer, plan.settings, ended, ended.pushed_before, log.info, home)
        now = round(time.time() * 1000)
        writer.note(started=metadata.moment(ended.began or now), log="")
        writer.end((now - (ended.began or now)) / 1000, ended.error)
    theirs = {name: value for name, value in environment.items() if not name.startswith(node.PREFIX)}
    problems = hooks.fire(plan.settings.notify, hooks.events(writer.record), theirs)
    for problem in problems:
        log.warning("%s", problem)
    if problems:
        writer.note(hooks=tuple(problems))
        writer.write()
    tell(True, "ended", run=run_id, status=writer.record.status, record=home.record(writer.record.stamp))
    return writer.record


def entered(home: Home, run_id: str, settings: Settings) -> journal.Writer:
    """Return the writer of a run's record: that of an earlier attempt, or a new one."""
    before = [record for record in journal.read(home) if record.run == run_id]
    found = journal.Writer.resume(home, before[-1].stamp) if before else None
    if found:
        return found
    return journal.Writer.begin(home, journal.Command.RUN, settings=journal.summary(settings), run=run_id)


def of_run(connection: Any, run_id: str) -> Ended:
    """Return how the nodes of a run have ended, as the metadata store has it."""
    failed = states.of_run(connection, run_id)
    with metadata.opened(connection) as store:
        found = {store.node(execution.id).name: execution for execution in store.executions_of_run(run_id)}
        before = {}
        for name, execution in found.items():
            if name.startswith("Pusher.") and execution.state is State.CACHED:
                pushes = store.outputs(execution.id).get("pushed_model", [])
                versions = [push.version for push in pushes if isinstance(push, metadata.Push)]
                before[name.partition(".")[2]] = [version for version in versions if version is not None]
    return Ended(
        executions={name: each.id for name, each in found.items() if each.state.succeeded},
        failures={
            name: f"{name} failed: {state.why}"
            for name, state in failed.items()
            if state.ended is not states.Ended.WELL
        },
        all_cached=all(_idle(name, each) for name, each in found.items()),
        began=min((each.made for each in found.values()), default=0),
        pushed_before=before,
    )


def _idle(name: str, execution: Execution) -> bool:
    return execution.state is State.CACHED or name.startswith("Resolver.")
