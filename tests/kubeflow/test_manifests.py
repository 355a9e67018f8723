"""The manifests: built by kustomize, known to Kubernetes field by field, in agreement with cluster.yaml."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import types
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from kubernetes import client

from pipeline.config.cluster import Cluster
from pipeline.execution import node
from pipeline.kubeflow import manifests

REPOSITORY = pathlib.Path(__file__).parents[2]
MANIFESTS = REPOSITORY / "kubeflow" / "manifests"
OWN_TYPES = {
    "Secret": "V1Secret", "ServiceAccount": "V1ServiceAccount", "Job": "V1Job",
    "Role": "V1Role", "RoleBinding": "V1RoleBinding", "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "Service": "V1Service", "StatefulSet": "V1StatefulSet", "Deployment": "V1Deployment",
    "ConfigMap": "V1ConfigMap",
}  # fmt: skip
FOLDERS = (".", "serving", "kserve")


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster.from_file(str(REPOSITORY / "kubeflow" / "cluster.yaml"))


def resources(folder: str) -> list[dict[str, Any]]:
    """The objects of the files that a kustomization names."""
    kustomization = yaml.safe_load((MANIFESTS / folder / "kustomization.yaml").read_text())
    return [
        document
        for name in kustomization["resources"]
        for document in yaml.safe_load_all((MANIFESTS / folder / name).read_text())
    ]


def only(kind: str, name: str, folder: str = ".") -> dict[str, Any]:
    [found] = [item for item in resources(folder) if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def pods(folder: str) -> list[dict[str, Any]]:
    return [
        item["spec"]["template"]["spec"] for item in resources(folder) if "template" in item.get("spec", {})
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_builds(folder: str) -> None:
    command = [found, "build"] if (found := shutil.which("kustomize")) else ["kubectl", "kustomize"]
    if not shutil.which(command[0]):
        pytest.skip("neither kustomize nor kubectl is here")
    built = subprocess.run([*command, MANIFESTS / folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    made = list(yaml.safe_load_all(built.stdout))
    assert {item["metadata"].get("namespace") for item in made} == {"kubeflow"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_knows_every_field(folder: str) -> None:
    known = [item for item in resources(folder) if item["kind"] in OWN_TYPES]
    assert len(known) == len(resources(folder)) or folder == "kserve"
    for item in [*known, yaml.safe_load((MANIFESTS / "secret.template.yaml").read_text())]:
        api = client.ApiClient()
        answer = types.SimpleNamespace(data=json.dumps(item))
        typed = api.deserialize(answer, OWN_TYPES[item["kind"]])
        assert api.sanitize_for_serialization(typed) == item


def kubectl(item: dict[str, Any]) -> str:
    """What kubectl, without a server, has against an object once it has made its own (Go) type of it."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not here")
    command = ["kubectl", "set", "env", "--local", "--filename", "-", "--output", "json", "PROBE=here"]
    ended = subprocess.run(command, input=json.dumps(item), capture_output=True, text=True, check=False)
    if ended.returncode:
        return "" if "does not have a pod template: *v1." in ended.stderr else ended.stderr
    return ", ".join(lost(item, json.loads(ended.stdout), item["kind"]))


def lost(given: Any, kept: Any, path: str) -> list[str]:
    """The paths of values that are not in `kept`."""
    if isinstance(given, dict):
        names = [name for name in given if name in kept]
        gone = [f"{path}.{name}" for name in given if name not in kept]
        return gone + [each for name in names for each in lost(given[name], kept[name], f"{path}.{name}")]
    if isinstance(given, list):
        pairs = enumerate(zip(given, kept, strict=False))
        return [each for index, pair in pairs for each in lost(*pair, f"{path}[{index}]")]
    return [] if given == kept else [path]


@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_takes_every_object_as_it_is(folder: str) -> None:
    found = {item["kind"]: kubectl(item) for item in resources(folder) if item["kind"] in OWN_TYPES}
    assert not any(found.values()), found


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda spec: spec.update(replicas="one"), "spec.replicas of type int32"),
        (
            lambda spec: spec["template"]["spec"].update(contaners=[]),
            "StatefulSet.spec.template.spec.contaners",
        ),
        (
            lambda spec: spec["template"]["spec"]["containers"][0]["resources"]["requests"].update(cpu="1x"),
            "quantities must match",
        ),
    ],
)
def test_kubectl_would_not_take_a_mistake(spoil: Callable[[Any], None], words: str) -> None:
    item = only("StatefulSet", "latentline-mysql")
    spoil(item["spec"])
    assert words in kubectl(item)


def test_names_agree_with_the_cluster_file(cluster: Cluster) -> None:
    server = cluster.metadata.mysql
    assert server
    [volume] = cluster.volumes
    assert only("PersistentVolumeClaim", volume.claim)["spec"]["accessModes"] == ["ReadWriteMany"]
    assert only("Service", server.host)["spec"]["ports"][0]["port"] == server.port
    assert only("ServiceAccount", cluster.service_account)
    secret = yaml.safe_load((MANIFESTS / "secret.template.yaml").read_text())
    assert secret["metadata"]["name"] == server.password.name
    assert server.password.key in secret["stringData"]


