"""The compiled pipeline against golden files.

UPDATE_GOLDEN=1 pytest tests/kubeflow/test_compile.py rewrites them.

The digest of the IR and the plan are left out of them, since they change with the code and the settings.
"""

import dataclasses
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.compiler import compiler
from tfx.orchestration.pipeline import Pipeline

from pipeline.config.cluster import Cluster, RunAs
from pipeline.config.errors import SettingsError
from pipeline.config.experiments import Experiment
from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from pipeline.dag import ir
from pipeline.execution.plan import Plan
from pipeline.kubeflow import emit, size

REPOSITORY = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).parent / "golden"
SHAPES: dict[str, dict[str, Any]] = {
    "one": {"variants": ("mlp",)},
    "two": {"variants": ("cvae", "mlp")},
    "nightly": {"variants": ("mlp",), "data": "gs://bucket/nights", "spans": 7, "warm_start": True},
}


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster.from_file(str(GOLDEN / "cluster.yaml"))


@pytest.fixture(scope="module")
def compiled(
    compile_script: Any, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[Any]]:
    """The documents (pipeline and platform) of a shape."""
    folder = tmp_path_factory.mktemp("compiled")
    for shape, values in SHAPES.items():
        settings = Settings(**values, profile="smoke")
        compile_script.compile_to(str(folder / f"{shape}.yaml"), settings, cluster)

    def read(shape: str) -> list[Any]:
        return list(yaml.safe_load_all((folder / f"{shape}.yaml").read_text()))

    return read


