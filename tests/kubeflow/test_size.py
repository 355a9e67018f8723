"""The estimate of Argo's Workflow against the figures of a run on Kubeflow Pipelines 2.17.0 with Argo 4.0.5.

That run had a task for each node, with the node's IR as base64 of gzip in its arguments; `as_measured` builds
such a pipeline for any number of nodes.
"""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.config.cluster import Cluster
from pipeline.kubeflow import emit, size
from pipeline.kubeflow.tasks import divided, longest_chain, with_verdict
from trainer import variants

KILO = 1000
IR = 946
"""Bytes of a node's IR in its arguments, on average: 83,256 bytes for 88 nodes."""
NODES = ("Trainer", "Gallery", "Resolver", "Evaluator", "Pusher")
VARIANTS = (  # of 0.1, on the cluster
    "aae", "categorical", "cvae", "factor", "hvae", "infovae", "iwae", "linear", "logreg", "mlp", "vae_beta",
    "vae_conv", "vae_dense", "vamp", "vqvae", "wae",
)  # fmt: skip
SHARED = ("IdxExampleGen", "ImportSchemaGen", "StatisticsGen", "ExampleValidator", "AnomalyGate", "Transform")


def as_measured(number: int, nightly: bool = False, with_ir: bool = True) -> tuple[Any, Any]:
    """The documents of that time: every node a task, a component and an executor of its own."""
    chosen = VARIANTS[:number]
    before = {name: list(SHARED[:index][-2:]) for index, name in enumerate(SHARED)}
    if nightly:
        before |= {name: ["StatisticsGen"] for name in ("Resolver.statistics", "DriftValidator", "DriftGate")}
    for name in chosen:
        before |= {f"{kind}.{name}": ["Transform", f"Trainer.{name}"] for kind in NODES[1:]}
        before[f"Trainer.{name}"] = ["Transform"]
        if nightly:
            before[f"Resolver.base.{name}"] = ["Transform"]
    before["Resolver.report"] = [f"Trainer.{name}" for name in chosen]
    before["Leaderboard"] = [node for node in before if node != "ImportSchemaGen"]
    dice = random.Random(0)
    components, executors, settings, tasks = {}, {}, {}, {}
    for node, upstream in before.items():
        name = plain(node)
        text = base64.b64encode(dice.randbytes(IR * 3 // 4)).decode()
        arguments = [
            "--node-id",
            node,
            *(["--ir", text] if with_ir else []),
            "--ir-sha256",
            dice.randbytes(32).hex(),
        ]
        arguments += ["--tfx-root", "/latentline/artifacts", "--log-format", "plain", "--run-id"]
        components[f"comp-{name}"] = {
            "executorLabel": f"exec-{name}",
            "inputDefinitions": {"parameters": {"run_id": {"parameterType": "STRING"}}},
        }
        executors[f"exec-{name}"] = {
            "container": {
                "args": [*arguments, "{{$.inputs.parameters['run_id']}}"],
                "command": ["python", "-m", "pipeline.node"],
                "env": [
                    {"name": f"LATENTLINE_METADATA_{key}", "value": value}
                    for key, value in (("HOST", "latentline-mysql"), ("PORT", "3306"),
                                       ("DATABASE", "latentline"), ("USER", "latentline"))
                ],
                "image": "latentline:dev",
                "resources": {
                    "cpuLimit": 2.0, "cpuRequest": 2.0, "memoryLimit": 8.589934592,
                    "memoryRequest": 8.589934592, "resourceCpuLimit": "2", "resourceCpuRequest": "2",
                    "resourceMemoryLimit": "8Gi", "resourceMemoryRequest": "8Gi",
                },
            }
        }  # fmt: skip
        settings[f"exec-{name}"] = {
            "imagePullPolicy": "IfNotPresent",
            "pvcMount": [
                {"constant": "latentline", "mountPath": "/latentline",
                 "pvcNameParameter": {"runtimeValue": {"constant": "latentline"}}},
            ],
            "secretAsEnv": [
                {"keyToEnv": [{"envVar": "LATENTLINE_METADATA_PASSWORD", "secretKey": "password"}],
                 "secretName": "latentline-mysql",
                 "secretNameParameter": {"runtimeValue": {"constant": "latentline-mysql"}}},
            ],
        }  # fmt: skip
        tasks[name] = {
            "cachingOptions": {},
            "componentRef": {"name": f"comp-{name}"},
            **({"dependentTasks": [plain(other) for other in upstream]} if upstream else {}),
            "inputs": {"parameters": {"run_id": {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}}},
            "retryPolicy": {
                "backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "3600s",
                "maxRetryCount": 2,
            },
            "taskInfo": {"name": node},
        }  # fmt: skip
    pipeline = {
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}},
    }
    return pipeline, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": settings}}}}


