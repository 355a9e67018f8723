"""Runs one node of the pipeline: what each container on the cluster does.

    python -m pipeline.node --node-id Transform --ir TEXT --ir-sha256 HEX --run-id ID --tfx-root FOLDER
    python -m pipeline.node --init-metadata

The first form resolves the node's inputs in the metadata store, looks for a cached result, runs the executor
and records what came of it, all through TFX's portable launcher. A node that is started again in the same run
takes up its earlier execution; one that had succeeded does nothing. The second form makes the tables of the
metadata store, once, before many nodes connect at the same time.

The metadata store is named by the environment: either LATENTLINE_METADATA_SQLITE (a path), or
LATENTLINE_METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD of a MySQL server.

Exit codes:
    0    the node completed, was taken from the cache, or had nothing to do since a condition was false
    1    the component failed
    2    the request is wrong: arguments, environment, or an IR that was changed on its way
    3    an input of the node does not exist in this run
    4    the metadata store cannot be used
    143  the container was told to stop (SIGTERM); the execution is recorded as failed and can be retried
"""

import argparse
import json
import logging
import os
import re
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.devices import threads

COMPLETE, FAILED, BAD_REQUEST, NO_INPUT, NO_METADATA, STOPPED = 0, 1, 2, 3, 4, 143

PREFIX = "LATENTLINE_METADATA_"
TYPES: dict[str, type] = {"STRING": str, "INT": int, "DOUBLE": float}
PLACEHOLDER = re.compile(r"\{\{.*")

log = logging.getLogger("latentline")


class BadRequest(ValueError):
    """An argument or the environment is wrong."""


class MetadataUnusable(RuntimeError):
    """The metadata store cannot be opened."""


