"""Run nodes of the pipeline: what each container on the cluster does.

    python -m pipeline.node --nodes A,B --ir-sha256 HEX --run-id ID --tfx-root FOLDER [--plan TEXT] ...
    python -m pipeline.node --init-metadata

The first form runs the nodes one after the other. For each it resolves the inputs in the metadata store,
looks for a cached result, runs the executor and records what came of it, all through TFX's portable launcher.
A node that is started again in the same run takes over its earlier execution, also one that was left running;
one that had succeeded does nothing. With --attempts the work is done in a process of its own that is started
again when it fails. The second form makes the tables of the metadata store, once, before many nodes connect
at the same time.

The compiled pipeline (IR) is read from the pipeline root, where the first task of a run writes it: it
compiles the pipeline from --plan and compares the digest. The metadata store is named by the environment:
either LATENTLINE_METADATA_SQLITE (a path), or LATENTLINE_METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD
of a MySQL server.

Exit codes:
    0    the nodes completed, were taken from the cache, or had nothing to do; with --go-on also after a
         failure that is recorded in the metadata store
    1    a component failed
    2    the request is wrong: arguments, environment, a damaged IR, an image built from other code, or data
         and settings whose models could not be compared with those in production (ComparisonGate)
    3    an input of a node does not exist in this run
    4    the metadata store cannot be used
    5    a node of the run has failed (--verdict, which runs no node)
    6    a gate has stopped the run: its data has anomalies or has drifted
    143  the container was stopped (SIGTERM); the next attempt takes the execution over
"""

import argparse
import contextlib
import dataclasses
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.exit_codes import BAD_REQUEST, FAILED, OK, STOPPED
from pipeline.execution import supervisor
from pipeline.execution.events import add_options, ended, innermost, listen, log, tell
from trainer.devices import threads

NO_INPUT, NO_METADATA, VARIANT_FAILED, GATE = 3, 4, 5, 6
AGAIN = (FAILED, NO_METADATA)
"""Exit codes after which another attempt may succeed, beside the end by a signal."""

PREFIX = "LATENTLINE_METADATA_"
TYPES: dict[str, type] = {"STRING": str, "INT": int, "DOUBLE": float}
PLACEHOLDER = re.compile(r"\{\{.*")
ATTEMPT = "--unattended"
"""Option of the process that the supervisor starts."""


class BadRequest(ValueError):
    """An argument or the environment is wrong."""


class MetadataUnusable(RuntimeError):
    """The metadata store cannot be opened."""


