"""Beam's components on a Beam job server, with workers that have the locked packages but not the project.

The job server is the one of Beam's Python SDK, or that of an engine such as Flink at LATENTLINE_JOB_ENDPOINT.
Results are those of the engine `direct`; a worker that does not fit and a job server that is killed are told
in one sentence, and the same command goes on.
"""

import collections
import contextlib
import os
import pathlib
import shutil
import site
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
import yaml
from google.protobuf import json_format
from warm import Child, Warm

from pipeline.execution import beam_worker

pytestmark = pytest.mark.beam

SECONDS = 120.0
"""Longest wait for a server."""
VARIANT = "linear"
ON_BEAM = ("StatisticsGen", "Transform", f"Evaluator.{VARIANT}")
TOLERANCE = 1e-6
"""Relative, for sums of floating-point numbers that an engine adds in another order."""

Start = Callable[..., Child]


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def server(command: list[str], log: pathlib.Path, said: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said so when it serves; its environment does not know the project."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=out, stderr=out)
    try:
        until(lambda: said in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(SECONDS)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def job_server(port: int, folder: pathlib.Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module, "--port", str(port), "--staging_dir", str(folder / "staged")]
    return server(command, folder / f"job-server-{port}.log", "Listening for beam jobs")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("beam")


@pytest.fixture(scope="module")
def python(scratch: pathlib.Path) -> pathlib.Path:
    """Python with the locked packages and without the project, whether it is installed here or not."""
    folder = scratch / "worker"
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "locked.pth").write_text("\n".join(site.getsitepackages()))
    found = folder / "bin" / "python"
    command = [str(found), "-c", "import tfx, pipeline"]
    failed = subprocess.run(command, env={}, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    assert "No module named 'pipeline'" in failed.stderr
    return found


@pytest.fixture(scope="module")
def pool(python: pathlib.Path, scratch: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Address and output of a worker pool, of a copy of its one file."""
    copy = scratch / "beam_worker.py"
    shutil.copy(beam_worker.__file__, copy)
    port, log = free_port(), scratch / "pool.log"
    with server([str(python), str(copy), "--port", str(port)], log, "listening on"):
        yield f"localhost:{port}", log


@pytest.fixture(scope="module")
def endpoint(scratch: pathlib.Path) -> Iterator[str]:
    if given := os.environ.get("LATENTLINE_JOB_ENDPOINT"):
        yield given
        return
    port = free_port()
    with job_server(port, scratch):
        yield f"localhost:{port}"


@pytest.fixture(scope="module")
def start(warm: Warm, scratch: pathlib.Path, digits_folder: pathlib.Path) -> Start:
    """Starts a run in a home, with components on an engine that the home's settings name."""

    def begin(home: pathlib.Path, beam: Mapping[str, Any]) -> Child:
        settings = {
            "variants": [VARIANT], "profile": "smoke", "data": str(digits_folder), "home": str(home),
            "jobs": 2, "experiments": {VARIANT: {"recipe": {"steps": 40, "floor": -1.0e6}}},
            "beam": dict(beam),
        }  # fmt: skip
        path = home.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(settings))
        return warm.start(["run", "--settings", path])

    return begin


def external(endpoint: str, pool: str) -> list[str]:
    return [
        "--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=EXTERNAL",
        f"--environment_config={pool}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def direct(start: Start, scratch: pathlib.Path) -> pathlib.Path:
    """The home of a run whose components use Beam in their own process."""
    start(scratch / "direct", {}).fine()
    return scratch / "direct"


@pytest.fixture(scope="module")
def homes(
    start: Start, direct: pathlib.Path, scratch: pathlib.Path, endpoint: str, pool: tuple[str, pathlib.Path]
) -> dict[str, pathlib.Path]:
    """The home of a run on each engine."""
    found = {"direct": direct, **{name: scratch / name for name in ("external", "processes")}}
    start(found["external"], {"default": external(endpoint, pool[0])}).fine()
    start(found["processes"], {"default": "direct-2"}).fine()
    return found


def artifact(home: pathlib.Path, path: str) -> pathlib.Path:
    [found] = home.glob(f"artifacts/{path}")
    return found


def records(home: pathlib.Path, split: str) -> collections.Counter[bytes]:
    """The transformed examples as a multiset; features within a record are in the order of a hash table."""
    folder = artifact(home, f"Transform/transformed_examples/*/Split-{split}")
    files = sorted(map(str, folder.iterdir()))
    read = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
    return collections.Counter(
        tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in read
    )


@pytest.mark.parametrize("engine", ["external", "processes"])
class TestEveryEngine:
    def test_transforms_to_the_same_records(self, homes: dict[str, pathlib.Path], engine: str) -> None:
        for split in ("train", "eval"):
            expected = records(homes["direct"], split)
            assert expected
            assert records(homes[engine], split) == expected

    def test_computes_the_same_statistics(self, homes: dict[str, pathlib.Path], engine: str) -> None:
        for split in ("train", "eval"):
            one, other = (
                json_format.MessageToDict(
                    tfdv.load_stats_binary(
                        str(artifact(homes[name], f"StatisticsGen/*/*/Split-{split}/FeatureStats.pb"))
                    )
                )
                for name in ("direct", engine)
            )
            assert_alike(in_order(other), in_order(one))

    def test_trains_to_the_same_weights_bit_for_bit(
        self, homes: dict[str, pathlib.Path], engine: str
    ) -> None:
        name = f"Trainer.{VARIANT}/model/*/Format-Serving/variables/variables.data-*"
        one, other = (artifact(homes[each], name).read_bytes() for each in ("direct", engine))
        assert one == other

    def test_evaluates_to_the_same_metrics(self, homes: dict[str, pathlib.Path], engine: str) -> None:
        one, other = (
            dict(
                tfma.load_eval_result(
                    str(artifact(homes[name], f"Evaluator.{VARIANT}/evaluation/[0-9]*"))
                ).slicing_metrics
            )
            for name in ("direct", engine)
        )
        assert other.keys() == one.keys()
        for each in one:
            assert_alike(other[each], one[each])


def in_order(stats: Any) -> Any:
    """The statistics with their features by name, since their order is that of a hash table."""
    for dataset in stats["datasets"]:
        dataset["features"].sort(key=lambda feature: feature["path"]["step"])
    return stats


def assert_alike(found: Any, expected: Any, at: str = "") -> None:
    """Asserts that nested values are the same, and floating-point numbers within TOLERANCE."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), at
        for key in expected:
            assert_alike(found[key], expected[key], f"{at}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), at
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{at}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=TOLERANCE, nan_ok=True), at
    else:
        assert found == expected, at


def test_another_engine_takes_everything_from_the_cache(start: Start, homes: dict[str, pathlib.Path]) -> None:
    assert "nothing to do" in start(homes["external"], {}).fine().out


def test_workers_started_for_every_component(
    homes: dict[str, pathlib.Path], pool: tuple[str, pathlib.Path]
) -> None:
    assert pool[1].read_text().count("worker_") >= len(ON_BEAM)


def test_a_worker_that_lacks_a_locked_package_is_refused_in_one_sentence(
    start: Start, scratch: pathlib.Path, python: pathlib.Path, endpoint: str
) -> None:
    other = scratch / "other"
    (other / "dill-0.2.dist-info").mkdir(parents=True)
    (other / "dill-0.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: dill\nVersion: 0.2\n"
    )
    port = free_port()
    program = f"import sys, runpy; sys.path.insert(0, {str(other)!r}); sys.argv[1:] = ['--port', '{port}']; "
    program += f"runpy.run_path({str(scratch / 'beam_worker.py')!r}, run_name='__main__')"
    shutil.copy(beam_worker.__file__, scratch / "beam_worker.py")
    with server([str(python), "-c", program], scratch / "other.log", "listening on"):
        line = start(scratch / "refused", {"StatisticsGen": external(endpoint, f"localhost:{port}")}).error()
    assert "StatisticsGen failed" in line
    assert "is needed, as where the job was made, and 0.2 is installed; install the project's" in line


def test_a_job_server_that_is_killed_is_told_and_the_same_command_goes_on(
    start: Start, scratch: pathlib.Path, direct: pathlib.Path, pool: tuple[str, pathlib.Path]
) -> None:
    port, home = free_port(), scratch / "killed"
    beam = {"Transform": external(f"localhost:{port}", pool[0])}
    before = pool[1].read_text().count(" started")
    with job_server(port, scratch) as process:
        run = start(home, beam)
        until(lambda: pool[1].read_text().count(" started") > before)
        process.kill()
        line = run.error()
    assert f"Transform failed: PortableRunner lost the job server at localhost:{port} (UNAVAILABLE" in line
    assert not [*home.glob("artifacts/Transform/[a-z]*/*")]
    refused = start(home, beam).wait()
    assert refused.code == 2
    assert f"no Beam job server answers at localhost:{port}" in refused.err
    with job_server(port, scratch):
        start(home, beam).fine()
    assert records(home, "train") == records(direct, "train")