class Stopped(BaseException):
    """SIGTERM; not an Exception, so that no component takes it for a failure of its own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module for the exit codes."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(options.log_format, options.verbose)
    threads.one_an_operation()
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(_dispatch(options))


def _dispatch(options: argparse.Namespace) -> int:
    from pipeline.dag.ir import BadIr

    name = options.node_id or "metadata"
    started = time.monotonic()
    try:
        verdict = init_metadata(os.environ) if options.init_metadata else run_node(options, os.environ)
    except (BadRequest, BadIr) as error:
        return _end(name, BAD_REQUEST, "refused", error=str(error))
    except MetadataUnusable as error:
        return _end(name, NO_METADATA, "metadata store unusable", error=str(error))
    except Stopped:
        return _stopped(name)
    except SystemExit as error:  # a trainer that leaves a checkpoint behind before it stops ends so
        if error.code == STOPPED:
            return _stopped(name)
        return _end(name, FAILED, "failed", error=f"the component left the process with {error.code!r}")
    except Exception as error:  # whatever a component raises is its failure
        return _end(name, FAILED, "failed", error=_innermost(error), traceback=traceback.format_exc())
    seconds = round(time.monotonic() - started, 1)
    if verdict == "unresolved":
        words = "an input does not exist in this run; the lines above name it"
        return _end(name, NO_INPUT, "input missing", error=words, seconds=seconds)
    return _end(name, COMPLETE, verdict, seconds=seconds)


def _stopped(name: str) -> int:
    return _end(name, STOPPED, "stopped", error="told to stop (SIGTERM); the next attempt takes over")


def run_node(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """Run the node; complete, cached, skipped or unresolved.

    Raises BadRequest, BadIr, MetadataUnusable, Stopped, and whatever its component raises.
    """
    from pipeline.dag import ir
    from pipeline.execution import outcome
    from pipeline.execution.launch import launch
    from pipeline.home import metadata

    pipeline = ir.unpack(ir.PackedIr(options.ir, options.ir_sha256))
    node = pipeline.nodes[0].pipeline_node
    if node.node_info.id != options.node_id:
        raise BadRequest(f"--ir is of node {node.node_info.id}, --node-id is {options.node_id}")
    bind(pipeline, options.run_id, options.tfx_root, options.parameter)
    connection = connect(environment)
    log.info("started", extra={"facts": {"node": options.node_id, "run": options.run_id}})
    try:
        execution = launch(pipeline, node, connection)
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut this short
        with metadata.opened(connection) as store:
            store.mark_unfinished_failed(node)
        raise
    return outcome.read(connection, execution).value


def bind(pipeline: Any, run_id: str, tfx_root: str, parameters: Sequence[str]) -> None:
    """Put the values of this run into the IR. Raises BadRequest for what Kubeflow left unfilled."""
    from tfx.dsl.compiler import constants
    from tfx.orchestration.portable import runtime_parameter_utils

    for option, value in (("--run-id", run_id), ("--tfx-root", tfx_root)):
        if not value:
            raise BadRequest(f"{option} is empty; expected the value that Kubeflow fills in")
        _refuse_placeholder(option, value)
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


def init_metadata(environment: Mapping[str, str]) -> str:
    """Make the tables of the metadata store, or find them made. Raises BadRequest and MetadataUnusable."""
    connect(environment)
    return "ready"


def _stop(number: int, frame: Any) -> None:
    raise Stopped


def _refuse_placeholder(option: str, value: str) -> None:
    if match := PLACEHOLDER.search(value):
        raise BadRequest(
            f"{option} still holds the placeholder {match[0]!r}; Kubeflow Pipelines 2.5 or newer fills it in"
        )


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split(" [while running")[0].split())


def _end(name: str, code: int, verdict: str, **facts: Any) -> int:
    level = logging.INFO if code == COMPLETE else logging.ERROR
    log.log(level, verdict, extra={"facts": {"node": name, "exit": code, **facts}})
    return code


class Lines(logging.Formatter):
    """One line an event: time, level, what, and the facts as name=value; a traceback follows indented."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        facts = dict(getattr(record, "facts", {}))
        trace = facts.pop("traceback", "")
        shown = "".join(f" {name}={_quoted(value)}" for name, value in facts.items())
        source = "" if record.name == log.name else f"{record.name}: "
        text = " ".join(record.getMessage().split())
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ")
        following = "".join(f"\n    {line}" for line in trace.splitlines())
        return f"{stamp} {record.levelname} {source}{text}{shown}{following}"


class JsonLines(logging.Formatter):
    """One JSON object an event."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        event = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        return json.dumps(event, default=str)


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if re.search(r'[\s"]', text) or not text else text


def _log_to_stderr(log_format: str, verbose: bool) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")  # before TensorFlow is imported
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else Lines())
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler], force=True)
    log.setLevel(logging.INFO)
    for own in ("components", "pipeline", "trainer"):
        logging.getLogger(own).setLevel(logging.INFO)
    logging.getLogger("absl").addFilter(_worth_logging)
    logging.captureWarnings(True)
    if not verbose:
        warnings.simplefilter("ignore")  # of libraries about libraries; nobody who reads a task's log can act


def _worth_logging(record: logging.LogRecord) -> bool:
    """Not TFX's warning that the IR names no metadata store: here the environment does."""
    return "metadata_connection_config is not provided" not in record.getMessage()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.node",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--node-id", help="id of the node in the pipeline")
    what.add_argument("--init-metadata", action="store_true", help="make the tables of the metadata store")
    parser.add_argument("--ir", default="", help="the node's IR (pipeline.dag.ir.pack)")
    parser.add_argument("--ir-sha256", default="", help="of the IR's bytes")
    parser.add_argument("--run-id", default="", help="the same for all nodes of a run")
    parser.add_argument("--tfx-root", default="", help="folder for artifacts")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=TYPE:VALUE", help="a runtime parameter"
    )
    parser.add_argument("--log-format", choices=("plain", "json"), default="plain")
    parser.add_argument(
        "--verbose", action="store_true", help="show what TFX, Beam and TensorFlow say as well"
    )
    return parser


if __name__ == "__main__":
    main()
