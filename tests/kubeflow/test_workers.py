"""A trainer on several pods: what is compiled, the JobSet against its API, and workers as real processes."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import yaml
from kubernetes import client
from kubernetes_server import NAMESPACE, Kubernetes, serving

from pipeline.config.cluster import Cluster, Pool
from pipeline.config.errors import SettingsError
from pipeline.config.settings import Settings
from pipeline.execution import worker, workers
from pipeline.execution.jobset import API_VERSION, PORT, Api, Line, Refused
from pipeline.execution.plan import Plan
from pipeline.kubeflow import compile, emit, pods

REPOSITORY = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).parent / "golden"
OWNER = workers.Owner("latentline-nbs54-train-1", "0-1-2")
SECONDS = 600.0
"""Longest time for a task, on a machine with much else to do."""


def with_workers(cluster: Cluster, count: int) -> Cluster:
    gpu = dataclasses.replace(cluster.pools["gpu"], workers=count)
    return dataclasses.replace(cluster, pools={**cluster.pools, "gpu": gpu}, service_account="latentline")


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The cluster of the golden files, whose GPU pool has two GPUs per pod, with four workers."""
    return with_workers(Cluster.from_file(str(GOLDEN / "cluster.yaml")), 4)


@pytest.fixture(scope="module")
def jobset(cluster: Cluster) -> dict[str, Any]:
    template = json.loads(pods.workers(cluster)["gpu"])
    return workers.filled(
        template, "latentline-1", OWNER, ["--arguments", "gs://b/a$b.json", "--sha256", "0"]
    )


def check(value: Any, kind: Any, definitions: Mapping[str, Any], at: str) -> None:
    """Fail unless a value is of a type of the JobSet API."""
    if isinstance(kind, list):
        assert isinstance(value, list), at
        for each in value:
            check(each, kind[1], definitions, f"{at}[]")
    elif kind in ("string", "boolean", "integer"):
        assert type(value) is {"string": str, "boolean": bool, "integer": int}[kind], at
    elif kind == "io.k8s.api.batch.v1.JobTemplateSpec":
        api = client.ApiClient()
        typed = api.deserialize(types.SimpleNamespace(data=json.dumps(value)), "V1JobTemplateSpec")
        assert api.sanitize_for_serialization(typed) == value, at  # Kubernetes knows every field
    elif kind == "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta":
        api = client.ApiClient()
        typed = api.deserialize(types.SimpleNamespace(data=json.dumps(value)), "V1ObjectMeta")
        assert api.sanitize_for_serialization(typed) == value, at
    else:
        known = definitions[kind.rpartition(".")[2]]
        assert set(value) <= set(known["properties"]), at
        assert set(known["required"]) <= set(value), at
        for name, each in value.items():
            check(each, known["properties"][name], definitions, f"{at}.{name}")


def test_the_jobset_is_one_that_its_api_knows(jobset: dict[str, Any]) -> None:
    facts = json.loads((GOLDEN / "jobset-v1alpha2.json").read_text())
    assert (
        (jobset["apiVersion"], jobset["kind"])
        == ("jobset.x-k8s.io/v1alpha2", "JobSet")
        == (API_VERSION, "JobSet")
    )
    check(jobset, "JobSet", facts["definitions"], "JobSet")
    wrong = {**jobset, "spec": {**jobset["spec"], "worker": 4}}
    with pytest.raises(AssertionError):
        check(wrong, "JobSet", facts["definitions"], "JobSet")


def test_every_worker_has_the_accelerators_of_the_pool_and_ends_with_the_task(
    cluster: Cluster, jobset: dict[str, Any]
) -> None:
    owners = jobset["metadata"]["ownerReferences"]
    assert owners == [{"apiVersion": "v1", "kind": "Pod", "name": OWNER.name, "uid": OWNER.uid}]
    [group] = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 4, 4)
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 14 * 86_400)
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert pod["nodeSelector"] == {"pool": "a100", "zone": "b"}
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu", "team"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/models"]
    assert container["args"][-4:] == ["--arguments", "gs://b/a$$b.json", "--sha256", "0"]
    assert all(len(name) <= 63 for name in (f"{workers.name_of('run', 'Trainer.x')}-worker-0-255",))


def test_no_worker_knows_the_metadata_store_or_has_a_token(jobset: dict[str, Any]) -> None:
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    names = [variable["name"] for variable in pod["containers"][0]["env"]]
    assert names == ["TOKEN", "LATENTLINE_WORKER", "TF_CONFIG"]
    loads = "import sys, pipeline.execution.worker, trainer.run; print('ml_metadata' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loads], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout.strip() == "False"