def containers(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Executor label -> container."""
    executors = document["deploymentSpec"]["executors"]
    return {label: executor["container"] for label, executor in executors.items()}


def after(option: str, arguments: list[str]) -> str:
    return arguments[arguments.index(option) + 1]


def platform_of(document: dict[str, Any], label: str) -> dict[str, Any]:
    return document["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_compiled_pipeline_is_the_golden_one(compiled: Callable[[str], list[Any]], shape: str) -> None:
    documents = compiled(shape)
    for container in containers(documents[0]).values():
        for option in {"--ir-sha256", "--plan"} & set(container["args"]):
            container["args"][container["args"].index(option) + 1] = f"<{option[2:]}>"
    text = yaml.safe_dump_all(documents, width=110)
    golden = GOLDEN / f"{shape}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_task_names_the_ir_that_the_plan_of_the_first_makes(
    compiled: Callable[[str], list[Any]],
) -> None:
    found = containers(compiled("two")[0])
    text = after("--plan", found["exec-data"]["args"])
    sha256 = ir.digest(Plan.from_text(text).intermediate())
    last = found.pop("exec-finish")  # runs no node; its plan has the hooks as well
    assert {after("--ir-sha256", container["args"]) for container in found.values()} == {sha256}
    assert not set(text + after("--plan", last["args"])) & set("{}$")
    assert [label for label, container in found.items() if "--plan" in container["args"]] == ["exec-data"]


def test_every_node_runs_in_one_task_and_after_the_nodes_that_it_needs(
    compiled: Callable[[str], list[Any]],
) -> None:
    document = compiled("nightly")[0]
    pipeline = Plan.from_text(after("--plan", containers(document)["exec-data"]["args"])).intermediate()
    tasks = {
        name: task["inputs"]["parameters"]["nodes"]["runtimeValue"]["constant"].split(",")
        for name, task in emit.steps(document).items()
        if name not in ("verdict", "finish")
    }
    order: list[str] = []
    pending = {name: task for name, task in emit.steps(document).items() if name != "finish"}
    while pending:
        name = next(
            n for n, task in pending.items() if not set(task.get("dependentTasks", ())) & set(pending)
        )
        del pending[name]
        order += tasks.get(name, [])
    nodes = {wrapped.pipeline_node.node_info.id: wrapped.pipeline_node for wrapped in pipeline.nodes}
    assert sorted(order) == sorted(nodes)
    for name, node in nodes.items():
        assert all(order.index(other) < order.index(name) for other in node.upstream_nodes)


def test_the_run_id_is_the_whole_constant_of_an_input_and_caching_is_left_to_tfx(
    compiled: Callable[[str], list[Any]],
) -> None:
    for task in emit.steps(compiled("two")[0]).values():
        assert task["inputs"]["parameters"]["run_id"] == {
            "runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}
        }
        assert not task["cachingOptions"].get("enableCache")


def test_trainers_get_the_gpu_pool_and_all_else_the_cpu_pool(compiled: Callable[[str], list[Any]]) -> None:
    document, platform = compiled("two")
    for name, task in emit.steps(document).items():
        label = task["componentRef"]["name"].replace("comp-", "exec-")
        container, own = containers(document)[label], platform_of(platform, label)
        if name == "train-cvae":
            assert container["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
            assert container["resources"]["accelerator"]["resourceCount"] == "2"
            assert container["resources"]["resourceMemoryLimit"] == "32Gi"
            assert own["nodeSelector"]["labels"] == {"pool": "a100", "zone": "b"}
            assert own["tolerations"] == [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "team", "operator": "Equal", "value": "vision"},
            ]
            assert task["retryPolicy"] == {
                "maxRetryCount": 3, "backoffDuration": "300s", "backoffFactor": 2,
                "backoffMaxDuration": "1209600s",
            }  # fmt: skip
        else:
            assert "accelerator" not in container["resources"]
            assert container["resources"]["resourceCpuLimit"] == "500m"
            assert "nodeSelector" not in own
            assert "retryPolicy" not in task


def test_four_experiments_with_five_seeds_have_a_task_each_with_a_name_that_kubernetes_takes(
    compile_script: Any, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    experiments = {
        "iwae_K1": Experiment("iwae", config={"samples": 1}),
        "wide": Experiment("vae_dense", config={"hidden": 512}, protocol="grey"),
        "vae_dense": Experiment(),
        "mlp": Experiment(),
    }
    settings = Settings(experiments=experiments, seeds=tuple(range(5)), profile="smoke")
    output = tmp_path / "pipeline.yaml"
    made = compile_script.compile_to(str(output), settings, cluster)
    tasks = {task.name: task for task in made.tasks}
    lines = [f"{name}-s{seed}" for name in ("iwae-k1", "wide", "vae-dense", "mlp") for seed in range(5)]
    expected = {f"{kind}-{line}" for kind in ("train", "evaluate") for line in lines}
    assert set(tasks) == {"data", "report", "verdict", "finish"} | expected
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in tasks)
    assert {"Transform", "Transform-grey"} <= set(tasks["data"].nodes)
    assert tasks["train-wide-s3"].nodes == ("Trainer.wide.s3",)
    assert set(tasks["evaluate-iwae-k1-s4"].nodes) == {
        "Resolver.iwae_K1.s4", "Resolver.night.iwae_K1.s4", "Evaluator.iwae_K1.s4", "Gallery.iwae_K1.s4",
    }  # fmt: skip
    assert {tasks[f"train-{line}"].pool for line in lines} == {"gpu"}
    assert {tasks[f"evaluate-{line}"].pool for line in lines} == {"cpu"}
    assert all(tasks[f"evaluate-{line}"].upstream == (f"train-{line}",) for line in lines)
    assert set(tasks["report"].upstream) == {f"evaluate-{line}" for line in lines}
    assert made.written.workflow.total < size.LIMIT
    assert compile_script.models_config(settings.endpoints, "/serving") == "model_config_list {\n}\n"


def test_the_password_is_a_reference_and_the_data_folder_a_parameter(
    compiled: Callable[[str], list[Any]],
) -> None:
    document, platform = compiled("one")
    assert document["root"]["inputDefinitions"]["parameters"] == {
        "data": {"defaultValue": "gs://bucket/data/fashion", "isOptional": True, "parameterType": "STRING"}
    }
    variables = {
        key["envVar"]: (secret["secretName"], key["secretKey"])
        for secret in platform_of(platform, "exec-data")["secretAsEnv"]
        for key in secret["keyToEnv"]
    }
    assert variables == {"LATENTLINE_METADATA_PASSWORD": ("mysql", "password"), "TOKEN": ("cloud", "token")}


def test_beam_arguments_follow_the_component_class(compiled: Callable[[str], list[Any]]) -> None:
    pipeline = Plan.from_text(
        after("--plan", containers(compiled("one")[0])["exec-data"]["args"])
    ).intermediate()
    found = {name: ir.cut(pipeline, name).deployment_config.value for name in ("Transform", "StatisticsGen")}
    assert b"DataflowRunner" in found["Transform"]
    assert b"in_memory" not in found["Transform"]
    assert b"in_memory" in found["StatisticsGen"]
    assert b"DataflowRunner" not in found["StatisticsGen"]


def test_tasks_of_one_kind_and_pool_share_a_component(compiled: Callable[[str], list[Any]]) -> None:
    document, platform = compiled("two")
    used = {name: task["componentRef"]["name"] for name, task in emit.steps(document).items()}
    assert used["evaluate-cvae"] == used["evaluate-mlp"] == "comp-evaluate"
    assert used["train-cvae"] != used["train-mlp"]  # the small classifier goes to the pool of CPUs
    assert {*used.values(), "comp-run"} == set(document["components"])
    labels = set(document["deploymentSpec"]["executors"])
    assert labels == set(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])


def test_every_retry_has_a_whole_factor_and_days(compiled: Callable[[str], list[Any]]) -> None:
    for shape in SHAPES:
        document = compiled(shape)[0]
        policies = [task["retryPolicy"] for task in emit.steps(document).values() if "retryPolicy" in task]
        for policy in policies:
            assert type(policy["backoffFactor"]) is int
            assert int(policy["backoffMaxDuration"].removesuffix("s")) >= 24 * 3600
        for label, container in containers(document).items():
            if label == "exec-finish":
                continue
            attempts = int(after("--attempts", container["args"]))
            assert attempts >= 1


def test_tasks_of_a_variant_let_the_run_go_on_and_the_verdict_ends_it(
    compiled: Callable[[str], list[Any]],
) -> None:
    document = compiled("two")[0]
    found = containers(document)
    for name, task in emit.steps(document).items():
        arguments = found[task["componentRef"]["name"].replace("comp-", "exec-")]["args"]
        assert ("--go-on" in arguments) == name.startswith(("train-", "evaluate-"))
        assert ("--verdict" in arguments) == (name == "verdict")
    assert emit.steps(document)["verdict"]["dependentTasks"] == ["report"]


def test_the_exit_task_runs_after_all_others_however_they_end_and_brings_the_hooks(
    compile_script: Any, compiled: Callable[[str], list[Any]], cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    root = compiled("two")[0]["root"]["dag"]["tasks"]
    assert set(root) == {"run", "finish"}
    assert root["finish"]["dependentTasks"] == ["run"]
    assert root["finish"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    settings = Settings(variants=("mlp",), notify={"on_push": "true", "webhook": "$TOKEN"})  # type: ignore[arg-type]
    compile_script.check_hooks(settings, cluster)
    compile_script.compile_to(str(tmp_path / "pipeline.yaml"), settings, cluster)
    found = containers(next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())))
    assert found["exec-finish"]["command"] == ["python", "-m", "pipeline.finish"]
    assert Plan.from_text(after("--plan", found["exec-finish"]["args"])).settings.notify == settings.notify
    assert Plan.from_text(after("--plan", found["exec-data"]["args"])).settings.notify == Notify()


@pytest.mark.parametrize(
    ("webhook", "words"),
    [("https://hooks.example/key", "must be \\$NAME on a cluster"), ("$HOOK", "there is TOKEN")],
)
def test_a_webhook_is_named_by_a_secret(
    compile_script: Any, cluster: Cluster, webhook: str, words: str
) -> None:
    settings = Settings(variants=("mlp",), notify={"webhook": webhook})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=words):
        compile_script.check_hooks(settings, cluster)


def test_the_report_is_put_out_as_page_summary_and_metrics(compiled: Callable[[str], list[Any]]) -> None:
    outputs = compiled("one")[0]["components"]["comp-report"]["outputDefinitions"]["artifacts"]
    assert {name: output["artifactType"]["schemaTitle"] for name, output in outputs.items()} == {
        "page": "system.HTML", "summary": "system.Markdown", "metrics": "system.Metrics",
    }  # fmt: skip


def test_user_and_group_of_the_tasks_are_written_only_when_asked_for(
    compile_script: Any, cluster: Cluster, compiled: Callable[[str], list[Any]], tmp_path: pathlib.Path
) -> None:
    assert "securityContext" not in platform_of(compiled("one")[1], "exec-data")
    output = str(tmp_path / "pipeline.yaml")
    asked = dataclasses.replace(cluster, run_as=RunAs(1001, 1002))
    compile_script.compile_to(output, Settings(variants=("mlp",)), asked)
    platform = list(yaml.safe_load_all(pathlib.Path(output).read_text()))[1]
    wanted = {"runAsUser": "1001", "runAsGroup": "1002", "runAsNonRoot": True}
    for label in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]:
        assert platform_of(platform, label)["securityContext"] == wanted


def test_the_sdk_loads_what_was_compiled(
    compile_script: Any, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    from kfp import components

    path = str(tmp_path / "pipeline.yaml")
    compile_script.compile_to(path, Settings(variants=("mlp",)), cluster)
    loaded = components.load_component_from_file(path)
    assert list(loaded.component_spec.inputs) == ["data"]


def test_two_processes_compile_the_same_bytes_however_python_hashes(
    compile_script: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here.yaml", tmp_path / "there.yaml"
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # another than this process has
    subprocess.run(
        [sys.executable, "kubeflow/compile.py", "--output", there, "--variants", "mlp"],
        cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.chdir(REPOSITORY)
    compile_script.main(["--output", str(here), "--variants", "mlp"])
    assert here.read_bytes() == there.read_bytes()


def test_a_pipeline_that_argo_would_not_take_is_refused_and_leaves_no_file(
    compile_script: Any, cluster: Cluster, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = [ImportSchemaGen(schema_file="x").with_id(f"Schema.{index}") for index in range(3)]
    small = compiler.Compiler().compile(Pipeline("small", "/root", components=schemas))
    source = emit.Source("0" * 64, "plan", "plan")
    monkeypatch.setattr(size, "LIMIT", 1000)
    with pytest.raises(emit.TooLarge, match="Argo takes 1,000: split --variants"):
        compile_script.write(small, source, cluster, str(tmp_path / "pipeline.yaml"))
    assert list(tmp_path.iterdir()) == []


def test_an_argument_that_linux_would_not_take_is_refused() -> None:
    emit.check_arguments("train-cvae", ["x" * 131_071])
    with pytest.raises(emit.TooLarge, match="train-cvae has 131,072 bytes"):
        emit.check_arguments("train-cvae", ["--plan", "x" * 131_072])


def test_what_linux_takes_as_one_argument_is_what_is_checked() -> None:
    subprocess.run(["/bin/true", "x" * (emit.MAX_ARGUMENT - 1)], check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true", "x" * emit.MAX_ARGUMENT], check=True)


def test_nodes_of_one_kind_are_summed_up(compile_script: Any) -> None:
    nodes = ["Transform", "Trainer.a", "Resolver.a", "Trainer.b"]
    assert compile_script.summary(nodes) == ["Transform", "Trainer.* x 2", "Resolver.a"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--variants", "nobody"], "nobody"),
        (["--profile", "enormous"], "unknown profile"),
        (["--cluster", "missing.yaml"], "cannot read the cluster file"),
        (["--settings", "missing.yaml"], "cannot read the settings file"),
        (["--variants", "mlp", "--output", "/dev/null/pipeline.yaml"], "cannot write /dev/null"),
    ],
)
def test_a_wrong_request_exits_with_2_and_one_line(
    compile_script: Any,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        compile_script.main(["--output", str(tmp_path / "out.yaml"), *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def nightly(tmp_path: pathlib.Path) -> Callable[..., str]:
    """Writes a settings file for retraining every night, with some values changed."""

    def write(**changed: Any) -> str:
        values = {
            "variants": ["mlp"],
            "data": "gs://bucket/nights",
            "spans": 7,
            "warm_start": True,
            "keep": 3,
        }
        path = tmp_path / "nightly.yaml"
        path.write_text(yaml.safe_dump({**values, **changed}))
        return str(path)

    return write


def compile_nightly(compile_script: Any, settings: str, output: pathlib.Path) -> None:
    compile_script.main(
        ["--settings", settings, "--cluster", str(GOLDEN / "cluster.yaml"), "--output", str(output)]
    )


def test_settings_of_retraining_reach_the_nodes_that_heed_them(
    compile_script: Any, nightly: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "pipeline.yaml"
    compile_nightly(compile_script, nightly(serving_data="/models/requests", drift="warn"), output)
    document = next(yaml.safe_load_all(output.read_text()))
    pipeline = Plan.from_text(after("--plan", containers(document)["exec-data"]["args"])).intermediate()
    nodes = {wrapped.pipeline_node.node_info.id: wrapped.pipeline_node for wrapped in pipeline.nodes}

    def value(node: str, name: str) -> Any:
        found = nodes[node].parameters.parameters[name].field_value
        return getattr(found, found.WhichOneof("value"))

    assert value("IdxExampleGen", "spans") == 7
    assert value("DriftValidator", "serving_data") == "/models/requests"
    assert value("DriftGate", "action") == "warn"
    assert '"warm_start": true' in value("Trainer.mlp", "custom_config")
    assert '"keep": 3' in value("Pusher.mlp", "custom_config")
    assert "base_model" in nodes["Trainer.mlp"].inputs.inputs
    assert document["root"]["inputDefinitions"]["parameters"]["data"]["defaultValue"] == "gs://bucket/nights"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": "/home/me/nights"}, "data.folder must be gs:// or a folder on a volume (/models)"),
        ({"serving_data": "requests"}, "serving_data must be gs:// or a folder on a volume (/models)"),
    ],
)
def test_a_folder_of_the_settings_that_no_task_could_open_is_refused(
    compile_script: Any,
    nightly: Callable[..., str],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        compile_nightly(compile_script, nightly(**changed), tmp_path / "pipeline.yaml")
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_settings_that_only_one_machine_heeds_are_named(
    compile_script: Any,
    nightly: Callable[..., str],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compile_nightly(compile_script, nightly(keep_runs=3), tmp_path / "pipeline.yaml")
    assert "without effect on Kubeflow: keep_runs of the settings" in capsys.readouterr().err


def test_the_pod_of_a_trainer_on_a_real_cluster_is_what_is_compiled(
    compile_script: Any,
    cluster_values: dict[str, Any],
    write_cluster: Callable[[dict[str, Any]], str],
    tmp_path: pathlib.Path,
) -> None:
    """Against the pod that Kubeflow Pipelines 2.17.0 made of a cluster file with these values."""
    pod = json.loads((GOLDEN / "trainer-pod.json").read_text())
    cluster_values["pools"]["gpu"] |= {"cpu": "1", "memory": "3Gi"}
    cluster = Cluster.from_file(write_cluster(cluster_values))
    output = tmp_path / "pipeline.yaml"
    compile_script.compile_to(str(output), Settings(variants=("linear",), profile="smoke"), cluster)
    document, platform = yaml.safe_load_all(output.read_text())
    container, own = containers(document)["exec-train"], platform_of(platform, "exec-train")
    main = pod["main"]
    assert own["nodeSelector"]["labels"] == pod["spec"]["nodeSelector"]
    assert [t for t in pod["spec"]["tolerations"] if not t["key"].startswith("node.kubernetes.io/")] == own[
        "tolerations"
    ]
    resources = container["resources"]
    for kind, given in (("Limit", "limits"), ("Request", "requests")):
        assert resources[f"resourceCpu{kind}"] == main["resources"][given]["cpu"]
        assert resources[f"resourceMemory{kind}"] == main["resources"][given]["memory"]
    accelerator = resources["accelerator"]
    assert main["resources"]["limits"][accelerator["resourceType"]] == accelerator["resourceCount"]
    plain = [entry for entry in main["env"] if entry["name"].startswith("LATENTLINE_") and "value" in entry]
    assert container["env"] == plain
    [secret] = own["secretAsEnv"]
    [reference] = [entry for entry in main["env"] if entry["name"] == "LATENTLINE_METADATA_PASSWORD"]
    assert reference["valueFrom"]["secretKeyRef"] == {
        "name": secret["secretName"], "key": secret["keyToEnv"][0]["secretKey"],
    }  # fmt: skip
    [mount] = own["pvcMount"]
    assert {"mountPath": mount["mountPath"], "name": mount["constant"]} in main["volumeMounts"]
    assert own["imagePullPolicy"] == main["imagePullPolicy"]
    assert container["command"] == main["args"][:3]
    assert cluster.service_account == pod["spec"]["serviceAccountName"]


def refused_setting(sdk: Any) -> str:
    """What the SDK says of an environment variable for a task that is a whole pipeline."""

    @sdk.component
    def step() -> None:
        pass

    @sdk.pipeline
    def inner() -> None:
        step()

    @sdk.pipeline
    def outer() -> None:
        inner().set_env_variable("A", "b")

    return str(outer)


def test_the_sdk_names_the_method_that_was_called_without_reading_the_source_of_all_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kfp import dsl

    slow: list[int] = []
    real = inspect.stack

    def counted() -> list[inspect.FrameInfo]:
        slow.append(1)
        return real()[1:]  # without this function

    monkeypatch.setattr(inspect, "stack", counted)
    with pytest.raises(ValueError, match="set_env_variable can only be used on single-step"):
        refused_setting(dsl)
    assert slow, "the SDK no longer calls inspect.stack: remove emit.names_of_callers"
    slow.clear()
    with emit.names_of_callers(), pytest.raises(ValueError, match="set_env_variable can only be used on"):
        refused_setting(dsl)
    assert not slow
