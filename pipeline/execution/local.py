"""Runs the pipeline on this machine, one line a component."""

import contextlib
import datetime
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfx.dsl.compiler import constants
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.config.errors import RunFailed
from pipeline.dag import partial
from pipeline.execution import diagnosis, outcome
from pipeline.execution.launch import launch
from pipeline.home import metadata
from pipeline.home.metadata import Artifacts

log = logging.getLogger(__name__)
OWN = ("components", "trainer")
"""Packages whose warnings are for the user, not only for the log."""


class LocalRunner(local_dag_runner.LocalDagRunner):
    """TFX's LocalDagRunner with a line a component, honest about failures.

    Where TFX stops at the first exception and passes over a failure that raises none, this runs every node
    whose inputs exist, what compares variants without those that failed, and raises RunFailed at the end.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self.executions: dict[str, int] = {}
        """Node id -> execution id in the metadata store, of the nodes that completed or were cached."""
        self.failures: dict[str, str] = {}
        """Node id -> what went wrong, of the nodes that failed; empty for those that were left out for it."""
        self.all_cached = False
        """Whether the run that ended had nothing to do."""

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: Any = None) -> None:
        """Run every node of the compiled pipeline. Raises RunFailed."""
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        kind = deployment.metadata_connection_config.WhichOneof("connection_config")
        connection = getattr(deployment.metadata_connection_config, kind)
        failures = self.failures
        verdicts: list[str] = []
        for wrapped in pipeline.nodes:
            node = wrapped.pipeline_node
            name = node.node_info.id
            if failures.keys() & set(node.upstream_nodes) and not partial.leave_out(node, failures):
                failures[name] = ""
                continue
            started = time.perf_counter()
            verdict, error = self._launch(pipeline, node, connection)
            seconds = time.perf_counter() - started
            if error:
                failures[name] = f"{name} failed: {error}"
                self._say(f"x {name:<28} {seconds:7.1f} s  FAILED")
            elif not name.startswith("Resolver."):
                verdicts.append(verdict)
                self._say(f"+ {name:<28} {seconds:7.1f} s  {verdict}".rstrip())
        reasons = [failure for failure in failures.values() if failure]
        if len(reasons) < len(failures):
            self._say(f"- {len(failures) - len(reasons)} components skipped: their inputs are unavailable")
        if reasons:
            raise RunFailed("\n".join(reasons))
        self.all_cached = all(verdicts)
        if self.all_cached:
            since = _newest(connection, self.executions)
            self._say(
                f"nothing to do: nothing has changed since the run of {since}; "
                f"all {len(verdicts)} components came from the cache"
            )

    def _launch(
        self, pipeline: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode, connection: Any
    ) -> tuple[str, str]:
        """Run one node; ("cached" or "", "") or ("", what went wrong)."""
        name = node.node_info.id
        errors: list[str] = []
        try:
            with warnings_to(self._say, errors):
                execution = launch(pipeline, node, connection)
        except Exception as error:  # whatever a component raises is its failure, reported in one line
            log.exception("%s failed", name)
            inputs = _inputs(connection, pipeline, name)
            # Where TFX fails before an executor starts, it leaves the execution as running.
            with contextlib.suppress(*metadata.ERRORS), metadata.opened(connection) as store:
                store.mark_unfinished_failed(node)
            home = os.path.dirname(connection.sqlite.filename_uri)
            return "", diagnosis.explain(error, home, inputs)
        found = outcome.read(connection, execution)
        if not found.good:
            # TFX only logs why a resolver raised; our own resolvers log the reason as an error as well.
            return "", errors[-1] if errors else "its inputs could not be resolved; the log says which"
        self.executions[name] = execution
        return (found.value if found is outcome.NodeOutcome.CACHED else ""), ""


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


@contextlib.contextmanager
def warnings_to(say: Callable[[str], None], errors: list[str]) -> Iterator[None]:
    """Show the user the warnings of our own components and trainers, and add what they log as an error."""
    handler = Said(say, errors)
    loggers = [logging.getLogger(name) for name in OWN]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _inputs(connection: Any, pipeline: pipeline_pb2.Pipeline, node: str) -> list[str]:
    """Return the folders of the inputs of the node's newest execution; empty if they cannot be known."""
    try:
        with metadata.opened(connection) as store:
            executions = store.executions_of_node(pipeline.pipeline_info.id, node)
            return _folders(store.inputs(executions[-1].id)) if executions else []
    except metadata.ERRORS:  # the metadata store may be what is failing
        log.exception("the inputs of %s cannot be listed", node)
        return []


def _newest(connection: Any, executions: Mapping[str, int]) -> str:
    """Return when the newest of the artifacts was made that the executions gave or had from the cache."""
    with metadata.opened(connection) as store:
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