def plain(node: str) -> str:
    return node.lower().replace(".", "-").replace("_", "-")


def ended(documents: tuple[Any, Any], count: int) -> int:
    """Bytes of compressed node states when so many of the tasks have ended."""
    pipeline = json.loads(json.dumps(documents[0]))
    tasks = pipeline["root"]["dag"]["tasks"]
    pipeline["root"]["dag"]["tasks"] = dict(list(tasks.items())[:count])
    return size.estimate(pipeline, documents[1]).status - count * size.RESULT


@pytest.mark.parametrize(
    ("number", "nightly", "tasks", "measured"),
    [(2, False, 18, 92), (16, False, 88, 428), (16, True, 107, 517)],
)
def test_the_specification_has_the_size_that_the_cluster_showed(
    number: int, nightly: bool, tasks: int, measured: int
) -> None:
    found = size.estimate(*as_measured(number, nightly))
    assert found.tasks == tasks
    assert found.spec == pytest.approx(measured * KILO, rel=0.03)


def test_the_compressed_states_have_the_size_that_the_cluster_showed() -> None:
    assert ended(as_measured(16), 76) == pytest.approx(601 * KILO, rel=0.03)
    assert ended(as_measured(16, with_ir=False), 76) == pytest.approx(145 * KILO, rel=0.08)


def test_sixteen_variants_as_they_were_are_rejected_from_the_task_on_where_argo_rejected_them() -> None:
    documents = as_measured(16)
    assert not size.estimate(*documents).fits
    spec = size.estimate(*documents).spec
    at_76 = spec + ended(documents, 76) + 76 * size.RESULT
    assert at_76 == pytest.approx(1_052_093, rel=0.02)
    assert spec + ended(documents, 70) + 70 * size.RESULT < size.LIMIT


def lines(number: int) -> dict[str, list[str]]:
    """The nodes of a run of so many lines, with spans and warm starts, and what each needs."""
    known = variants.names()
    names = [f"{known[index % len(known)]}-{index // len(known)}" for index in range(number)]
    found = {name: list(SHARED[:index][-2:]) for index, name in enumerate(SHARED)}
    for name in names:
        found |= {
            f"Resolver.base.{name}": ["Transform"],
            f"Trainer.{name}": ["Transform", f"Resolver.base.{name}"],
            f"Resolver.{name}": [f"Trainer.{name}"],
            f"Resolver.night.{name}": [f"Trainer.{name}"],
            f"Evaluator.{name}": [f"Trainer.{name}", f"Resolver.{name}", f"Resolver.night.{name}"],
            f"Pusher.{name}": [f"Trainer.{name}", f"Evaluator.{name}"],
            f"Gallery.{name}": [f"Trainer.{name}", "IdxExampleGen"],
        }
    needed = [name for name in found if "." in name]
    return {**found, "Resolver.report": needed, "Leaderboard": [*needed, "Resolver.report"]}


@pytest.mark.parametrize(
    ("number", "limit"),
    [(len(variants.names()), size.LIMIT // 2), (100, size.LIMIT)],
)
def test_a_run_fits_with_room_to_spare(
    cluster_values: dict[str, Any], write_cluster: Callable[[dict[str, Any]], str], number: int, limit: int
) -> None:
    cluster_values["image"] = f"registry.example/team/latentline@sha256:{'0123456789abcdef' * 4}"
    del cluster_values["unpinned_image"]
    cluster = Cluster.from_file(write_cluster(cluster_values))
    nodes = lines(number)
    tasks = with_verdict(divided(nodes, cluster.pool_of))
    plan = base64.b64encode(random.Random(0).randbytes(30 * number)).decode()
    documents = emit.compiled("latentline", tasks, {}, emit.Source("ab" * 32, plan, plan), cluster)
    assert size.estimate(*documents).total < limit
    assert longest_chain(tasks) <= 5
