"""End a run on a cluster: what its exit task does once all other tasks have ended, however they have ended.

    python -m pipeline.finish --run-id ID --plan TEXT

Reads from the metadata store how the nodes have ended, enters the run in the journal beside the pushed
versions, as a run on one machine is entered in that of its home, and runs the hooks of the settings. The
environment names the metadata store as for pipeline.node. A second attempt enters nothing twice and runs the
hooks again.

Exit codes: 0, also when a hook has failed, which the log says; 2 for a wrong request; 4 for a metadata store
that cannot be used; 1 for anything else.
"""

import argparse
import dataclasses
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.errors import RunFailed
from pipeline.config.exit_codes import BAD_REQUEST, FAILED, OK
from pipeline.config.settings import Settings
from pipeline.execution import node, states
from pipeline.execution.events import listen, tell
from pipeline.execution.plan import BadPlan, Plan
from pipeline.home import journal, metadata
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Execution, State
from pipeline.runs import account, hooks
from trainer.devices import threads

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    listen(options.log_format, options.verbose)
    threads.one_an_operation()
    try:
        finish(options.run_id, Plan.from_text(options.plan), node.connect(os.environ), os.environ)
    except (node.BadRequest, BadPlan) as error:
        sys.exit(_end(BAD_REQUEST, "refused", error=str(error)))
    except node.MetadataUnusable as error:
        sys.exit(_end(node.NO_METADATA, "metadata store unusable", error=str(error)))
    except Exception as error:  # the one boundary of this process
        sys.exit(_end(FAILED, "failed", error=str(error), traceback=traceback.format_exc()))


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


def _end(code: int, what: str, **facts: Any) -> int:
    tell(code == OK, what, node="finish", exit=code, **facts)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.finish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("--run-id", required=True, help="of the run that has ended")
    parser.add_argument("--plan", required=True, help="what the pipeline is compiled from, with the hooks")
    parser.add_argument("--log-format", choices=("plain", "json"), default="plain")
    parser.add_argument(
        "--verbose", action="store_true", help="show what TFX, Beam and TensorFlow say as well"
    )
    return parser


if __name__ == "__main__":
    main()
