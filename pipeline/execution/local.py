"""Runs the pipeline on this machine, one line per component."""

import datetime
import functools
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from tfx.dsl.compiler import constants
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from components.identity import NotComparable
from pipeline.config.errors import RunFailed, RunRefused
from pipeline.dag import partial
from pipeline.execution import diagnosis, outcome
from pipeline.execution.crew import Alone, Crew, Ended, Result
from pipeline.execution.display import Display
from pipeline.execution.launch import launch
from pipeline.execution.order import Queue, cores_of
from pipeline.home import metadata, own_log, recovery
from pipeline.home.layout import Home
from pipeline.home.metadata import Artifacts
from trainer.devices import cores

log = logging.getLogger(__name__)


class LocalRunner(local_dag_runner.LocalDagRunner):
    """TFX's LocalDagRunner with a line per component, honest about failures, and with nodes side by side.

    Where TFX stops at the first exception and passes over a failure that raises none, this runs every node
    whose inputs exist, what compares variants without those that failed, and raises RunFailed at the end.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        jobs: int = 1,
        moving: bool = True,
        begins: Callable[[str], None] = lambda node: None,
    ) -> None:
        """Set how the pipeline is run.

        say: shows the user a line. jobs: cores that nodes may use at the same time; with 1, one node runs
        after another in this process. moving: whether a terminal may show what runs at the moment. begins:
        is given each node that begins.
        """
        super().__init__()
        self._say = say
        self._jobs = jobs
        self._moving = moving
        self._begins = begins
        self.executions: dict[str, int] = {}
        """Node id -> execution id in the metadata store, of the nodes that completed or were cached."""
        self.failures: dict[str, str] = {}
        """Node id -> what went wrong, of the nodes that failed; empty for those that were left out for it."""
        self.all_cached = False
        """Whether the run that ended had nothing to do."""

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: Any = None) -> None:
        """Run every node of the compiled pipeline. Raises RunFailed, and RunRefused for a ComparisonGate."""
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connection = deployment.metadata_connection_config.database_connection_config
        home = Home.of(os.path.dirname(connection.sqlite.filename_uri))
        nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in pipeline.nodes}
        queue = Queue(list(nodes.values()))
        made: list[bool] = []
        refused = False
        with self._workers() as workers:
            while queue:
                while node := queue.take(workers.free, workers.most):
                    name = node.node_info.id
                    lost = self.failures.keys() & set(node.upstream_nodes)
                    if lost and not partial.leave_out(node, self.failures):
                        self.failures[name] = ""
                        queue.ended(name)
                        continue
                    work = functools.partial(self._launch, pipeline, node, home)
                    self._begins(name)
                    workers.start(name, min(cores_of(node), workers.most), work)
                for ended in workers.wait():
                    queue.ended(ended.name)
                    refused = refused or ended.result.refused
                    self._note(ended, nodes[ended.name], home, workers.say)
                    if not ended.result.error and not ended.name.startswith("Resolver."):
                        made.append(not ended.result.cached)
        reasons = [self.failures[name] for name in nodes if self.failures.get(name)]
        if len(reasons) < len(self.failures):
            self._say(
                f"- {len(self.failures) - len(reasons)} components skipped: their inputs are unavailable"
            )
        if reasons:
            raise (RunRefused if refused else RunFailed)("\n".join(reasons))
        self.all_cached = not any(made)
        if self.all_cached:
            since = _newest(home, self.executions)
            self._say(
                f"nothing to do: nothing has changed since the run of {since}; "
                f"all {len(made)} components came from the cache"
            )

    def _workers(self) -> Crew | Alone:
        """Return what runs the nodes: a process for each, or this one for all."""
        if self._jobs == 1:
            return Alone(self._say)
        if cores.in_use():
            self._say("! TensorFlow is in use in this process, which can be forked no more: --jobs 1")
            return Alone(self._say)
        return Crew(self._jobs, Display(self._say, self._moving))

    def _note(self, ended: Ended, node: Any, home: Home, say: Callable[[str], None]) -> None:
        """Note how a node ended, and show it in a line."""
        name, result = ended.name, ended.result
        if result.lost:
            _end_execution(node, home)
        if result.error:
            self.failures[name] = f"{name} failed: {result.error}"
            say(f"x {name:<28} {ended.seconds:7.1f} s  FAILED")
            return
        self.executions[name] = result.execution
        if not name.startswith("Resolver."):
            verdict = outcome.NodeOutcome.CACHED.value if result.cached else ""
            say(f"+ {name:<28} {ended.seconds:7.1f} s  {verdict}".rstrip())

    def _launch(
        self,
        pipeline: pipeline_pb2.Pipeline,
        node: pipeline_pb2.PipelineNode,
        home: Home,
        say: Callable[[str], None],
    ) -> Result:
        """Run one node; whatever goes wrong is in the result."""
        name = node.node_info.id
        handle = metadata.InTurn(home)
        errors: list[str] = []
        try:
            with own_log.heard_by(Said(say, errors)):
                execution = launch(pipeline, node, handle)
        except Exception as error:  # whatever a component raises is its failure, reported in one line
            log.exception("%s failed", name)
            inputs = _inputs(handle, pipeline, name)
            # Where TFX fails before an executor starts or after it has ended, it leaves the execution as
            # running and its outputs where they are.
            _end_execution(node, home)
            refused = isinstance(error, NotComparable)
            return Result(error=diagnosis.explain(error, str(home), inputs), refused=refused)
        found = outcome.read(handle, execution)
        if not found.good:
            # TFX only logs why a resolver raised; our own resolvers log the reason as an error as well.
            return Result(
                error=errors[-1] if errors else "its inputs could not be resolved; the log says which"
            )
        return Result(execution, cached=found is outcome.NodeOutcome.CACHED)


class Said(logging.Handler):
    """Gives the user the warnings that it is sent, one line each, and collects the errors."""

    def __init__(self, say: Callable[[str], None], errors: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._say, self._errors = say, errors

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, and collect it if it is an error; logging calls this."""
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.ERROR:
            self._errors.append(line)
        self._say(f"! {line}")