def test_tf_config_names_every_worker_by_the_host_that_jobset_gives_it(jobset: dict[str, Any]) -> None:
    env = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {variable["name"]: variable for variable in env}
    path = values["LATENTLINE_WORKER"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    config = json.loads(values["TF_CONFIG"]["value"].replace("$(LATENTLINE_WORKER)", "3"))
    assert config["task"] == {"type": "worker", "index": 3}
    hosts = [f"latentline-1-worker-0-{index}.latentline-1:{PORT}" for index in range(4)]
    assert config["cluster"] == {"worker": hosts}


@pytest.fixture(scope="module")
def compiled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    output = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile.compile_to(str(output), Settings(variants=("cvae", "mlp"), profile="smoke"), cluster)
    return list(yaml.safe_load_all(output.read_text()))


def test_the_task_that_waits_asks_for_no_accelerator_and_its_workers_are_in_the_plan(
    compiled: list[Any], cluster: Cluster
) -> None:
    document, platform = compiled
    executors = document["deploymentSpec"]["executors"]
    labels = {name: task["componentRef"]["name"].replace("comp-", "exec-")
              for name, task in emit.steps(document).items()}  # fmt: skip
    task, container = emit.steps(document)["train-cvae"], executors[labels["train-cvae"]]["container"]
    assert "accelerator" not in container["resources"]
    assert container["resources"]["resourceCpuLimit"] == "500m"  # of the pool of Leaderboard
    own = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][labels["train-cvae"]]
    assert not own.keys() & {"nodeSelector", "tolerations"}
    assert task["retryPolicy"]["maxRetryCount"] == 3  # of the pool of the workers
    [first] = [each["container"] for label, each in executors.items() if label == labels["data"]]
    plan = Plan.from_text(first["args"][first["args"].index("--plan") + 1])
    made = json.loads(plan.workers["gpu"])
    [worker_of] = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert worker_of["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "--workers" in container["args"]
    assert "--workers" not in executors[labels["train-mlp"]]["container"]["args"]
    last = executors["exec-finish"]["container"]["args"]
    assert not Plan.from_text(last[last.index("--plan") + 1]).workers


@pytest.mark.parametrize("count", [0, -1, 257])
def test_an_impossible_number_of_workers_is_refused_in_a_sentence(cluster: Cluster, count: int) -> None:
    with pytest.raises(ValueError, match=f"workers must be between 1 and 256, got {count}"):
        with_workers(cluster, count)


def test_a_batch_that_cannot_be_split_over_the_workers_is_refused_when_compiling(cluster: Cluster) -> None:
    settings = Settings(variants=("cvae", "mlp"))
    compile.check_workers(settings, cluster)
    with pytest.raises(
        SettingsError, match=r"of cvae \(\d+\) cannot be split evenly over the 6 devices of the 3"
    ):
        compile.check_workers(settings, with_workers(cluster, 3))


def test_a_pool_without_workers_has_no_jobset() -> None:
    cluster = Cluster.from_file(str(REPOSITORY / "kubeflow" / "cluster.yaml"))
    assert pods.workers(cluster) == {}
    assert isinstance(cluster.pools["gpu"], Pool)


def test_damaged_and_unknown_arguments_are_refused(tmp_path: pathlib.Path) -> None:
    path, sha256 = workers.write_arguments(str(tmp_path), {"train_files": ["a"]})
    with pytest.raises(worker.BadArguments, match="does not understand .* missing"):
        worker.read(path, sha256)
    pathlib.Path(path).write_text("{}")
    with pytest.raises(worker.BadArguments, match="is damaged"):
        worker.read(path, sha256)
    with pytest.raises(worker.BadArguments, match="cannot read"):
        worker.read(str(tmp_path / "nowhere"), sha256)


class Answers:
    """A session whose answers are given: (status, body), or an error to raise."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def request(self, method: str, url: str, **rest: Any) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        text = body if isinstance(body, str) else json.dumps(body)
        return types.SimpleNamespace(
            ok=status < 400,
            status_code=status,
            text=text,
            content=text.encode(),
            json=lambda: json.loads(text),
        )


class Clock:
    """Seconds that pass only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def api(tmp_path: pathlib.Path) -> Callable[..., tuple[Api, Clock]]:
    (tmp_path / "token").write_text("t")

    def made(*answers: Any) -> tuple[Api, Clock]:
        clock = Clock()
        session: Any = Answers(*answers)
        return Api("https://k", NAMESPACE, tmp_path, clock.wait, clock, session), clock

    return made


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "whose Role allows it"), (401, "token of the pod's service account"), (404, "install JobSet")],
)
def test_a_refusal_of_the_api_says_what_to_do(
    api: Callable[..., tuple[Api, Clock]], status: int, words: str
) -> None:
    with pytest.raises(Refused, match=words) as told:
        api((status, {"message": "no\nway"}))[0].create({})
    assert "no way" in str(told.value)


