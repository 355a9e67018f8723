"""The compiled pipeline, with every container command run as a process of its own, as Kubeflow would.

    pytest -m cluster -s tests/kubeflow
    MNIST_DIR=FOLDER pytest -m cluster -s tests/kubeflow -k mnist --mnist-log FILE

Only what Kubeflow itself fills in is substituted: the run's id, input parameters, secrets. The volume is a
temporary folder, the metadata store a MariaDB server of Debian's. The second form does one run on MNIST and
writes the tasks' logs to FILE.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
import yaml

from components.serving import versions
from pipeline.config.cluster import Cluster
from pipeline.execution import node
from pipeline.home import journal, metadata
from pipeline.home.layout import Home
from pipeline.kubeflow import emit, job
from pipeline.kubeflow.tasks import FINISH

pytestmark = pytest.mark.cluster

REPOSITORY = pathlib.Path(__file__).parents[2]
VARIANTS = ("mlp", "vae_dense")
STOPPED = "mlp"
"""The variant whose trainer is stopped once; it has so many steps that the other one is met under way."""
SECRET = "store"
SECONDS = 600.0
"""Longest time for a task, on a machine with much else to do."""
TRAINING = re.compile(r": training, | goes on after step ")

LAUNCHER = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
for line in child.stdout:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
sys.exit(child.wait())
"""
"""Relays what its child writes, as Kubeflow's launcher does, and dies of a SIGTERM at once."""

Sources = tuple[str, str]
"""Name of a data set and its folder."""


def trainer(variant: str) -> str:
    """The task that trains a variant; Kubeflow's names have no underscores."""
    return f"train-{variant.replace('_', '-')}"


@dataclasses.dataclass
class Attempt:
    """A process: its exit code and what it wrote."""

    code: int
    log: str

    def when(self, pattern: re.Pattern[str]) -> datetime.datetime:
        """The time of the first line with `pattern`."""
        line = next(line for line in self.log.splitlines() if pattern.search(line))
        return datetime.datetime.fromisoformat(line.split()[0])

    def training(self) -> tuple[datetime.datetime, datetime.datetime]:
        """When a trainer began with its steps, and when it had ended."""
        return self.when(TRAINING), self.when(re.compile(r" node=Trainer\.\S+ exit="))