def _end_execution(node: Any, home: Home) -> None:
    """Record the execution of a node that was left unfinished as failed, and remove what it left."""
    try:
        with metadata.opened(metadata.InTurn(home)) as store:
            for execution in store.active_executions_of(node):
                recovery.end_execution(store, home, execution)
    except (*metadata.ERRORS, OSError):  # the next run does it, and nothing takes its outputs for whole
        log.exception("what %s left cannot be removed", node.node_info.id)


def _inputs(handle: metadata.InTurn, pipeline: pipeline_pb2.Pipeline, node: str) -> list[str]:
    """Return the folders of the inputs of the node's newest execution; empty if they cannot be known."""
    try:
        with metadata.opened(handle) as store:
            executions = store.executions_of_node(pipeline.pipeline_info.id, node)
            return _folders(store.inputs(executions[-1].id)) if executions else []
    except metadata.ERRORS:  # the metadata store may be what is failing
        log.exception("the inputs of %s cannot be listed", node)
        return []


def _newest(home: Home, executions: Mapping[str, int]) -> str:
    """Return when the newest of the artifacts was made that the executions gave or had from the cache."""
    with metadata.opened(home) as store:
        made = [
            artifact.made
            for execution in executions.values()
            if execution
            for given in store.outputs(execution).values()
            for artifact in given
        ]
    return datetime.datetime.fromtimestamp(max(made) / 1000).strftime("%Y-%m-%d %H:%M")


def _folders(artifacts: Artifacts) -> list[str]:
    """Return the folders of those artifacts that lie on this machine."""
    return [each.uri for given in artifacts.values() for each in given if each.local]