def test_an_api_that_is_out_of_reach_is_asked_again_for_ten_minutes(
    api: Callable[..., tuple[Api, Clock]],
) -> None:
    found, clock = api(ConnectionError("down"), (503, "busy"), (200, {"metadata": {}}))
    assert found.jobset("x") == {"metadata": {}}
    found, clock = api(ConnectionError("down"))
    with pytest.raises(Refused, match="cannot be reached"):
        found.jobset("x")
    assert 600 <= clock.now < 700
    found, clock = api(ConnectionError("down"))
    with pytest.raises(Refused):  # a task that is stopped has no time
        found.delete("x", patience=0)
    assert clock.now == 0


def test_lines_that_were_read_are_not_read_again(api: Callable[..., tuple[Api, Clock]]) -> None:
    text = "2026-11-25T10:00:00.1Z a\n2026-11-25T10:00:00.12Z b c\n2026-11-25T10:00:01Z d\n"
    found, _ = api((200, text))
    assert [line.text for line in found.lines("x")] == ["a", "b c", "d"]
    assert [line.text for line in found.lines("x", Line("2026-11-25T10:00:00.100Z", "a"))] == ["b c", "d"]
    assert api((400, {"message": "container is waiting to start"}))[0].lines("x") == []


def pod(index: int, phase: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"w-{index}", "annotations": {workers.INDEX: str(index)}},
        "status": {"phase": phase, **more},
    }


def terminated(code: int, at: str, message: str = "", reason: str = "Error") -> dict[str, Any]:
    ended = {"exitCode": code, "finishedAt": at, "message": message, "reason": reason}
    return {"containerStatuses": [{"state": {"terminated": ended}}]}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        (
            [pod(0, "Failed", **terminated(1, "2", "lost the others")),
             pod(2, "Failed", **terminated(1, "1", 'x\n2026 ERROR failed exit=1 error="a \\"b\\" c"'))],
            'worker 2 of 4 failed (exit code 1): a "b" c',
        ),
        ([pod(1, "Failed", **terminated(137, "1", "step 5", "OOMKilled"))],
         "worker 1 of 4 failed (exit code 137): OOMKilled, its last line was: step 5"),
        ([pod(1, "Failed", reason="Evicted", message="The node was low on memory.")],
         "worker 1 of 4 failed (no exit code): Evicted, The node was low on memory."),
        ([pod(3, "Failed", **terminated(1, "1", '{"event": "failed", "error": "why"}'))],
         "worker 3 of 4 failed (exit code 1): why"),
        ([pod(0, "Running")], ""),
    ],
)  # fmt: skip
def test_the_worker_that_failed_first_and_its_reason_are_named(
    pods: Sequence[dict[str, Any]], expected: str
) -> None:
    assert workers.reason(pods, 4) == expected


class Looks:
    """An API that shows the same workers at every look."""

    def __init__(self, clock: Clock, pods: Sequence[dict[str, Any]], found: Any = None) -> None:
        self.clock, self._pods = clock, pods
        self._found = {"metadata": {}, "status": {}} if found is None else found

    def jobset(self, name: str) -> Any:
        return self._found or None

    def pods(self, name: str) -> Any:
        return self._pods

    def lines(self, pod: str, after: Any = None) -> list[Line]:
        return []

    def delete(self, name: str, **rest: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("pods", "found", "words", "seconds"),
    [
        ([pod(0, "Running"),
          pod(1, "Pending", conditions=[{"status": "False", "reason": "Full", "message": "no gpu"}])],
         None, r"only 1 of 4 workers .* \(worker 1 waits \(Full: no gpu\)\)", 700),
        ([], None, "have not ended within 1209600 s", 1_210_000),
        ([pod(0, "Running")], {}, "somebody has deleted", 10),
        ([], {"status": {"conditions": [{"type": "Failed", "status": "True", "message": "deadline"}]}},
         "the workers failed: deadline", 10),
    ],
)  # fmt: skip
def test_no_wait_for_workers_is_without_end(
    jobset: dict[str, Any], pods: Any, found: Any, words: str, seconds: float
) -> None:
    clock = Clock()
    looks: Any = Looks(clock, pods, found)
    with pytest.raises(workers.WorkersFailed, match=words):
        workers.Follower(looks, jobset, write=lambda line: None, wait=clock.wait).follow()
    assert clock.now <= seconds


