"""The compiled pipeline against golden files.

UPDATE_GOLDEN=1 pytest tests/kubeflow/test_compile.py rewrites them.

The node's own IR is left out of them, since it changes with every edit of the code; other tests read it.
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.compiler import compiler
from tfx.orchestration.pipeline import Pipeline

from pipeline.config.cluster import Cluster
from pipeline.config.settings import Settings
from pipeline.dag import ir

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
        for option in ("--ir", "--ir-sha256"):
            container["args"][container["args"].index(option) + 1] = f"<{option[2:]}>"
    text = yaml.safe_dump_all(documents, width=110)
    golden = GOLDEN / f"{shape}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_task_carries_its_own_node_and_nothing_that_kubeflow_would_rewrite(
    compiled: Callable[[str], list[Any]],
) -> None:
    for container in containers(compiled("two")[0]).values():
        arguments = container["args"]
        own = ir.unpack(ir.PackedIr(after("--ir", arguments), after("--ir-sha256", arguments)))
        [node] = own.nodes
        assert node.pipeline_node.node_info.id == after("--node-id", arguments)
        assert not set(after("--ir", arguments)) & set("{}$")


def test_the_tasks_depend_on_each_other_as_the_nodes_do(compiled: Callable[[str], list[Any]]) -> None:
    document = compiled("two")[0]
    tasks = document["root"]["dag"]["tasks"]
    for label, container in containers(document).items():
        arguments = container["args"]
        own = ir.unpack(ir.PackedIr(after("--ir", arguments), after("--ir-sha256", arguments)))
        upstream = own.nodes[0].pipeline_node.upstream_nodes
        wanted = {name.lower().replace(".", "-").replace("_", "-") for name in upstream}
        assert set(tasks[label.removeprefix("exec-")].get("dependentTasks", ())) == wanted


def test_the_run_id_is_the_whole_constant_of_an_input_and_caching_is_left_to_tfx(
    compiled: Callable[[str], list[Any]],
) -> None:
    for task in compiled("two")[0]["root"]["dag"]["tasks"].values():
        assert task["inputs"]["parameters"]["run_id"] == {
            "runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}
        }
        assert not task["cachingOptions"].get("enableCache")


def test_trainers_get_the_gpu_pool_and_all_else_the_cpu_pool(compiled: Callable[[str], list[Any]]) -> None:
    document, platform = compiled("two")
    tasks = document["root"]["dag"]["tasks"]
    for label, container in containers(document).items():
        own, task = platform_of(platform, label), tasks[label.removeprefix("exec-")]
        if label == "exec-trainer-cvae":
            assert container["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
            assert container["resources"]["accelerator"]["resourceCount"] == "2"
            assert container["resources"]["resourceMemoryLimit"] == "32Gi"
            assert own["nodeSelector"]["labels"] == {"pool": "a100", "zone": "b"}
            assert own["tolerations"] == [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "team", "operator": "Equal", "value": "vision"},
            ]
            assert task["retryPolicy"]["maxRetryCount"] == 3
            assert task["retryPolicy"]["backoffDuration"] == "300s"
        else:
            assert "accelerator" not in container["resources"]
            assert container["resources"]["resourceCpuLimit"] == "500m"
            assert "nodeSelector" not in own
            assert "retryPolicy" not in task


def test_the_password_is_a_reference_and_the_data_folder_a_parameter(
    compiled: Callable[[str], list[Any]],
) -> None:
    document, platform = compiled("one")
    assert document["root"]["inputDefinitions"]["parameters"] == {
        "data": {"defaultValue": "gs://bucket/data/fashion", "isOptional": True, "parameterType": "STRING"}
    }
    variables = {
        key["envVar"]: (secret["secretName"], key["secretKey"])
        for secret in platform_of(platform, "exec-transform")["secretAsEnv"]
        for key in secret["keyToEnv"]
    }
    assert variables == {"LATENTLINE_METADATA_PASSWORD": ("mysql", "password"), "TOKEN": ("cloud", "token")}


def test_beam_arguments_follow_the_component_class(compiled: Callable[[str], list[Any]]) -> None:
    found = {}
    for container in containers(compiled("one")[0]).values():
        arguments = container["args"]
        own = ir.unpack(ir.PackedIr(after("--ir", arguments), after("--ir-sha256", arguments)))
        found[after("--node-id", arguments)] = own.deployment_config.value
    assert b"DataflowRunner" in found["Transform"]
    assert b"in_memory" not in found["Transform"]
    assert b"in_memory" in found["StatisticsGen"]
    assert b"DataflowRunner" not in found["StatisticsGen"]


def test_the_sdk_loads_what_was_compiled(
    compile_script: Any, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    from kfp import components

    path = str(tmp_path / "pipeline.yaml")
    compile_script.compile_to(path, Settings(variants=("mlp",)), cluster)
    loaded = components.load_component_from_file(path)
    assert list(loaded.component_spec.inputs) == ["data"]


def test_two_processes_compile_the_same_bytes_however_python_hashes(tmp_path: pathlib.Path) -> None:
    found = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.yaml"
        subprocess.run(
            [sys.executable, "kubeflow/compile.py", "--output", path, "--variants", "mlp"],
            cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True,
        )  # fmt: skip
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_a_pipeline_that_kubernetes_would_not_take_is_refused_and_leaves_no_file(
    compile_script: Any, cluster: Cluster, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = [ImportSchemaGen(schema_file="x").with_id(f"Schema.{index}") for index in range(3)]
    small = compiler.Compiler().compile(Pipeline("small", "/root", components=schemas))
    output = tmp_path / "pipeline.yaml"
    monkeypatch.setattr(compile_script, "MAX_OBJECT", 1000)
    with pytest.raises(compile_script.TooLarge, match="Kubernetes takes about 1,000"):
        compile_script.write(small, cluster, str(output))
    assert list(tmp_path.iterdir()) == []


def test_an_argument_that_linux_would_not_take_is_refused(compile_script: Any) -> None:
    compile_script.check_arguments("Transform", ["x" * 131_071])
    with pytest.raises(compile_script.TooLarge, match="Transform has 131,072 bytes"):
        compile_script.check_arguments("Transform", ["--ir", "x" * 131_072])


def test_what_linux_takes_as_one_argument_is_what_is_checked(compile_script: Any) -> None:
    subprocess.run(["/bin/true", "x" * (compile_script.MAX_ARGUMENT - 1)], check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true", "x" * compile_script.MAX_ARGUMENT], check=True)


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
    nodes = {}
    for container in containers(document).values():
        arguments = container["args"]
        own = ir.unpack(ir.PackedIr(after("--ir", arguments), after("--ir-sha256", arguments)))
        nodes[after("--node-id", arguments)] = own.nodes[0].pipeline_node

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
    compile_nightly(compile_script, nightly(notify={"on_push": "true"}), tmp_path / "pipeline.yaml")
    assert "without effect on Kubeflow: notify of the settings" in capsys.readouterr().err
