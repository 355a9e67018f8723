"""A job that leaves this process takes the project's code along, and says what it needs."""

import ast
import importlib.metadata
import io
import json
import pathlib
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability import job_server
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from pipeline.config.errors import Stopped
from pipeline.execution import beam_worker, staging
from pipeline.execution.beam_worker import Refused, check
from pipeline.execution.staging import EngineUnusable, equipped

WORKER = pathlib.Path(beam_worker.__file__)


def given(*arguments: str) -> list[Any]:
    return [staging._text(argument) for argument in arguments]


def texts(arguments: list[Any]) -> list[str]:
    return [each.value.string_value for each in arguments]


@pytest.fixture
def server() -> Any:
    """Host and port of a Beam job server."""
    service = LocalJobServicer()
    port = service.start_grpc_server()
    yield f"localhost:{port}"
    service.stop()


def test_the_wheel_is_the_same_every_time_and_holds_the_code_that_runs_here() -> None:
    first = staging.wheel()
    staging.wheel.cache_clear()
    assert staging.wheel() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        source = archive.read("pipeline/execution/beam_worker.py")
    assert source == WORKER.read_bytes()
    assert {"schemas/schema.pbtxt", "trainer/transform.py", "components/evaluation/metrics.py"} <= {*names}
    assert not [name for name in names if "__pycache__" in name]


def test_pip_installs_the_wheel_without_network(tmp_path: pathlib.Path) -> None:
    path = staging.write_wheel(str(tmp_path))
    target = tmp_path / "target"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--target",
        str(target),
        path,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = subprocess.run(
        [sys.executable, "-c", "import schemas; print(schemas.__file__)"],
        env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert found.stdout.startswith(str(target))


def test_the_worker_needs_nothing_of_the_project() -> None:
    imported = set()
    for node in ast.walk(ast.parse(WORKER.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == {"apache_beam", "google", "grpc"}


def test_this_process_could_work_on_its_own_job() -> None:
    check(json.loads(json.dumps(staging.required())))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "3.10"}, r"it runs Python 3\.11, and the job was made with 3\.10"),
        (
            {"packages": {"apache-beam": "2.60.0"}},
            r"apache-beam 2\.60\.0 is needed, .* and 2\.59\.0 is installed",
        ),
        (
            {"packages": {"no-such-package": "1.0"}},
            r"no-such-package 1\.0 is needed, .* and none is installed",
        ),
    ],
)
def test_a_worker_of_another_kind_is_refused_in_one_sentence(change: dict[str, Any], words: str) -> None:
    assert importlib.metadata.version("apache-beam") == "2.59.0"
    with pytest.raises(Refused, match=words) as caught:
        check({**staging.required(), **change})
    assert "\n" not in str(caught.value)


def test_a_job_that_stays_in_this_process_takes_nothing_along() -> None:
    arguments = given("--direct_running_mode=in_memory")
    with equipped(arguments):
        assert texts(arguments) == ["--direct_running_mode=in_memory"]


def test_a_job_for_an_engine_takes_the_wheel_along_unless_it_brings_packages(server: str) -> None:
    own = ("--runner=PortableRunner", f"--job_endpoint={server}")
    arguments = given(*own)
    with equipped(arguments):
        [added] = [text for text in texts(arguments) if text.startswith("--extra_package=")]
        path = pathlib.Path(added.partition("=")[2])
        assert path.read_bytes() == staging.wheel()
    assert not path.exists()
    arguments = given(*own, "--extra_package=/mine.whl")
    with equipped(arguments):
        assert [text for text in texts(arguments) if "package" in text] == ["--extra_package=/mine.whl"]


def test_an_option_that_the_job_server_does_not_have_either_is_refused(server: str) -> None:
    arguments = given("--runner=PortableRunner", f"--job_endpoint={server}", "--number_of_retries=3")
    with pytest.raises(EngineUnusable, match=r"has an option --number_of_retries"), equipped(arguments):
        pass


@pytest.fixture
def other_job_server(tmp_path: pathlib.Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Beam job server in a process of its own, and its host and port."""
    port_file = tmp_path / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module, "--port_file", str(port_file)]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text()):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield process, f"localhost:{port_file.read_text()}"
    finally:
        process.kill()
        process.wait()


def test_a_job_server_that_hangs_during_a_job_is_lost_and_not_waited_for(
    other_job_server: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, endpoint = other_job_server
    monkeypatch.setattr(staging, "ALIVE_SECONDS", 0.5)
    monkeypatch.setattr(staging, "DEAD_SECONDS", 0.5)
    arguments = given("--runner=PortableRunner", f"--job_endpoint={endpoint}")

    def job() -> None:
        with equipped(arguments):
            stub = job_server.ExternalJobServer(endpoint, 30).start()
            process.send_signal(signal.SIGSTOP)
            stub.GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=60)

    with pytest.raises(
        EngineUnusable, match=rf"lost the job server at {endpoint} \(UNAVAILABLE: ping timeout"
    ):
        job()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Stopped, ValueError])
def test_a_run_that_is_stopped_leaves_no_job_on_the_engine(
    server: str, interruption: type[BaseException]
) -> None:
    arguments = given("--runner=PortableRunner", f"--job_endpoint={server}", "--environment_type=LOOPBACK")

    def job() -> None:
        with equipped(arguments):
            pipeline = beam.Pipeline(argv=texts(arguments))
            pipeline | beam.Create([2]) | beam.Map(time.sleep)
            pipeline.run()
            raise interruption("stop")

    with pytest.raises(interruption):
        job()
    with grpc.insecure_channel(server) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        states = [each.state for each in stub.GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=10).job_info]
    assert states == [beam_job_api_pb2.JobState.CANCELLED]


def test_a_job_server_that_is_gone_is_named_before_the_job_is_made() -> None:
    arguments = given("--runner=PortableRunner", "--job_endpoint=localhost:1")
    with (
        pytest.raises(EngineUnusable, match="no Beam job server answers at localhost:1"),
        equipped(arguments),
    ):
        pass