class Stopped(BaseException):
    """SIGTERM; not an Exception, so that no component takes it for a failure of its own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    listen(options.log_format, options.verbose)
    threads.one_an_operation()
    if options.attempts and not options.unattended:
        sys.exit(supervise(options, given))
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(work(options))


def supervise(options: argparse.Namespace, given: Sequence[str]) -> int:
    """Do the work in processes of their own until it is done or the attempts are used up; the exit code."""
    started = time.monotonic()
    child = supervisor.Supervisor(
        supervisor.command(given, [ATTEMPT]), lambda code: code < 0 or code in AGAIN
    )
    code = child.run(options.attempts, options.wait)
    if code < 0:  # nobody has recorded why
        reason = f"the process {supervisor.ending(code)}"
        abandon = supervisor.command(given, [ATTEMPT, "--abandon", reason])
        supervisor.Supervisor(abandon, lambda code: code != OK).run(options.attempts, options.wait)
        code = FAILED
    if options.go_on and code in (FAILED, NO_INPUT):
        tell(False, "the run goes on without", nodes=options.nodes, exit=OK, failed=code)
        code = OK
    elif len(options.nodes.split(",")) > 1 or code:
        seconds = round(time.monotonic() - started, 1)
        tell(code == OK, "ended", nodes=options.nodes, exit=code, seconds=seconds)
    return code


def work(options: argparse.Namespace) -> int:
    """Do what was asked for in this process; the exit code."""
    from pipeline.dag.ir import BadIr
    from pipeline.execution.plan import BadPlan

    started = time.monotonic()
    name = options.nodes or "metadata"
    try:
        if options.init_metadata:
            connect(os.environ)
            seconds = round(time.monotonic() - started, 1)
            return ended(name, OK, "ready", seconds=seconds)
        return run_nodes(options, os.environ)
    except (BadRequest, BadIr, BadPlan) as error:
        return ended(name, BAD_REQUEST, "refused", error=str(error))
    except MetadataUnusable as error:
        return ended(name, NO_METADATA, "metadata store unusable", error=str(error))
    except Stopped:
        return ended(name, STOPPED, "stopped", error="stopped (SIGTERM); the next attempt takes over")
    except Exception as error:  # outside a component, which has a line of its own
        return ended(name, FAILED, "failed", error=innermost(error), traceback=traceback.format_exc())


def run_nodes(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run the nodes one after the other, those after a failure that do not need it as well; the exit code.

    Raises BadRequest, BadIr, BadPlan, MetadataUnusable and Stopped.
    """
    from pipeline.dag import ir, partial

    for option, value in (("--run-id", options.run_id), ("--tfx-root", options.tfx_root)):
        _check_filled(option, value)
    pipeline = load(options)
    names = [name for name in options.nodes.split(",") if name]
    known = [wrapped.pipeline_node.node_info.id for wrapped in pipeline.nodes]
    if unknown := [name for name in names if name not in known]:
        raise BadRequest(f"--nodes has {', '.join(unknown)}; the pipeline has {', '.join(known)}")
    cuts = {name: ir.cut(pipeline, name) for name in names}
    for own in cuts.values():
        bind(own, options.run_id, options.tfx_root, options.parameter)
    connection = connect(environment)
    nodes = {name: own.nodes[0].pipeline_node for name, own in cuts.items()}
    if options.abandon:
        if options.workers:
            end_workers(options.run_id, names)
        return abandon(connection, options.run_id, nodes, options.abandon)
    failures = failed_before(connection, pipeline, options.run_id, names)
    if options.verdict:
        return verdict(failures)
    codes, executions = [OK], dict[str, int]()
    for name, node in nodes.items():
        lost = failures.keys() & set(node.upstream_nodes)
        if lost and not partial.leave_out(node, failures):
            failures[name] = ""
            ended(name, OK, "left out", since=f"{', '.join(sorted(lost))} failed")
            continue
        workers = options.workers if name.startswith("Trainer.") else ""
        done = run_node(cuts[name], connection, options.run_id, workers)
        if done.code == STOPPED:
            return STOPPED
        codes.append(done.code)
        executions[name] = done.execution
        if done.code != OK:
            failures[name] = f"{name} failed: {done.why}"
    if options.kfp and max(codes) == OK:
        publish_report(options.kfp, connection, executions)
    return max(codes)


def verdict(failures: Mapping[str, str]) -> int:
    """Return the exit code of a run whose nodes have all ended: 5 if some of them failed."""
    reasons = sorted(failure for failure in failures.values() if failure)
    if not failures:
        return ended("run", OK, "complete")
    return ended("run", VARIANT_FAILED, "failed", error="; ".join(reasons))


