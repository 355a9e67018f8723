"""Pods that are ours and not made by Kubeflow: those of operators' commands, and the workers of a training.

Both have the image, the volumes and the account of the tasks, and meet the PodSecurity standard `restricted`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.cluster import Cluster, Pool, SecretKey
from pipeline.execution.jobset import API_VERSION, PORT

LABELS = {"app.kubernetes.io/part-of": "latentline"}
WORKER = ("python", "-m", "pipeline.execution.worker")
"""Command of a worker."""
LASTING = 3600
"""Seconds that workers that have ended can be looked at."""
DAY = 86_400


def pod(
    cluster: Cluster,
    pool: Pool,
    command: Sequence[str],
    arguments: Sequence[str],
    given: Mapping[str, str],
    secrets: Mapping[str, SecretKey],
) -> dict[str, Any]:
    """Return the pod that runs a command in the project's image; given, secrets: its environment."""
    account = cluster.run_as
    resources: dict[str, str] = {"cpu": pool.cpu, "memory": pool.memory}
    if pool.accelerator:
        resources[pool.accelerator.type] = str(pool.accelerator.count)
    container = {
        "name": "main",
        "image": cluster.image,
        "imagePullPolicy": cluster.image_pull_policy,
        "command": list(command),
        "args": [word.replace("$", "$$") for word in arguments],  # Kubernetes replaces $(NAME), reads $$ as $
        "env": [
            *({"name": name, "value": value} for name, value in sorted(given.items())),
            *(
                {"name": name, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}
                for name, key in sorted(secrets.items())
            ),
        ],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": volume.claim, "mountPath": volume.mount} for volume in cluster.volumes],
    }
    identity = {
        "runAsUser": account.user if account else 1000,
        "runAsGroup": account.group if account else 1000,
    }
    return {
        "restartPolicy": "Never",
        **({"serviceAccountName": cluster.service_account} if cluster.service_account else {}),
        "securityContext": {
            "runAsNonRoot": True, **identity, "fsGroup": identity["runAsGroup"],
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": name} for name in cluster.image_pull_secrets],
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [
            {key: value for key, value in dataclasses.asdict(toleration).items() if value}
            for toleration in pool.tolerations
        ],
        "containers": [container],
        "volumes": [
            {"name": volume.claim, "persistentVolumeClaim": {"claimName": volume.claim}}
            for volume in cluster.volumes
        ],
    }  # fmt: skip


def workers(cluster: Cluster) -> dict[str, str]:
    """Return the JobSet of the workers of each pool that has several, as JSON text, by name of the pool.

    Name, owner, arguments and TF_CONFIG are for the task that creates it (pipeline.execution.workers). A
    worker that fails ends the set at once, since the others would wait for it; nothing of Kubernetes starts
    one again. The token of the service account is not for them, nor is the metadata store.
    """
    found = {}
    for name, pool in cluster.pools.items():
        if pool.workers == 1:
            continue
        arguments = ["--log-format", cluster.log_format, *(["--verbose"] if cluster.verbose else [])]
        worker = pod(cluster, pool, WORKER, arguments, {}, cluster.secrets)
        worker["automountServiceAccountToken"] = False
        worker["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
        worker["containers"][0]["ports"] = [{"name": "workers", "containerPort": PORT}]
        job = {
            "completionMode": "Indexed",
            "completions": pool.workers,
            "parallelism": pool.workers,
            "backoffLimit": 0,
            "activeDeadlineSeconds": pool.retry.days * DAY,
            "template": {
                "metadata": {"labels": LABELS, "annotations": {"sidecar.istio.io/inject": "false"}},
                "spec": worker,
            },
        }
        made = {
            "apiVersion": API_VERSION,
            "kind": "JobSet",
            "metadata": {"labels": LABELS},
            "spec": {
                "network": {"enableDNSHostnames": True},
                "ttlSecondsAfterFinished": LASTING,
                "replicatedJobs": [{"name": "worker", "replicas": 1, "template": {"spec": job}}],
            },
        }
        found[name] = json.dumps(made, sort_keys=True)
    return found
