"""A pool of Beam workers that get the project's code with the job.

    python beam_worker.py --port 50000

An engine asks the pool for workers where a job has --environment_type=EXTERNAL and
--environment_config=HOST:PORT. Beam's own pool leaves what a job brings to a program that is part of Beam's
container images only. This one fetches the wheel of the project, unpacks it for the worker, and refuses the
job where this machine has another Python or other packages than the job was made with.

The file needs nothing but Python, Beam and the locked packages, so that it can be copied to machines that do
not have the project.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
from google.protobuf import json_format, text_format

WORKER_FILE = "worker.json"
"""File in the metadata of the project's wheel: the Python and the versions that a worker must have."""
LISTS = ("extra_packages.txt", "submission_environment_dependencies.txt")
"""Staged files that only list others."""
SECONDS = 60.0
"""How long the engine may take to hand over a job's description or one staged file."""
START_SECONDS = 300.0
"""How long a worker may take to import Beam."""
STOP_SECONDS = 10.0
"""How long a worker may take to end after SIGTERM."""
CHECK_SECONDS = 20.0
"""Time between two looks for the engines of workers."""
MISSES = 3
"""Looks in a row that find no engine before its workers are stopped."""
READY = "ready"
HARNESS = (
    "import sys; from apache_beam.runners.worker import sdk_worker_main; "
    f"print('{READY}', flush=True); sdk_worker_main.main(sys.argv)"
)

log = logging.getLogger("beam_worker")


class Refused(RuntimeError):
    """This machine cannot work on a job; the message says why in one sentence."""


@dataclasses.dataclass
class Worker:
    """A process that works for an engine.

    Attributes:
      process: of the worker.
      engine: host and port of the engine's control service, to which the worker connects.
      missed: how many looks in a row found no engine there.
    """

    process: "subprocess.Popen[str]"
    engine: str
    missed: int = 0


class Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a process for each worker that an engine asks for."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Keep unpacked code in `folder`."""
        self._folder = folder
        self._workers: dict[str, Worker] = {}
        self._unpacking = threading.Lock()

    def StartWorker(self, request: Any, context: Any) -> Any:
        """Start a worker; what prevents it is the answer's error, which fails the job. gRPC calls this."""
        try:
            self._start(request)
        except Refused as error:
            problem = str(error)
        except grpc.RpcError as error:
            problem = (
                f"the engine does not hand over the job's files ({error.code().name}: {error.details()})"
            )
        except OSError as error:
            problem = f"the job's files cannot be kept in {self._folder} ({error.strerror or error})"
        else:
            return beam_fn_api_pb2.StartWorkerResponse()
        problem = f"worker pool on {platform.node()}: {problem}"
        log.error("%s: %s", request.worker_id, problem)
        return beam_fn_api_pb2.StartWorkerResponse(error=problem)

    def StopWorker(self, request: Any, context: Any) -> Any:
        """Stop a worker; gRPC calls this."""
        if worker := self._workers.pop(request.worker_id, None):
            stop([worker.process])
            log.info("%s stopped", request.worker_id)
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> None:
        """Stop every worker."""
        stop([worker.process for worker in list(self._workers.values())])

    def look(self) -> None:
        """Stop the workers whose engine is gone: a worker may wait for it for ever."""
        for name, worker in list(self._workers.items()):
            host, _, port = worker.engine.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
            except OSError:
                worker.missed += 1
            else:
                worker.missed = 0
            if worker.missed == MISSES:
                self._workers.pop(name, None)
                stop([worker.process])
                log.warning("%s stopped: its engine at %s is gone", name, worker.engine)

    def _start(self, request: Any) -> None:
        """Start the worker of a request. Raises Refused, grpc.RpcError and OSError."""
        with channel(request.provision_endpoint, request.worker_id) as provision:
            stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(provision)
            info = stub.GetProvisionInfo(
                beam_provision_api_pb2.GetProvisionInfoRequest(), timeout=SECONDS
            ).info
        with self._unpacking:
            places = [self._unpacked(name, data) for name, data in wheels(request, info.dependencies)]
        if not places and importlib.util.find_spec("trainer") is None:
            raise Refused("the job brings no wheel of the project, and it is not installed here")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, places), os.environ.get("PYTHONPATH")])),
            "WORKER_ID": request.worker_id,
            "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(request.logging_endpoint),
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(request.control_endpoint),
            "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
            "SEMI_PERSISTENT_DIRECTORY": str(self._folder),
        }
        if info.HasField("status_endpoint"):
            environment["STATUS_API_SERVICE_DESCRIPTOR"] = text_format.MessageToString(info.status_endpoint)
        worker = subprocess.Popen(
            [sys.executable, "-P", "-c", HARNESS], env=environment, stdout=subprocess.PIPE, text=True
        )
        if not began(worker):
            stop([worker])
            raise Refused(
                f"a worker ended before it began (exit code {worker.returncode}); the pool's output says why"
            )
        self._workers[request.worker_id] = Worker(worker, request.control_endpoint.url)
        log.info("%s started", request.worker_id)

    def _unpacked(self, name: str, data: bytes) -> pathlib.Path:
        """Return the folder of an unpacked wheel. Raises Refused if this machine lacks what it needs."""
        place = self._folder / hashlib.sha256(data).hexdigest()
        if place.exists():
            return place
        unfinished = self._folder / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        archive = self._folder / name
        archive.write_bytes(data)
        shutil.unpack_archive(archive, unfinished, "zip")
        archive.unlink()
        for described in unfinished.glob(f"*.dist-info/{WORKER_FILE}"):
            check(json.loads(described.read_text()))
        unfinished.rename(place)
        return place