def test_workers_of_an_earlier_attempt_that_do_not_end_are_not_joined_by_others() -> None:
    clock = Clock()
    looks: Any = Looks(clock, [])
    with pytest.raises(workers.WorkersFailed, match="of an earlier attempt has not ended within 300 s"):
        workers.remove(looks, "x", wait=clock.wait)


def test_a_pod_that_kubeflow_does_not_name_starts_no_workers() -> None:
    with pytest.raises(workers.WorkersFailed, match="KFP_POD_NAME"):
        workers.Owner.of({"KFP_POD_UID": "1"})


LAUNCHER = """
import sys
from pipeline.execution import jobset, node, workers
jobset.SERVICE_ACCOUNT, workers.LOOK = sys.argv[1], 0.3
node.main(sys.argv[2:])
"""
"""The task that creates the workers, with another folder of its service account."""


@dataclasses.dataclass
class Trained:
    """A task with its pipeline, and the cluster that its workers are processes of."""

    volume: pathlib.Path
    kubernetes: Kubernetes
    command: Callable[[str], list[str]]
    environment: dict[str, str]

    def task(self, act: Callable[[str, subprocess.Popen[str]], None]) -> tuple[int, str]:
        """The exit code and the log of the task; `act` is called for each line of it."""
        process = subprocess.Popen(
            self.command("train-mlp"), env=self.environment, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        overdue = threading.Timer(SECONDS, process.kill)
        overdue.start()
        log = ""
        assert process.stderr
        for line in process.stderr:
            log += line
            print(line, end="", flush=True)
            act(line, process)
        overdue.cancel()
        return process.wait(), log


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """The pipeline of mlp on two workers, its data prepared."""
    from components.ingest.sources import write_digits

    if not shutil.which("openssl"):
        pytest.skip("openssl is not here")
    volume = tmp_path_factory.mktemp("volume")
    digits = write_digits(volume / "digits").folder
    values = yaml.safe_load((REPOSITORY / "kubeflow" / "cluster.yaml").read_text())
    pool = {"cpu": "1", "memory": "2Gi", "workers": 2, "retry": {"times": 0}}
    values |= {
        "code": str(REPOSITORY), "root": str(volume / "artifacts"), "serving": str(volume / "serving"),
        "data": {"name": "digits", "folder": digits},
        "volumes": [{"claim": "latentline", "mount": str(volume)}],
        "metadata": {"sqlite": str(volume / "metadata.db")},
        "pools": {"cpu": pool}, "placement": [{"nodes": "*", "pool": "cpu"}],
    }  # fmt: skip
    (volume / "cluster.yaml").write_text(yaml.safe_dump(values))
    settings = Settings(
        variants=("mlp",),
        profile="smoke",
        experiments={"mlp": {"recipe": {"steps": STEPS}}},  # type: ignore[dict-item]
    )
    output = volume / "pipeline.yaml"
    compile.compile_to(str(output), settings, Cluster.from_file(str(volume / "cluster.yaml")))
    document = next(yaml.safe_load_all(output.read_text()))
    inputs = {"run_id": "run-1", "data": digits}

    def arguments(name: str) -> list[str]:
        step = emit.steps(document)[name]
        executor = document["components"][step["componentRef"]["name"]]["executorLabel"]
        found = document["deploymentSpec"]["executors"][executor]["container"]["args"]
        nodes = step["inputs"]["parameters"]["nodes"]["runtimeValue"]["constant"]
        filled = []
        for argument in found:
            for key, value in {**inputs, "nodes": nodes}.items():
                argument = argument.replace(f"{{{{$.inputs.parameters['{key}']}}}}", value)
            filled.append(argument)
        return [*filled, "--attempts", "0"]  # in this process, whose folder of the service account is ours

    with serving(volume / "account") as (kubernetes, pod_environment):
        python = os.path.dirname(sys.executable)
        environment = {
            "PATH": f"{python}:/usr/bin:/bin", "HOME": "/nonexistent", **pod_environment,
            "LATENTLINE_METADATA_SQLITE": str(volume / "metadata.db"),
        }  # fmt: skip
        launcher = [sys.executable, "-c", LAUNCHER, str(volume / "account")]
        made = Trained(volume, kubernetes, lambda name: [*launcher, *arguments(name)], environment)
        subprocess.run(made.command("data"), env=environment, cwd=REPOSITORY, check=True, timeout=SECONDS)
        yield made


STEPS = 6_000
TRAINING = re.compile(r"mlp: training, | (?:goes on|resumes) after step ")
RESUMED = re.compile(r"mlp: (?:goes on|resumes) after step (\d+) of")


@pytest.mark.cluster
def test_two_workers_train_through_a_lost_worker_and_a_stop_and_end_where_an_undisturbed_pair_does(
    trained: Trained, tmp_path: pathlib.Path
) -> None:
    kubernetes = trained.kubernetes
    written: set[pathlib.Path] = set()
    met: list[Any] = []

    def after_a_checkpoint(act: Callable[[subprocess.Popen[str]], None]) -> Callable[..., None]:
        """Acts once, when this attempt has written a checkpoint."""
        acted: list[str] = []

        def look(line: str, process: subprocess.Popen[str]) -> None:
            if TRAINING.search(line) and not acted:
                acted.append(line)
                before, until = set(written), time.monotonic() + SECONDS
                while not written - before and time.monotonic() < until:
                    written.update((trained.volume / "artifacts" / "checkpoints").glob("*/*.npz"))
                    time.sleep(0.02)
                act(process)

        return look

    def current() -> list[Any]:
        [found] = kubernetes.workers.values()
        return list(found)

    code, log = trained.task(after_a_checkpoint(lambda process: current()[1].process.kill()))
    assert (code, "worker 1 of 2 failed (exit code 137)" in log) == (1, True), log
    assert "mlp: training," in log  # what worker 0 says is relayed
    assert "2 of 2 workers have started" in log

    def stop(process: subprocess.Popen[str]) -> None:
        met.extend(current())
        process.send_signal(signal.SIGTERM)

    code, log = trained.task(after_a_checkpoint(stop))
    assert code == 143, log
    until = time.monotonic() + SECONDS
    while kubernetes.jobsets and time.monotonic() < until:
        time.sleep(0.1)
    assert kubernetes.jobsets == {}
    assert [each.process.poll() is None for each in met] == [False, False]

    code, log = trained.task(lambda line, process: None)
    assert code == 0, log
    assert " complete node=Trainer.mlp" in log
    [step] = RESUMED.findall(log)
    assert 0 < int(step) < STEPS

    assert len(kubernetes.made) == 3
    for each in current():
        assert json.loads(each.environment["TF_CONFIG"])["task"] == {"type": "worker", "index": each.index}
        assert not [name for name in each.environment if name.startswith("LATENTLINE_METADATA")]
    [model] = (trained.volume / "artifacts" / "Trainer.mlp" / "model").glob("[0-9]*")
    [run] = (trained.volume / "artifacts" / "Trainer.mlp" / "model_run").glob("[0-9]*")
    assert json.loads((run / "training.json").read_text())["replicas"] == 2
    ours, theirs = weights(model / "Format-Serving"), weights(trained_undisturbed(trained.volume, tmp_path))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def trained_undisturbed(volume: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The model of the same training by two processes that TF_CONFIG joins, and that nobody disturbs."""
    from trainer.job import Job

    graph, examples = (
        next((volume / "artifacts" / "Transform" / output).glob("[0-9]*"))
        for output in ("transform_graph", "transformed_examples")
    )
    values = {
        "train_files": [str(examples / "Split-train" / "*")],
        "eval_files": [str(examples / "Split-eval" / "*")],
        "transform_graph_path": str(graph),
        "serving_model_dir": str(folder / "model"),
        "model_run_dir": str(folder / "Trainer" / "model_run" / "1"),
        "custom_config": {"job": Job("mlp", "digits", profile="smoke", recipe={"steps": STEPS}).to_dict()},
    }
    train = "import json, sys, types; from trainer.run import run_fn; "
    train += "run_fn(types.SimpleNamespace(**json.loads(sys.argv[1]), base_model=None))"
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        hosts = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "TF_NUM_INTRAOP_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", train, json.dumps(values)], env=environment, cwd=REPOSITORY
            )
        )
    assert [process.wait(SECONDS) for process in processes] == [0, 0]
    return folder / "model"


def weights(saved_model: pathlib.Path) -> dict[str, Any]:
    """Each variable of a SavedModel."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    assert names
    return {name: reader.get_tensor(name) for name in names}