@dataclasses.dataclass
class FakeKubeflow:
    """Runs the tasks of a pipeline file: in DAG order, two at a time, with the retries it asks for."""

    pipeline: dict[str, Any]
    platform: dict[str, Any]
    secrets: Mapping[tuple[str, str], str]
    bucket: str

    @classmethod
    def load(cls, path: pathlib.Path, secrets: Mapping[tuple[str, str], str]) -> "FakeKubeflow":
        pipeline, platform = yaml.safe_load_all(path.read_text())
        return cls(pipeline, platform, secrets, str(path.parent / "bucket"))

    @property
    def tasks(self) -> dict[str, Any]:
        return emit.steps(self.pipeline)

    def before(self, name: str) -> set[str]:
        """The task and all that it depends on; for the exit task all others."""
        if name == FINISH:
            return set(self.tasks)
        return {name}.union(*(self.before(other) for other in self.tasks[name].get("dependentTasks", ())))

    def run(self, run_id: str, only: Collection[str] = (), stop_first: str = "") -> dict[str, list[Attempt]]:
        """Task -> its attempts, of all tasks or of `only` those, in the order in which they ended.

        The first attempt of the trainer `stop_first` gets SIGTERM once two trainers have begun.
        """
        attempts: dict[str, list[Attempt]] = {}
        meet = threading.Barrier(2) if stop_first else None
        chosen = [name for name in self.tasks if not only or name in only]
        pending = {name: (self.before(name) - {name}) & set(chosen) for name in chosen}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running: dict[concurrent.futures.Future[list[Attempt]], str] = {}
            while pending or running:
                for name in [name for name, needs in pending.items() if needs <= attempts.keys()]:
                    del pending[name]
                    running[pool.submit(self._with_retries, name, run_id, meet, name == stop_first)] = name
                done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                for future in done:
                    attempts[running.pop(future)] = future.result()
        return attempts

    def _with_retries(
        self, name: str, run_id: str, meet: threading.Barrier | None, stop_first: bool
    ) -> list[Attempt]:
        retries = int(self.tasks[name].get("retryPolicy", {}).get("maxRetryCount", 0))
        attempts: list[Attempt] = []
        while len(attempts) <= retries and (not attempts or attempts[-1].code):
            attempts.append(self.start(name, run_id, meet, stop_first and not attempts))
            print(attempts[-1].log.rstrip().split("\n")[-1], flush=True)  # pytest -s shows the run as it goes
        return attempts

    def start(
        self, name: str, run_id: str, meet: threading.Barrier | None = None, stop: bool = False
    ) -> Attempt:
        """One attempt of one task."""
        command, environment = self.container(name, run_id)
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        overdue = threading.Timer(SECONDS, process.kill)
        overdue.start()
        log = ""
        assert process.stderr
        for line in process.stderr:
            log += line
            if meet and ": training, " in line:
                meet.wait(SECONDS)
                if stop:
                    process.send_signal(signal.SIGTERM)
        code = process.wait()
        overdue.cancel()
        return Attempt(code, log)

    def evict(self, name: str, run_id: str, after: float, grace: float) -> str:
        """Start a task as Kubeflow's launcher does and take its machine away; what it wrote until then.

        The launcher relays the output. So many seconds after training began it dies of the SIGTERM that the
        process group gets, and the pipe goes with it; what is left is killed when the grace is over.
        """
        command, environment = self.container(name, run_id)
        launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *command], env=environment, stdout=subprocess.PIPE, text=True,
            cwd=REPOSITORY, start_new_session=True,
        )  # fmt: skip
        overdue = threading.Timer(SECONDS, os.killpg, (launcher.pid, signal.SIGKILL))
        overdue.start()
        log = ""
        assert launcher.stdout
        for line in launcher.stdout:
            log += line
            if TRAINING.search(line):
                time.sleep(after)
                os.killpg(launcher.pid, signal.SIGTERM)
                time.sleep(grace)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(launcher.pid, signal.SIGKILL)
                break
        launcher.wait()
        overdue.cancel()
        return log

    def container(self, name: str, run_id: str) -> tuple[list[str], dict[str, str]]:
        """The command and the environment of a task."""
        label = self.pipeline["components"][self.tasks[name]["componentRef"]["name"]]["executorLabel"]
        container = self.pipeline["deploymentSpec"]["executors"][label]["container"]
        command = [self._filled(part, name, run_id) for part in (*container["command"], *container["args"])]
        return command, self._environment(label, container)

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
        return part.replace("{{$}}", self._executor_input(name))

    def _executor_input(self, name: str) -> str:
        """What Kubeflow tells a task about its outputs; its volumes are folders beside the log."""
        component = self.pipeline["components"][self.tasks[name]["componentRef"]["name"]]
        artifacts = {
            key: {"artifacts": [{"name": key, "uri": f"{self.bucket}/{name}/{key}"}]}
            for key in component.get("outputDefinitions", {}).get("artifacts", {})
        }
        outputs = {"artifacts": artifacts, "outputFile": f"{self.bucket}/{name}/output_metadata.json"}
        return json.dumps({"inputs": {}, "outputs": outputs})

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
    """A volume, the settings, and the pipeline compiled for it."""

    volume: pathlib.Path
    settings: dict[str, Any]
    kubeflow: FakeKubeflow
    cluster: Cluster
    connection: Any

    def artifacts(self, node: str, output: str) -> list[pathlib.Path]:
        """The artifacts that the executions of a node have put out, oldest first."""
        found = (self.volume / "artifacts" / node / output).iterdir()
        return sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))

    def versions(self, variant: str) -> list[pathlib.Path]:
        """The pushed versions of a variant, oldest first."""
        base = self.volume / "serving" / variant
        return [base / str(number) for number in versions.published(str(base))]


