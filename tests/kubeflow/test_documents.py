"""Every documented command of a cluster runs against the tests' server, or is listed with a reason."""

import pathlib
import shlex
from collections.abc import Mapping

import documents
import pytest
from kubeflow_server import Command, Kubeflow

from pipeline import cli
from pipeline.kubeflow import compile

COMPILED = "python kubeflow/compile.py --output pipeline.yaml"
NIGHTLY = f"{COMPILED} --settings nightly.yaml"
FAULTY = f"{COMPILED} --cluster mine.yaml"
NEEDS_A_CLUSTER = "needs a cluster"
NOT_RUN: Mapping[str, str] = {
    "docker build --file kubeflow/Dockerfile --target gpu --tag REGISTRY/latentline:1 .": "needs Docker",
    "docker push REGISTRY/latentline:1": "needs a registry",
    "kubectl --namespace kubeflow create secret generic latentline-mysql --from-literal=password="
    '"$(openssl rand -hex 24)" --from-literal=root-password="$(openssl rand -hex 24)"': NEEDS_A_CLUSTER,
    "kubectl --namespace kubeflow wait --for=condition=complete --timeout=10m job --selector "
    "app.kubernetes.io/part-of=latentline": NEEDS_A_CLUSTER,
    "kubectl label node NODE latentline/pool=gpu": NEEDS_A_CLUSTER,
    "kubectl taint node NODE nvidia.com/gpu=present:NoSchedule": NEEDS_A_CLUSTER,
    "kubectl --namespace kubeflow port-forward service/ml-pipeline-ui 8080:80 &": NEEDS_A_CLUSTER,
    "kubectl apply --kustomize kubeflow/manifests/serving": "tests/kubeflow/test_manifests.py builds it",
    "kubectl --namespace kubeflow port-forward service/latentline-serving 8501:8501 &": NEEDS_A_CLUSTER,
    "curl -s localhost:8501/v1/models/cvae": NEEDS_A_CLUSTER,
}
"""Command as shown -> why it is not run here."""


def test_every_command_of_a_cluster_is_run_or_listed_with_a_reason() -> None:
    rest = set(documents.of_a_cluster()) - set(NOT_RUN)
    assert set(NOT_RUN) <= set(documents.of_a_cluster())
    assert {
        command for command in rest if not command.startswith(("python kubeflow/", "latentline "))
    } == set()


def test_the_commands_of_a_cluster_work_in_the_order_of_its_page(
    deploy: Command,
    kubeflow: Kubeflow,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kubeflow").symlink_to(documents.ROOT / "kubeflow")
    shipped = (tmp_path / "kubeflow" / "cluster.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shipped.replace("count: 1", "count: 0", 1))
    page = documents.blocks("docs/KUBEFLOW.md")
    [settings] = [block.text for block in page if block.text.startswith("# nightly.yaml")]
    (tmp_path / "nightly.yaml").write_text(settings)
    for command in documents.of_a_cluster():
        if command in NOT_RUN:
            continue
        if command.startswith(
            "latentline "
        ):  # makes a job, as test_job.py shows; here its arguments are read
            cli.parser().parse_args(shlex.split(command)[1:])
            continue
        script, *arguments = shlex.split(command.split(" | ")[0])[1:]
        if "--models-config" in arguments:  # as on the page, but not into the sources
            arguments[-1] = str(tmp_path / "models.config")
        if script == "kubeflow/deploy.py":
            assert deploy(*arguments), command
        elif command == FAULTY:
            with pytest.raises(SystemExit):
                compile.main(arguments)
            assert "count must be at least 1, got 0" in capsys.readouterr().err
        else:
            compile.main([*arguments, "--variants", "mlp"])
            capsys.readouterr()
            assert pathlib.Path("pipeline.yaml").stat().st_size > 10_000
    assert not kubeflow.active()