def publish_report(executor_input: str, connection: Any, executions: Mapping[str, int]) -> None:
    """Give Kubeflow the report of the run, for the page of the run; without it the run is as good."""
    from pipeline.execution import shown, states

    folders = [
        uri
        for execution in executions.values()
        for uri in states.outputs(connection, execution, "LatentlineReport")
    ]
    try:
        for folder in folders[-1:]:
            shown.publish(executor_input, folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the report is not shown on the run's page (%s); it lies in %s", error, folders[-1])


@dataclasses.dataclass(frozen=True)
class Done:
    """A node that ended: exit code, why if it failed, and its execution in the metadata store (0: none)."""

    code: int
    why: str = ""
    execution: int = 0


def run_node(own: Any, connection: Any, run_id: str, workers: str = "") -> Done:
    """Run a bound node of the IR.

    workers: sha256 of the JobSet that does a Trainer's work; empty for this process. Raises BadIr.
    """
    from pipeline.dag.partial import variant
    from pipeline.execution import outcome, states
    from pipeline.execution.launch import launch
    from pipeline.home import lock

    node = own.nodes[0].pipeline_node
    name = node.node_info.id
    operators = trained_by_workers(own, run_id, name, workers) if workers else None
    pushes = name.startswith("Pusher.")
    alone = lock.production_at(connection, variant(name)) if pushes else contextlib.nullcontext()
    started = time.monotonic()
    tell(True, "started", node=name, run=run_id)
    try:
        with alone:
            execution = launch(own, node, connection, operators)
    except (Stopped, SystemExit, Exception) as error:  # whatever a component raises is its failure
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut this short
        code, word, why = _failure(error)
        states.record_failure(connection, node, why)
        facts = {} if code == STOPPED else {"traceback": traceback.format_exc()}
        if code != STOPPED:
            signal.signal(signal.SIGTERM, _stop)
        return Done(ended(name, code, word, error=why, **facts), why)
    seconds = round(time.monotonic() - started, 1)
    found = outcome.read(connection, execution).value
    if found == "unresolved":
        why = "an input does not exist in this run; the lines above name it"
        states.record_failure(connection, node, why)
        return Done(ended(name, NO_INPUT, "input missing", error=why, seconds=seconds), why)
    return Done(ended(name, OK, found, seconds=seconds), "", execution)


def trained_by_workers(own: Any, run_id: str, name: str, sha256: str) -> Any:
    """Return what makes TFX's launcher have a Trainer's work done by workers. Raises BadIr."""
    from pipeline.execution import workers

    root = own.runtime_spec.pipeline_root.field_value.string_value
    return workers.trained_by(workers.template(root, sha256), run_id, name)


def end_workers(run_id: str, names: Sequence[str]) -> None:
    """End the workers that a lost process of this task has left."""
    from pipeline.execution import jobset, workers

    for name in names:
        if name.startswith("Trainer."):
            try:
                workers.end(jobset.in_pod(), workers.name_of(run_id, name))
            except jobset.Refused as error:
                log.warning("%s: its workers end with the pod of this task (%s)", name, error)


def _failure(error: BaseException) -> tuple[int, str, str]:
    """Return the exit code, the word for it, and why, of what a component raised."""
    from components.identity import NotComparable
    from components.validation.anomaly_gate import DataAnomaly
    from components.validation.drift import DataDrift

    if isinstance(error, Stopped) or (isinstance(error, SystemExit) and error.code == STOPPED):
        # A trainer that leaves a checkpoint behind before it stops raises SystemExit.
        return STOPPED, "stopped", "stopped (SIGTERM); the next attempt takes over"
    if isinstance(error, SystemExit):
        return FAILED, "failed", f"the component left the process with {error.code!r}"
    if isinstance(error, DataAnomaly | DataDrift):
        return GATE, "stopped by a gate", innermost(error)
    if isinstance(error, NotComparable):
        return BAD_REQUEST, "refused", innermost(error)
    return FAILED, "failed", innermost(error)


def failed_before(connection: Any, pipeline: Any, run_id: str, names: Sequence[str]) -> dict[str, str]:
    """Return the nodes before `names` that failed in this run, with why; empty for those left out for it."""
    from pipeline.execution import states

    nodes = {wrapped.pipeline_node.node_info.id: wrapped.pipeline_node for wrapped in pipeline.nodes}
    before: set[str] = set()
    pending = [other for name in names for other in nodes[name].upstream_nodes]
    while pending:
        name = pending.pop()
        if name in nodes and name not in before:
            before.add(name)
            pending += nodes[name].upstream_nodes
    found = states.of_run(connection, run_id)
    failures: dict[str, str] = {}
    for name, node in nodes.items():
        if name not in before or name in names:
            continue
        state = found.get(name)
        if state and state.ended is not states.Ended.WELL:
            failures[name] = f"{name} failed: {state.why}"
        elif not state and failures.keys() & set(node.upstream_nodes):
            failures[name] = ""
    return failures


def abandon(connection: Any, run_id: str, nodes: Mapping[str, Any], why: str) -> int:
    """Record the node that a lost process was at as failed: the first that has not ended well."""
    from pipeline.execution import states

    found = states.of_run(connection, run_id)
    for name, node in nodes.items():
        if not (state := found.get(name)) or state.ended is not states.Ended.WELL:
            states.record_failure(connection, node, why)
            ended(name, FAILED, "failed", error=why)
            break
    return OK


def load(options: argparse.Namespace) -> Any:
    """Return the IR of the pipeline from the pipeline root, where it is compiled to from the plan first.

    Raises BadIr, BadPlan and BadRequest.
    """
    from pipeline.dag import ir
    from pipeline.execution.plan import Plan

    if not re.fullmatch(r"[0-9a-f]{64}", options.ir_sha256):
        raise BadRequest(f"--ir-sha256 must be 64 hexadecimal digits, got {options.ir_sha256!r}")
    if options.plan:
        for text in Plan.from_text(options.plan).workers.values():
            ir.keep(options.tfx_root, text.encode(), "json")
    pipeline = ir.read(options.tfx_root, options.ir_sha256)
    if pipeline is not None:
        return pipeline
    if not options.plan:
        raise ir.BadIr(
            f"there is no {ir.path(options.tfx_root, options.ir_sha256)}, which the first task of the run "
            "writes; start a new run"
        )
    pipeline = Plan.from_text(options.plan).intermediate()
    if (found := ir.digest(pipeline)) != options.ir_sha256:
        raise ir.BadIr(
            f"the image makes another pipeline (sha256 {found}) than compile.py did ({options.ir_sha256}): "
            "it was built from other code; build and push the image again, set its digest in the cluster "
            "file, compile and upload"
        )
    ir.write(options.tfx_root, pipeline)
    return pipeline


def bind(pipeline: Any, run_id: str, tfx_root: str, parameters: Sequence[str]) -> None:
    """Put the values of this run into the IR of a node. Raises BadRequest for what Kubeflow left unfilled."""
    from tfx.dsl.compiler import constants
    from tfx.orchestration.portable import runtime_parameter_utils

    for option, value in (("--run-id", run_id), ("--tfx-root", tfx_root)):
        _check_filled(option, value)
    values = {
        constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id,
        constants.PIPELINE_ROOT_PARAMETER_NAME: tfx_root,
    }
    values.update(parsed(parameter) for parameter in parameters)
    try:
        found = runtime_parameter_utils.substitute_runtime_parameter(pipeline, values)
    except RuntimeError as error:
        raise BadRequest(f"a --parameter has another type than the pipeline's: {error}") from error
    unset = sorted(name for name, value in found.items() if value is None)
    if unset:
        raise BadRequest(f"the node needs {', '.join(unset)}; give each as --parameter name=TYPE:value")


def parsed(parameter: str) -> tuple[str, Any]:
    """Name and value of `name=TYPE:value`. Raises BadRequest."""
    match = re.fullmatch(r"([^=]+)=([A-Z]+):(.*)", parameter, re.DOTALL)
    if not match or match[2] not in TYPES:
        raise BadRequest(
            f"--parameter must be name=TYPE:value with TYPE {', '.join(TYPES)}, got {parameter!r}"
        )
    _refuse_placeholder(f"--parameter {match[1]!r}", match[3])
    try:
        return match[1], TYPES[match[2]](match[3])
    except ValueError as error:
        raise BadRequest(f"--parameter {match[1]!r} must be of type {match[2]}, got {match[3]!r}") from error


def connect(environment: Mapping[str, str]) -> Any:
    """Connection of the metadata store, tried once. Raises BadRequest and MetadataUnusable."""
    from pipeline.home import metadata

    connection = connection_from(environment)
    try:
        with metadata.opened(connection):
            return connection
    except metadata.ERRORS as error:
        raise MetadataUnusable(_why_unusable(connection, error)) from error


def _why_unusable(connection: Any, error: Exception) -> str:
    """A sentence for what ML Metadata, whose words for a refused connection are empty, does not say."""
    if connection.HasField("sqlite"):
        reason = " ".join(str(error).split()).rpartition("error: ")[2]
        return (
            f"the metadata file {connection.sqlite.filename_uri} cannot be used ({reason}); check its folder"
        )
    server = connection.mysql
    try:
        socket.create_connection((server.host, server.port), timeout=10).close()
    except OSError as problem:
        return (
            f"no metadata server answers at {server.host}:{server.port} ({problem.strerror or problem}); "
            f"check that it runs, and {PREFIX}HOST and _PORT"
        )
    return (
        f"the metadata server at {server.host}:{server.port} refuses user {server.user!r} or has no database "
        f"{server.database!r}; check the password's Secret, and that the user has mysql_native_password"
    )


def connection_from(environment: Mapping[str, str]) -> Any:
    """Connection of the metadata store that the environment names. Raises BadRequest."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    if path := environment.get(f"{PREFIX}SQLITE"):
        sqlite = mlmd.SqliteMetadataSourceConfig(filename_uri=path, connection_mode="READWRITE_OPENCREATE")
        return mlmd.ConnectionConfig(sqlite=sqlite)
    names = ("HOST", "PORT", "DATABASE", "USER", "PASSWORD")
    missing = [PREFIX + name for name in names if not environment.get(PREFIX + name)]
    if missing:
        raise BadRequest(f"the environment lacks {', '.join(missing)} (or {PREFIX}SQLITE)")
    host, port, database, user, password = (environment[PREFIX + name] for name in names)
    if not port.isdecimal():
        raise BadRequest(f"{PREFIX}PORT must be a number, got {port!r}")
    return mlmd.ConnectionConfig(
        mysql=mlmd.MySQLDatabaseConfig(
            host=host, port=int(port), database=database, user=user, password=password
        )
    )


def _stop(number: int, frame: Any) -> None:
    raise Stopped


def _check_filled(option: str, value: str) -> None:
    """Raise BadRequest for a value that Kubeflow should have filled in."""
    if not value:
        raise BadRequest(f"{option} is empty; expected the value that Kubeflow fills in")
    _refuse_placeholder(option, value)


def _refuse_placeholder(option: str, value: str) -> None:
    if match := PLACEHOLDER.search(value):
        raise BadRequest(
            f"{option} still holds the placeholder {match[0]!r}; Kubeflow Pipelines 2.5 or newer fills it in"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.node",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--nodes", default="", help="ids of the nodes to run, separated by commas")
    what.add_argument("--init-metadata", action="store_true", help="make the tables of the metadata store")
    parser.add_argument("--ir-sha256", default="", help="of the compiled pipeline")
    parser.add_argument("--plan", default="", help="what the pipeline is compiled from, for the first task")
    parser.add_argument("--run-id", default="", help="the same for all nodes of a run")
    parser.add_argument("--tfx-root", default="", help="folder for artifacts")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=TYPE:VALUE", help="a runtime parameter"
    )
    parser.add_argument(
        "--attempts",
        type=_attempts,
        default=0,
        help="start the work so often at most (0: once, in this process)",
    )
    parser.add_argument(
        "--wait", type=_duration, default=30.0, metavar="30s", help="before the second attempt"
    )
    parser.add_argument(
        "--go-on", action="store_true", help="exit with 0 when a node of a variant has failed"
    )
    parser.add_argument(
        "--verdict", action="store_true", help="run nothing; exit with 5 when a node before these has failed"
    )
    parser.add_argument("--workers", default="", help="sha256 of the JobSet of workers that train")
    parser.add_argument("--kfp", default="", help="Kubeflow's executor input, where to put the report")
    parser.add_argument(ATTEMPT, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--abandon", default="", help=argparse.SUPPRESS)
    add_options(parser)
    return parser


def _attempts(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text[:9]) > 100:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 100, got {text!r}")
    return int(text)


def _duration(text: str) -> float:
    try:
        return supervisor.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