@pytest.fixture(scope="module")
def build(mariadb: dict[str, Any], compile_script: Any) -> Callable[..., World]:
    """Compiles a pipeline for a volume, and makes the tables of the metadata store."""

    def compiled(volume: pathlib.Path, settings: dict[str, Any], data: Sources, **changed: Any) -> World:
        values = yaml.safe_load((REPOSITORY / "kubeflow" / "cluster.yaml").read_text())
        values |= {
            "code": str(REPOSITORY),
            "root": str(volume / "artifacts"),
            "serving": str(volume / "serving"),
            "data": dict(zip(("name", "folder"), data, strict=True)),
            "volumes": [{"claim": "latentline", "mount": str(volume)}],
            "metadata": {
                "mysql": {**{key: mariadb[key] for key in ("host", "port", "database", "user")},
                          "password": {"name": SECRET, "key": "password"}},
            },
            **changed,
        }  # fmt: skip
        cluster, chosen, output = (
            volume / name for name in ("cluster.yaml", "settings.yaml", "pipeline.yaml")
        )
        cluster.write_text(yaml.safe_dump(values))
        chosen.write_text(yaml.safe_dump(settings))
        compile_script.main(["--output", str(output), "--cluster", str(cluster), "--settings", str(chosen)])
        environment = {f"LATENTLINE_METADATA_{key.upper()}": str(value) for key, value in mariadb.items()}
        for _ in range(2):  # what the job in kubeflow/manifests does, and does again when it is applied again
            subprocess.run(
                [sys.executable, "-m", "pipeline.node", "--init-metadata"],
                env=environment, cwd=REPOSITORY, check=True,
            )  # fmt: skip
        secrets = {(SECRET, "password"): mariadb["password"]}
        made = Cluster.from_file(str(cluster))
        connection = node.connection_from(environment)
        return World(volume, settings, FakeKubeflow.load(output, secrets), made, connection)

    return compiled


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., World]) -> World:
    """What is retrained every night: the newest folder of digits, from the weights of the night before."""
    from components.ingest.sources import write_digits

    volume = tmp_path_factory.mktemp("volume")
    write_digits(volume / "nights" / "span-1")
    settings = {
        "variants": list(VARIANTS), "profile": "smoke", "data": str(volume / "nights"), "spans": 1,
        "warm_start": True, "experiments": {STOPPED: {"recipe": {"steps": 10_000}}},
        "notify": {f"on_{event}": f"sh -c 'cat >> {volume}/events; echo >> {volume}/events'"
                   for event in ("push", "failure")},
    }  # fmt: skip
    return build(volume, settings, ("unused", str(volume / "unused")))


@pytest.fixture(scope="module")
def first_run(world: World) -> dict[str, list[Attempt]]:
    return world.kubeflow.run("run-1", stop_first=trainer(STOPPED))