def test_no_file_holds_a_password() -> None:
    secret = yaml.safe_load((MANIFESTS / "secret.template.yaml").read_text())
    assert set(secret["stringData"].values()) == {""}
    assert "Secret" not in {item["kind"] for folder in FOLDERS for item in resources(folder)}


def test_the_job_gives_the_entry_point_the_environment_it_asks_for(cluster: Cluster) -> None:
    [container] = only("Job", "latentline-metadata")["spec"]["template"]["spec"]["containers"]
    environment = {
        variable["name"]: variable.get("value", "from the Secret") for variable in container["env"]
    }
    given = node.connection_from(environment).mysql
    server = cluster.metadata.mysql
    assert server
    assert (given.host, given.port) == (server.host, server.port)
    assert (given.database, given.user) == (server.database, server.user)
    assert container["command"] == ["python", "-m", "pipeline.node", "--init-metadata"]


def test_the_data_job_fills_the_folder_that_the_cluster_file_names(cluster: Cluster) -> None:
    [container] = only("Job", "latentline-data")["spec"]["template"]["spec"]["containers"]
    cache = pathlib.PurePath(cluster.data.folder).parent
    assert f'pathlib.Path("{cache}")' in container["command"][-1]
    compile(container["command"][-1], "job", "exec")


def test_deleting_the_manifests_leaves_kubeflow_its_namespace(cluster: Cluster) -> None:
    made = [*yaml.safe_load_all(manifests.rendered(cluster)), *(i for f in FOLDERS for i in resources(f))]
    assert "Namespace" not in {item["kind"] for item in made}


def test_the_rendered_manifests_have_the_image_and_the_namespace_of_the_cluster_file(
    cluster: Cluster,
) -> None:
    chosen = dataclasses.replace(
        cluster, image="registry.example/x@sha256:" + "a" * 64,
        endpoint=dataclasses.replace(cluster.endpoint, namespace="team"),
    )  # fmt: skip
    made = list(yaml.safe_load_all(manifests.rendered(chosen)))
    assert len(made) == len(resources("."))
    assert {item["metadata"]["namespace"] for item in made} == {"team"}
    images = {
        container["image"]
        for item in made
        for container in item.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    }
    assert images == {chosen.image, "mysql:8.0"}


def test_a_job_of_another_image_is_another_job_and_goes_by_itself(cluster: Cluster) -> None:
    def jobs(image: str) -> dict[str, Any]:
        text = manifests.rendered(dataclasses.replace(cluster, image=image))
        return {i["metadata"]["name"]: i for i in yaml.safe_load_all(text) if i["kind"] == "Job"}

    first, again, other = jobs("latentline:1"), jobs("latentline:1"), jobs("latentline:2")
    assert first.keys() == again.keys()
    assert not first.keys() & other.keys()
    assert all(job["spec"]["ttlSecondsAfterFinished"] > 0 for job in first.values())


@pytest.mark.parametrize("folder", [".", "serving"])
def test_pods_meet_the_restricted_pod_security_standard(folder: str) -> None:
    for pod in pods(folder):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "initContainers" not in pod
        for volume in pod.get("volumes", ()):
            assert volume.keys() & {"persistentVolumeClaim", "configMap"}
            if "persistentVolumeClaim" in volume and folder == ".":
                assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


@pytest.mark.parametrize("folder", [".", "serving"])
def test_containers_run_without_root_and_without_capabilities(folder: str) -> None:
    for pod in pods(folder):
        for container in pod["containers"]:
            context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
            assert context["runAsNonRoot"] is True
            assert context["runAsUser"] > 0
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_what_is_served_is_where_the_pipeline_pushes(cluster: Cluster, compile_script: Any) -> None:
    committed = (MANIFESTS / "serving" / "models.config").read_text()
    assert committed == compile_script.models_config(["cvae"], cluster.serving)
    [volume] = cluster.volumes
    inner = pathlib.PurePath(cluster.serving).relative_to(volume.mount)
    model = only("InferenceService", "latentline-cvae", "kserve")["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"pvc://{volume.claim}/{inner}/cvae"


def test_the_image_has_the_code_where_the_cluster_file_says(cluster: Cluster) -> None:
    text = (REPOSITORY / "kubeflow" / "Dockerfile").read_text()
    assert f"WORKDIR {cluster.code}\n" in text
    assert "USER 1000:1000" in text


def test_the_image_is_given_every_file_that_it_copies() -> None:
    lines = (REPOSITORY / "kubeflow" / "Dockerfile").read_text().splitlines()
    copied = [
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    let_in = (REPOSITORY / "kubeflow" / "Dockerfile.dockerignore").read_text().split()
    for path in copied:
        assert (REPOSITORY / path).exists()
        assert f"!{path}" in let_in


def test_the_gpu_libraries_are_those_that_tensorflow_names() -> None:
    import importlib.metadata

    wanted = {
        requirement.split(";")[0].replace(" ", "")
        for requirement in importlib.metadata.requires("tensorflow") or ()
        if "and-cuda" in requirement
    }
    lines = (REPOSITORY / "kubeflow" / "gpu.txt").read_text().splitlines()
    assert {line.split(" ")[0] for line in lines if "==" in line} == wanted
