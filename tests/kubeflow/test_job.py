"""The job that carries out an operator's command on the cluster: its manifest, and how it is followed."""

import dataclasses
import json
import os
import pathlib
import sys
import types
from typing import Any

import pytest
from kubernetes import client

from pipeline import cli
from pipeline.config.cluster import Cluster, RunAs
from pipeline.kubeflow import job

SCRIPTS = pathlib.Path(__file__).parent / "scripts"
GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster.from_file(str(GOLDEN / "cluster.yaml"))


@pytest.fixture
def fake(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of a cluster that is this machine."""
    monkeypatch.setenv("FAKE_CLUSTER", str(tmp_path))
    monkeypatch.setenv("PATH", f"{SCRIPTS}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    (tmp_path / "secrets.json").write_text(json.dumps({"mysql": {"password": "p"}, "cloud": {"token": "t"}}))
    return tmp_path


def followed(cluster: Cluster, *words: str) -> tuple[int, list[str]]:
    """Exit code and lines of a command."""
    lines: list[str] = []
    return job.run(cluster, words, job.Kubectl.found(), lines.append, wait=lambda seconds: None), lines


def test_the_job_has_what_the_tasks_have_and_meets_the_restricted_standard(cluster: Cluster) -> None:
    made = job.manifest(cluster, ["rollback", "cvae", "--reason=it cost $100 of $(HOME)"], "eve")
    api = client.ApiClient()
    typed = api.deserialize(types.SimpleNamespace(data=json.dumps(made)), "V1Job")
    assert api.sanitize_for_serialization(typed) == made  # Kubernetes knows every field
    spec = made["spec"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 3600)
    assert spec["activeDeadlineSeconds"] > 0
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == cluster.image
    assert container["args"] == [
        "rollback", "cvae", "--reason=it cost $$100 of $$(HOME)", f"--serving={cluster.serving}",
    ]  # fmt: skip
    given: dict[str, Any] = {variable["name"]: variable for variable in container["env"]}
    assert given["LOGNAME"]["value"] == "eve"
    reference = given["LATENTLINE_METADATA_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "mysql", "key": "password"}
    assert "p" not in {variable.get("value") for variable in container["env"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {volume.mount for volume in cluster.volumes}
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_user_of_the_cluster_file_is_that_of_the_job(cluster: Cluster) -> None:
    other = dataclasses.replace(cluster, run_as=RunAs(7, 8))
    pod = job.manifest(other, ["status"], "eve")["spec"]["template"]["spec"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (7, 8)


def test_a_command_is_followed_to_its_exit_code(cluster: Cluster, fake: pathlib.Path) -> None:
    code, lines = followed(cluster, "status")  # in a folder that is not there
    assert code == 3
    assert lines[0] == "UNKNOWN: no run yet"


def test_a_pod_that_cannot_start_is_removed_with_the_reason(cluster: Cluster, fake: pathlib.Path) -> None:
    (fake / "refuse").touch()
    with pytest.raises(job.JobFailed, match=r"ImagePullBackOff: no such image.*nothing was done"):
        followed(cluster, "status")
    assert (fake / "deleted").read_text() == "latentline-status-1"


def test_a_pod_that_is_lost_is_told(cluster: Cluster, fake: pathlib.Path) -> None:
    (fake / "lose").touch()
    with pytest.raises(job.JobFailed, match="was lost before it ended"):
        followed(cluster, "status")


def test_the_status_of_a_cluster_is_that_of_its_serving_folder(
    fake: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", "--json", "--cluster", str(GOLDEN / "cluster.yaml")])
    assert ended.value.code == 3
    assert json.loads(capsys.readouterr().out)["reasons"] == ["no run yet"]


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["rollback", "cvae"], ["rollback", "cvae", "--reason="]),
        (["rollback", "cvae", "--to", "5", "--reason=-x"], ["rollback", "cvae", "--to", "5", "--reason=-x"]),
        (["promote", "cvae", "--model", "7"], ["promote", "cvae", "--model", "7", "--reason="]),
        (["lineage", "cvae", "--json"], ["lineage", "cvae", "--json"]),
    ],
)
def test_a_command_reaches_the_job_with_its_arguments(
    cluster: Cluster,
    fake: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    made: list[str],
) -> None:
    (fake / "refuse").touch()
    monkeypatch.setattr(job, "LASTING", -1.0)
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--cluster", str(GOLDEN / "cluster.yaml")])
    assert ended.value.code == 1
    assert "did not start" in capsys.readouterr().err
    [manifest] = fake.glob("*.job")
    [container] = json.loads(manifest.read_text())["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [*made, f"--serving={cluster.serving}"]


def test_a_cluster_file_that_is_wrong_is_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", "--cluster", "missing.yaml"])
    assert ended.value.code == 2
    assert "missing.yaml" in capsys.readouterr().err


def test_without_kubectl_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(job.JobFailed, match="there is no kubectl"):
        job.Kubectl.found()