def test_the_first_run_completes_and_pushes_every_blessed_variant(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    assert set(first_run) == set(world.kubeflow.tasks)
    assert all(attempts[-1].code == 0 for attempts in first_run.values()), first_run
    assert all(" complete " in attempts[-1].log for name, attempts in first_run.items() if name != FINISH)
    for variant in VARIANTS:
        [version] = (world.volume / "serving" / variant).iterdir()
        assert (version / "saved_model.pb").is_file()


def events(world: World) -> list[dict[str, Any]]:
    """What the hooks were told, oldest first."""
    return [json.loads(line) for line in (world.volume / "events").read_text().splitlines() if line]


def test_the_exit_task_enters_the_run_and_tells_the_hooks(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    [record] = journal.read(Home.of_cluster(str(world.volume / "serving"), world.connection))
    assert (record.status, record.run, set(record.variants)) == ("succeeded", "run-1", set(VARIANTS))
    assert record.spans == ("span-1",)
    assert all(outcome.result == "pushed" and outcome.version for outcome in record.variants.values())
    [event] = events(world)
    assert (event["event"], event["run"]["run"]) == ("push", "run-1")


def test_a_trainer_that_is_stopped_is_retried_and_goes_on_from_its_checkpoint(
    first_run: dict[str, list[Attempt]],
) -> None:
    stopped, again = first_run[trainer(STOPPED)]
    assert stopped.code == 143
    assert again.code == 0
    [step] = re.findall(rf"{STOPPED}: stopped \(SIGTERM\) after step (\d+)", stopped.log)
    assert int(step) > 0
    assert f"{STOPPED}: goes on after step {step} of " in again.log


def test_the_other_tasks_needed_one_attempt(first_run: dict[str, list[Attempt]]) -> None:
    assert {name for name, attempts in first_run.items() if len(attempts) > 1} == {trainer(STOPPED)}


def test_the_trainers_trained_at_the_same_time(first_run: dict[str, list[Attempt]]) -> None:
    one, other = (first_run[trainer(variant)][0].training() for variant in VARIANTS)
    assert max(one[0], other[0]) <= min(one[1], other[1])


def test_each_pushed_model_comes_from_the_training_of_its_own_variant(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    from components.serving import versions

    for variant in VARIANTS:
        serving = str(world.volume / "serving" / variant)
        [version] = versions.published(serving)
        [model], [run] = (world.artifacts(f"Trainer.{variant}", output) for output in ("model", "model_run"))
        assert versions.source(serving, version) == str(model)
        assert json.loads((run / "training.json").read_text())["variant"] == variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_trainers_side_by_side_end_at_the_weights_that_each_reaches_alone(
    world: World, first_run: dict[str, list[Attempt]], tmp_path: pathlib.Path, variant: str
) -> None:
    [pushed] = (world.volume / "serving" / variant).iterdir()
    assert weights(pushed) == weights(trained_alone(world, variant, tmp_path))


def trained_alone(world: World, variant: str, folder: pathlib.Path) -> pathlib.Path:
    """The model of a training in this process that nothing disturbs."""
    from tfx.components.trainer.fn_args_utils import FnArgs

    from pipeline.config.settings import Settings
    from trainer.run import run_fn

    graph, examples = (
        world.artifacts("Transform", output)[0] for output in ("transform_graph", "transformed_examples")
    )
    [job] = [job for job in Settings(**world.settings).trainings("nights") if job.variant == variant]
    run_fn(
        FnArgs(
            train_files=[str(examples / "Split-train" / "*")],
            eval_files=[str(examples / "Split-eval" / "*")],
            transform_graph_path=str(graph),
            serving_model_dir=str(folder / "model"),
            model_run_dir=str(folder / "Trainer" / "model_run" / "1"),
            custom_config={"job": job.to_dict()},
        )
    )
    return folder / "model"


def weights(saved_model: pathlib.Path) -> dict[str, str]:
    """A digest of each variable of a SavedModel, bit by bit."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    found = {name: reader.get_tensor(name) for name in shapes if name.endswith("VARIABLE_VALUE")}
    assert found
    return {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in found.items()}


def test_the_report_is_given_to_kubeflow(world: World, first_run: dict[str, list[Attempt]]) -> None:
    told = json.loads(pathlib.Path(world.kubeflow.bucket, "report", "output_metadata.json").read_text())
    [metrics] = told["artifacts"]["metrics"]["artifacts"]
    assert set(metrics["metadata"]) == {"mlp.accuracy", "vae_dense.elbo"}


def test_the_second_run_takes_everything_from_the_cache(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    second = world.kubeflow.run("run-2")
    done = re.findall(r" (\w+) node=(\S+)", "".join(own[-1].log for own in second.values()))
    complete = {node for verdict, node in done if verdict == "complete"} - {"run"}
    assert {node.partition(".")[0] for node in complete} == {"Resolver"}, done  # which TFX does not cache


def test_a_task_without_its_inputs_exits_with_code_3(world: World, first_run: object) -> None:
    attempt = world.kubeflow.start("report", "run-without-examples")
    assert attempt.code == 3, attempt.log
    assert "input missing" in attempt.log


def test_a_wrong_password_is_told_in_one_line_without_the_password(world: World) -> None:
    other = dataclasses.replace(world.kubeflow, secrets={(SECRET, "password"): "not-the-password"})
    attempt = other.start("report", "run-1")
    assert attempt.code == 4
    assert "refuses user 'latentline'" in attempt.log
    assert "not-the-password" not in attempt.log


def test_a_trainer_whose_machine_is_taken_away_three_times_goes_on_each_time(
    world: World, first_run: object, tmp_path_factory: pytest.TempPathFactory, build: Callable[..., World]
) -> None:
    folder = tmp_path_factory.mktemp("evicted")
    settings = {**world.settings, "variants": ["mlp"], "seed": 7, "warm_start": False}
    settings["experiments"] = {"mlp": {"recipe": {"steps": 60_000}}}
    evicted = build(folder, settings, ("unused", str(world.volume / "unused")), **same_volume(world))
    assert evicted.kubeflow.start("data", "run-4").code == 0
    logs = [
        evicted.kubeflow.evict("train-mlp", "run-4", after, grace)
        for after, grace in ((2.5, 1.0), (4.0, 0.1), (4.0, 0.0))
    ]
    last = evicted.kubeflow.start("train-mlp", "run-4")
    assert last.code == 0, last.log
    assert " complete node=Trainer.mlp" in last.log
    steps = [
        int(found[1]) for log in (*logs, last.log) if (found := re.search(r"goes on after step (\d+)", log))
    ]
    print(f"went on after steps {steps}")
    assert len(steps) == 3
    assert 0 < steps[0] < steps[1] < steps[2] < 60_000
    model = world.artifacts("Trainer.mlp", "model")[-1]
    undisturbed = dataclasses.replace(evicted, volume=world.volume)
    assert weights(model / "Format-Serving") == weights(trained_alone(undisturbed, "mlp", folder))


def same_volume(world: World) -> dict[str, Any]:
    """The values of a cluster file for another pipeline on the same volume."""
    return {
        "root": str(world.volume / "artifacts"),
        "serving": str(world.volume / "serving"),
        "volumes": [{"claim": "latentline", "mount": str(world.volume)}],
    }


def test_a_variant_that_fails_leaves_the_others_and_the_report_and_the_run_fails(
    world: World, first_run: object, tmp_path_factory: pytest.TempPathFactory, build: Callable[..., World]
) -> None:
    folder = tmp_path_factory.mktemp("failed")
    settings = {**world.settings, "seed": 8, "warm_start": False}
    settings["experiments"] = {"mlp": {"recipe": {"learning_rate": 1e30}}}
    pool = {"cpu": "1", "memory": "2Gi", "retry": {"times": 1, "wait": "1s"}}
    placed = {"pools": {"cpu": pool}, "placement": [{"nodes": "*", "pool": "cpu"}]}
    failing = build(
        folder, settings, ("unused", str(world.volume / "unused")), **same_volume(world), **placed
    )
    ended = {name: attempts[-1] for name, attempts in failing.kubeflow.run("run-5").items()}
    assert {name: attempt.code for name, attempt in ended.items() if attempt.code} == {"verdict": 5}
    told = [event for event in events(world) if event["run"]["run"] == "run-5"]
    assert [event["event"] for event in told] == ["failure", "push"]
    assert "Trainer.mlp failed: " in told[0]["text"]
    assert told[0]["run"]["variants"]["mlp"]["result"] == "failed"
    assert ended["train-mlp"].log.count(" ERROR failed node=Trainer.mlp exit=1") == 2
    assert " left out node=Evaluator.mlp" in ended["evaluate-mlp"].log
    assert " complete node=Pusher.vae_dense" in ended["evaluate-vae-dense"].log
    assert " complete node=Leaderboard" in ended["report"].log
    assert "Trainer.mlp failed: " in ended["verdict"].log
    report = world.artifacts("Leaderboard", "report")[-1]
    rows = {row["variant"]: row for row in json.loads((report / "leaderboard.json").read_text())}
    assert "loss" in json.dumps(rows["mlp"])
    assert rows["vae_dense"]["metrics"]["elbo"]


@pytest.fixture
def operate(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Runs a command of an operator in a job of the cluster; its exit code and what it wrote."""
    (tmp_path / "secrets.json").write_text(
        json.dumps({SECRET: {"password": world.kubeflow.secrets[SECRET, "password"]}})
    )
    monkeypatch.setenv("FAKE_CLUSTER", str(tmp_path))
    folders = (REPOSITORY / "tests" / "kubeflow" / "scripts", os.path.dirname(sys.executable))
    monkeypatch.setenv("PATH", ":".join([*map(str, folders), os.environ["PATH"]]))
    monkeypatch.chdir(REPOSITORY)

    def run(*words: str) -> tuple[int, str]:
        lines: list[str] = []
        return job.run(world.cluster, words, job.Kubectl.found(), lines.append), "\n".join(lines)

    return run


def test_a_rollback_on_the_store_of_the_cluster(
    world: World, operate: Callable[..., tuple[int, str]]
) -> None:
    """After two pushes of vae_dense, by the first run and by that with the failed variant."""
    before = world.versions("vae_dense")
    assert len(before) == 2
    code, told = operate("rollback", "vae_dense", "--reason=blurred sevens")
    assert code == 0, told
    *kept, newest = world.versions("vae_dense")
    assert kept == before
    assert f"version {newest.name} is current, instead of {before[-1].name}" in told
    assert weights(newest) == weights(before[0])
    code, told = operate("rollback", "vae_dense")
    assert (code, "nothing to roll back to" in told) == (1, True), told
    code, told = operate("lineage", "vae_dense", "--json")
    facts = json.loads(told[told.index("{") :])
    assert facts["verdicts"][-1]["reason"] == "blurred sevens"
    assert [version["current"] for version in facts["versions"]] == [False, True]
    code, told = operate("status")
    assert (code, f"{newest.name}, pushed" in told) == (2, True), told
    assert "Trainer.mlp failed" in told


def test_a_pipeline_of_another_name_is_compared_with_what_serves(
    world: World, first_run: object, tmp_path_factory: pytest.TempPathFactory, build: Callable[..., World]
) -> None:
    before = world.versions("mlp")
    settings = {
        **world.settings, "name": "experiment", "variants": ["mlp"], "warm_start": False,
        "experiments": {"mlp": {"recipe": {"steps": 1, "floor": 0.0}}},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("experiment")
    other = build(folder, settings, ("unused", str(world.volume / "unused")), **same_volume(world))
    ended = other.kubeflow.run("run-6", only=other.kubeflow.before("evaluate-mlp"))
    assert " complete node=Pusher.mlp" in ended["evaluate-mlp"][-1].log
    with metadata.opened(world.connection) as store:
        blessing = store.blessings()[-1]
        assert store.artifact(blessing.baseline).uri == versions.source(
            str(before[-1].parent), int(before[-1].name)
        )
    assert not blessing.blessed
    assert world.versions("mlp") == before


def test_the_next_night_trains_on_the_new_span_from_the_weights_in_production(
    world: World, first_run: dict[str, list[Attempt]]
) -> None:
    from components.ingest.sources import write_digits

    write_digits(world.volume / "nights" / "span-2")
    name = trainer(STOPPED)
    night = world.kubeflow.run("run-3", only=world.kubeflow.before(name))
    model = world.artifacts(f"Trainer.{STOPPED}", "model")[0]
    assert " complete node=IdxExampleGen" in night["data"][-1].log
    assert " complete node=DriftGate" in night["data"][-1].log
    assert f"{STOPPED} starts from the weights of {model}" in night[name][-1].log


def test_mnist_runs_through_and_its_log_is_kept(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, build: Callable[..., World]
) -> None:
    """Three trainers lose their machine, each at another moment; the trainer of a fourth variant fails."""
    chosen, folder = request.config.getoption("--mnist-log", None), os.environ.get("MNIST_DIR")
    if not chosen or not folder:
        pytest.skip("give --mnist-log FILE, and MNIST_DIR in the environment")
    moments = {"mlp": (0.5, 0.0), "vae_dense": (3.0, 0.1), "cvae": (10.0, 1.0)}
    settings = {
        "variants": [*moments, "mlp_dropout"], "profile": "quick",
        "experiments": {"mlp_dropout": {"recipe": {"learning_rate": 1e30}}},
    }  # fmt: skip
    (tmp_path / "data").symlink_to(folder)
    pool = {"cpu": "1", "memory": "2Gi", "retry": {"times": 1, "wait": "1s"}}
    placed = {"pools": {"cpu": pool}, "placement": [{"nodes": "*", "pool": "cpu"}]}
    kubeflow = build(tmp_path, settings, ("mnist", str(tmp_path / "data")), **placed).kubeflow
    logs = [kubeflow.start("data", "run-1").log]
    for variant, (after, grace) in moments.items():
        logs.append(kubeflow.evict(trainer(variant), "run-1", after, grace))
        logs.append(f"# the machine of {trainer(variant)} is taken away; its pod is replaced\n")
        logs.append(kubeflow.start(trainer(variant), "run-1").log)
    rest = [name for name in kubeflow.tasks if name != "data" and name not in map(trainer, moments)]
    ended = {name: attempts[-1] for name, attempts in kubeflow.run("run-1", only=rest).items()}
    log = "".join([*logs, *(attempt.log for attempt in ended.values())])
    told = log.replace(str(tmp_path), "/latentline").replace(str(REPOSITORY), "/opt/latentline")
    pathlib.Path(chosen).write_text(told)
    assert {name: attempt.code for name, attempt in ended.items() if attempt.code} == {"verdict": 5}
    assert "cvae: goes on after step " in log  # the others may be stopped before their first checkpoint
    for variant in moments:
        assert f" complete node=Pusher.{variant} " in log
    assert " left out node=Evaluator.mlp_dropout" in log
    assert " complete node=Leaderboard" in log
    assert all(
        re.match(r"[-0-9]{10}T[:0-9]{8}Z |#|    ", line) for line in log.splitlines()
    ), log  # ours alone
    assert {path.name for path in (tmp_path / "serving").iterdir()} == {
        *moments,
        Home.of_cluster("/", None).folder.name,
    }
