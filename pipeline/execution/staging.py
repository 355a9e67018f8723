"""The project's code for workers on other machines: a wheel of it goes with each job that leaves this one.

It is made of the files that this process runs, without network, and also says which Python and which packages
a worker must have; pipeline.execution.beam_worker compares them and puts the wheel on its path.
"""

import base64
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import pathlib
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability import job_server
from tfx.proto.orchestration import placeholder_pb2

from pipeline.config import engines

PROJECT = "latentline"
PACKAGES = ("components", "pipeline", "schemas", "trainer")
"""What the functions that Beam runs are made of."""
NEEDED = (
    "apache-beam", "dill", "numpy", "protobuf", "pyarrow", "tensorflow", "tensorflow-data-validation",
    "tensorflow-metadata", "tensorflow-model-analysis", "tensorflow-transform", "tf-keras", "tfx", "tfx-bsl",
)  # fmt: skip
"""Distributions whose version decides what a worker computes, or whether it can read a job at all."""
WORKER_FILE = "worker.json"
"""File in the wheel's metadata: the Python and the versions that a worker must have."""
BRINGS_PACKAGES = ("extra_package", "extra_packages", "setup_file")
NO_FREEZE = "--experiments=disable_logging_submission_environment"
"""Keeps Beam from calling pip for each job, only to log what is installed here."""
DESCRIBE_SECONDS = 10.0
"""How long a job server may take to describe its options."""
CANCEL_SECONDS = 5.0
"""How long a job server may take to cancel a job."""
ALIVE_SECONDS, DEAD_SECONDS = 310.0, 60.0
"""How often a job server is asked during a job whether it is there, and how long it may take to answer.

Servers of gRPC close a connection that asks them more often than every five minutes.
"""

log = logging.getLogger(__name__)


class EngineUnusable(RuntimeError):
    """An engine cannot take the job; the message says why in one sentence."""


@contextlib.contextmanager
def equipped(arguments: list[Any]) -> Iterator[None]:
    """Add what a remote engine needs to Beam's arguments of an executor, while the body runs.

    arguments: placeholder expressions of TFX; nothing is added for Beam's own runner. Raises EngineUnusable
    if the job server does not answer, refuses an option, or goes away while the body runs.
    """
    given = tuple(each.value.string_value for each in arguments)
    if not engines.is_remote(given):
        yield
        return
    if problem := engines.unreachable(given) or refused_options(given):
        raise EngineUnusable(problem)
    with tempfile.TemporaryDirectory(prefix=f"{PROJECT}-") as folder:
        added = [NO_FREEZE]
        if not any(engines.value(given, option) for option in BRINGS_PACKAGES):
            added.append(f"--extra_package={write_wheel(folder)}")
        arguments += [_text(argument) for argument in added]
        try:
            with watched_job_server():
                yield
        except grpc.RpcError as error:
            log.exception("the connection to the engine is lost")
            # Not `from error`, whose words would take the place of these.
            raise EngineUnusable(lost(given, error)) from None


@contextlib.contextmanager
def watched_job_server() -> Iterator[None]:
    """Have Beam notice, while the body runs, that a job server no longer answers: the call then fails.

    Beam waits for the end of a job without a deadline, so that a machine that is gone or a process that is
    stopped would hold it for ever. Beam offers no option for it. The jobs that the body has submitted are
    cancelled if it ends by an exception, such as that of SIGTERM; the engine would go on with them.
    """
    original = job_server.ExternalJobServer.start
    submitted: list[tuple[Any, str]] = []

    def start(self: Any) -> Any:
        options = [
            ("grpc.keepalive_time_ms", round(1000 * ALIVE_SECONDS)),
            ("grpc.keepalive_timeout_ms", round(1000 * DEAD_SECONDS)),
            ("grpc.http2.ping_timeout_ms", round(1000 * DEAD_SECONDS)),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        channel = grpc.insecure_channel(self._endpoint, options=options)
        grpc.channel_ready_future(channel).result(timeout=self._timeout)
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        call = stub.Run

        def run(*request: Any, **options: Any) -> Any:
            response = call(*request, **options)
            submitted.append((stub, response.job_id))
            return response

        stub.Run = run
        return stub

    job_server.ExternalJobServer.start = start
    try:
        yield
    except BaseException:
        for stub, job in submitted:
            with contextlib.suppress(grpc.RpcError):  # the server is gone, or has ended the job
                stub.Cancel(beam_job_api_pb2.CancelJobRequest(job_id=job), timeout=CANCEL_SECONDS)
        raise
    finally:
        job_server.ExternalJobServer.start = original


def refused_options(arguments: tuple[str, ...]) -> str:
    """Return which option neither Beam nor the job server knows, in a sentence; empty if there is none."""
    from pipeline.config import beam_options

    endpoint = engines.value(arguments, "job_endpoint")
    foreign = beam_options.foreign(arguments)
    if not foreign or not endpoint:
        return ""
    with grpc.insecure_channel(endpoint) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        try:
            described = stub.DescribePipelineOptions(
                beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=DESCRIBE_SECONDS
            )
        except grpc.RpcError as error:
            return lost(arguments, error)
    known = {f"--{option.name}" for option in described.options}
    unknown = [name for name in foreign if name not in known]
    return f"neither Beam nor the job server at {endpoint} has an option {unknown[0]}" if unknown else ""


def lost(arguments: tuple[str, ...], error: grpc.RpcError) -> str:
    """Return that the job server of an engine went away, in a sentence."""
    place = engines.value(arguments, "job_endpoint") or engines.value(arguments, "flink_master")
    return (
        f"{engines.value(arguments, 'runner')} lost the job server at {place} ({error.code().name}: "
        f"{' '.join((error.details() or 'no details').split())}); start it again, then the same command "
        "resumes from here"
    )


def write_wheel(folder: str) -> str:
    """Write the project's wheel into a folder and return its path."""
    path = os.path.join(folder, f"{PROJECT}-{_version()}-py3-none-any.whl")
    pathlib.Path(path).write_bytes(wheel())
    return path


@functools.cache
def wheel() -> bytes:
    """Return the project as a wheel; the same files give the same bytes.

    It is made once per process, and so once per run of forked components, which send the code they run.
    """
    files: dict[str, bytes] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise EngineUnusable(f"the package {package} cannot be found, which workers need")
        folder = pathlib.Path(spec.origin).parent
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"{package}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    about = f"{PROJECT}-{_version()}.dist-info"
    files[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {_version()}\n".encode()
    files[f"{about}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {PROJECT}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode()
    )
    files[f"{about}/{WORKER_FILE}"] = json.dumps(required(), sort_keys=True).encode()
    record = "".join(f"{name},{_hash(data)},{len(data)}\n" for name, data in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def required() -> dict[str, Any]:
    """Return the Python and the versions of packages that a worker must have: those of this process."""
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "packages": {name: importlib.metadata.version(name) for name in NEEDED},
    }


def _version() -> str:
    """Return the project's version; 0 where it runs from its folder without being installed."""
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _hash(data: bytes) -> str:
    """Return the hash of a file as a wheel's RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _text(argument: str) -> placeholder_pb2.PlaceholderExpression:
    """Return an argument as TFX's specification of an executor has it."""
    expression = placeholder_pb2.PlaceholderExpression()
    expression.value.string_value = argument
    return expression