def check(required: Any) -> None:
    """Raise Refused unless this process has the Python and the packages that a job was made with."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if own != required["python"]:
        raise Refused(
            f"it runs Python {own}, and the job was made with {required['python']}; start it with that"
        )
    for name, version in required["packages"].items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found != version:
            raise Refused(
                f"{name} {version} is needed, as where the job was made, and {found} is installed; install "
                "the project's requirements/lock.txt"
            )


def wheels(request: Any, artifacts: Sequence[Any]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the wheels that a job brings. Raises Refused and grpc.RpcError."""
    if not artifacts:
        return
    with channel(request.artifact_endpoint, request.worker_id) as connection:
        stub = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(connection)
        wanted = beam_artifact_api_pb2.ResolveArtifactsRequest(artifacts=artifacts)
        for artifact in stub.ResolveArtifacts(wanted, timeout=SECONDS).replacements:
            role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
            name = os.path.basename(role.staged_name)
            if name in LISTS:
                continue
            if not name.endswith(".whl"):
                raise Refused(f"the job brings {name}, and this pool takes wheels only")
            asked = beam_artifact_api_pb2.GetArtifactRequest(artifact=artifact)
            yield name, b"".join(part.data for part in stub.GetArtifact(asked, timeout=SECONDS))


@contextlib.contextmanager
def channel(endpoint: endpoints_pb2.ApiServiceDescriptor, worker: str) -> Iterator[Any]:
    """Connect to a service of the engine in the name of a worker."""
    with grpc.insecure_channel(endpoint.url) as plain:
        yield grpc.intercept_channel(plain, WorkerIdInterceptor(worker))


def began(worker: "subprocess.Popen[str]") -> bool:
    """Return whether a worker says that it begins; False if it ends or takes too long.

    An engine waits for ever for a worker that ends before it has connected.
    """
    late = threading.Timer(START_SECONDS, worker.kill)
    late.start()
    try:
        assert worker.stdout is not None
        return worker.stdout.readline().strip() == READY
    finally:
        late.cancel()


def stop(workers: "Sequence[subprocess.Popen[str]]") -> None:
    """End processes, with SIGKILL those that do not end after SIGTERM."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument("--port", type=int, default=50000, help="default: %(default)s; 0: any free one")
    parser.add_argument(
        "--host",
        default="localhost",
        help="address to listen on (default: %(default)s); whoever can connect can run code here",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="beam-worker-") as folder:
        pool = Pool(pathlib.Path(folder))
        # Engines ping idle connections, which gRPC takes for abuse unless told otherwise.
        kept = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
        server = grpc.server(futures.ThreadPoolExecutor(), options=[*kept, ("grpc.so_reuseport", 0)])
        beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
        try:
            port = server.add_insecure_port(f"{options.host}:{options.port}")
        except RuntimeError:
            sys.exit(f"cannot listen on {options.host}:{options.port}; is another pool running there?")
        server.start()
        print(f"listening on {options.host}:{port}", flush=True)
        while not ended.wait(CHECK_SECONDS):
            pool.look()
        server.stop(0).wait()
        pool.close()


if __name__ == "__main__":
    main()
