"""The compiled pipeline, with every container command run as a process of its own, as Kubeflow would.

Only what Kubeflow itself fills in is substituted: the run's id, input parameters, secrets. The volume is a
temporary folder, the metadata store a MariaDB server of Debian's.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

REPOSITORY = pathlib.Path(__file__).parents[2]
VARIANTS = ("cvae", "mlp")
SECRET = "store"


@dataclasses.dataclass
class Attempt:
    """A process: its exit code and what it wrote."""

    code: int
    log: str


@dataclasses.dataclass
class FakeKubeflow:
    """Runs the tasks of a pipeline file: in DAG order, two at a time, with the retries it asks for."""

    pipeline: dict[str, Any]
    platform: dict[str, Any]
    secrets: Mapping[tuple[str, str], str]

    @classmethod
    def load(cls, path: pathlib.Path, secrets: Mapping[tuple[str, str], str]) -> "FakeKubeflow":
        pipeline, platform = yaml.safe_load_all(path.read_text())
        return cls(pipeline, platform, secrets)

    @property
    def tasks(self) -> dict[str, Any]:
        return self.pipeline["root"]["dag"]["tasks"]

    def run(self, run_id: str, stop_first: str = "") -> dict[str, list[Attempt]]:
        """Task -> its attempts. The first attempt of `stop_first` gets SIGTERM once it trains."""
        attempts: dict[str, list[Attempt]] = {}
        pending = {name: set(task.get("dependentTasks", ())) for name, task in self.tasks.items()}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running: dict[concurrent.futures.Future[list[Attempt]], str] = {}
            while pending or running:
                for name in [name for name, needs in pending.items() if needs <= attempts.keys()]:
                    del pending[name]
                    running[pool.submit(self._with_retries, name, run_id, name == stop_first)] = name
                done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                for future in done:
                    attempts[running.pop(future)] = future.result()
        return attempts

    def _with_retries(self, name: str, run_id: str, stop_first: bool) -> list[Attempt]:
        retries = int(self.tasks[name].get("retryPolicy", {}).get("maxRetryCount", 0))
        attempts: list[Attempt] = []
        while len(attempts) <= retries and (not attempts or attempts[-1].code):
            attempts.append(self.start(name, run_id, stop=stop_first and not attempts))
            print(attempts[-1].log.rstrip().split("\n")[-1], flush=True)  # pytest -s shows the run as it goes
        assert attempts[-1].code == 0, f"{name}: {attempts[-1]}"
        return attempts

    def start(self, name: str, run_id: str, stop: bool = False) -> Attempt:
        """One attempt of one task."""
        label = self.pipeline["components"][self.tasks[name]["componentRef"]["name"]]["executorLabel"]
        container = self.pipeline["deploymentSpec"]["executors"][label]["container"]
        command = [self._filled(part, name, run_id) for part in (*container["command"], *container["args"])]
        process = subprocess.Popen(
            command,
            env=self._environment(label, container),
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        assert process.stderr
        read = ""
        while stop and process.poll() is None and ": training, " not in read:
            read += process.stderr.readline()
        if stop:
            time.sleep(0.5)  # the line comes right before SIGTERM means "leave a checkpoint"
            process.send_signal(signal.SIGTERM)
        log = read + process.communicate(timeout=300)[1]
        return Attempt(process.returncode, log)

    def _filled(self, part: str, name: str, run_id: str) -> str:
        inputs = self.tasks[name]["inputs"]["parameters"]
        for key, given in inputs.items():
            if "componentInputParameter" in given:
                outer = self.pipeline["root"]["inputDefinitions"]["parameters"]
                value = outer[given["componentInputParameter"]]["defaultValue"]
            else:
                value = given["runtimeValue"]["constant"]
                value = run_id if value == "{{$.pipeline_job_uuid}}" else value
            part = part.replace(f"{{{{$.inputs.parameters['{key}']}}}}", value)
        return part

    def _environment(self, label: str, container: dict[str, Any]) -> dict[str, str]:
        own = {variable["name"]: variable["value"] for variable in container.get("env", ())}
        executor = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]
        for secret in executor.get("secretAsEnv", ()):
            for key in secret["keyToEnv"]:
                own[key["envVar"]] = self.secrets[secret["secretName"], key["secretKey"]]
        python = os.path.dirname(sys.executable)
        return {"PATH": f"{python}:/usr/bin:/bin", "HOME": "/nonexistent", **own}


@dataclasses.dataclass
class World:
    """A volume with the digits on it, and the pipeline compiled for it."""

    volume: pathlib.Path
    kubeflow: FakeKubeflow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mariadb: dict[str, Any], compile_script: Any) -> World:
    from components.sources import write_digits

    volume = tmp_path_factory.mktemp("volume")
    digits = write_digits(volume / "data" / "digits")
    values = yaml.safe_load((REPOSITORY / "kubeflow" / "cluster.yaml").read_text())
    values |= {
        "code": str(REPOSITORY),
        "root": str(volume / "artifacts"),
        "serving": str(volume / "serving"),
        "data": {"name": digits.name, "folder": digits.folder},
        "volumes": [{"claim": "latentline", "mount": str(volume)}],
        "metadata": {
            "mysql": {**{key: mariadb[key] for key in ("host", "port", "database", "user")},
                      "password": {"name": SECRET, "key": "password"}},
        },
    }  # fmt: skip
    cluster, output = volume / "cluster.yaml", volume / "pipeline.yaml"
    cluster.write_text(yaml.safe_dump(values))
    compile_script.main(
        ["--output", str(output), "--cluster", str(cluster), "--variants", ",".join(VARIANTS),
         "--profile", "smoke"]
    )  # fmt: skip
    secrets = {(SECRET, "password"): mariadb["password"]}
    environment = {f"LATENTLINE_METADATA_{key.upper()}": str(value) for key, value in mariadb.items()}
    for _ in range(2):  # what the job in kubeflow/manifests does, and does again when it is applied again
        subprocess.run(
            [sys.executable, "-m", "pipeline.node", "--init-metadata"],
            env=environment, cwd=REPOSITORY, check=True,
        )  # fmt: skip
    return World(volume, FakeKubeflow.load(output, secrets))


@pytest.fixture(scope="module")
def first_run(world: World) -> dict[str, list[Attempt]]:
    return world.kubeflow.run("run-1", stop_first="trainer-mlp")


def test_the_first_run_completes_and_pushes_every_blessed_variant(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    assert set(first_run) == set(world.kubeflow.tasks)
    assert all(" complete " in attempts[-1].log for attempts in first_run.values()), first_run
    for variant in VARIANTS:
        [version] = (world.volume / "serving" / variant).iterdir()
        assert (version / "saved_model.pb").is_file()


def test_a_trainer_that_is_stopped_is_retried_and_goes_on_from_its_checkpoint(
    first_run: dict[str, list[Attempt]],
) -> None:
    stopped, again = first_run["trainer-mlp"]
    assert stopped.code == 143
    assert again.code == 0
    [step] = re.findall(r"mlp: told to stop \(SIGTERM\) after step (\d+)", stopped.log)
    assert int(step) > 0
    assert f"mlp: goes on after step {step} of " in again.log


def test_the_other_tasks_needed_one_attempt(first_run: dict[str, list[Attempt]]) -> None:
    assert {name for name, attempts in first_run.items() if len(attempts) > 1} == {"trainer-mlp"}


def test_the_second_run_takes_everything_from_the_cache(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    second = world.kubeflow.run("run-2")
    verdicts = {name: attempts[-1].log for name, attempts in second.items()}
    resolvers = {name for name in verdicts if name.startswith("resolver-")}  # which TFX does not cache
    assert {name for name, log in verdicts.items() if " cached " not in log} == resolvers, verdicts


def test_a_task_without_its_inputs_exits_with_code_3(world: World, first_run: object) -> None:
    attempt = world.kubeflow.start("transform", "run-without-examples")
    assert attempt.code == 3, attempt.log
    assert "input missing" in attempt.log


def test_a_wrong_password_is_told_in_one_line_without_the_password(world: World) -> None:
    stranger = dataclasses.replace(world.kubeflow, secrets={(SECRET, "password"): "not-the-password"})
    attempt = stranger.start("importschemagen", "run-1")
    assert attempt.code == 4
    assert "refuses user 'latentline'" in attempt.log.splitlines()[-1]
    assert "not-the-password" not in attempt.log
