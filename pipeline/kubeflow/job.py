"""Run a command of an operator on the cluster: a Job of one pod, submitted with kubectl and followed.

The pod has the image, the volumes, the account and the metadata store of the pipeline's tasks. Kubernetes
ends it after DEADLINE seconds and removes it an hour after its end. A pod that is lost is not replaced: the
command may have been carried out, and the next one finishes or undoes what was interrupted.
"""

import dataclasses
import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.config.cluster import Cluster
from pipeline.kubeflow.api import shown
from pipeline.kubeflow.emit import metadata_environment
from pipeline.kubeflow.manifests import NAMESPACE
from pipeline.kubeflow.pods import LABELS, pod

DEADLINE = 1800
"""Seconds after which Kubernetes ends the pod."""
START = 600.0
"""Seconds that the pod may take to start: pulling the image is a part of it."""
LOOK = 2.0
"""Seconds between two looks at the pod."""
ANSWER = 60.0
"""Seconds that kubectl may take for an answer."""
HOPELESS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
"""Reasons for which a container waits that do not pass by themselves."""
LASTING = 30.0
"""Seconds after which such a reason is believed."""

Say = Callable[[str], None]


class JobFailed(RuntimeError):
    """The job could not be submitted or followed; the message says what is known of it."""


@dataclasses.dataclass(frozen=True)
class Kubectl:
    """The kubectl at `path`; its settings, and so the cluster and the account, are the user's own."""

    path: str

    @classmethod
    def found(cls) -> "Kubectl":
        """Return the kubectl of this machine. Raises JobFailed."""
        path = shutil.which("kubectl")
        if not path:
            raise JobFailed("there is no kubectl on this machine; install it, and point it at the cluster")
        return cls(path)

    def __call__(self, namespace: str, *words: str, given: str = "") -> str:
        """Return what a command prints; given: its standard input. Raises JobFailed."""
        what = f"kubectl {' '.join(words[:2])}"
        try:
            done = subprocess.run(
                [self.path, "--namespace", namespace, "--request-timeout", f"{ANSWER / 2:g}s", *words],
                input=given, capture_output=True, text=True, timeout=ANSWER, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise JobFailed(
                f"{what} gave no answer ({type(error).__name__}); check your connection"
            ) from error
        if done.returncode:
            raise JobFailed(f"{what} failed: {shown(done.stderr) or 'it does not say why'}")
        return done.stdout

    def follow(self, namespace: str, pod: str, write: Say) -> bool:
        """Write the lines of a pod's log until it ends; whether all of them came."""
        command = [self.path, "--namespace", namespace, "logs", "--follow", pod]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="backslashreplace"
        ) as process:
            assert process.stdout
            for line in process.stdout:
                write(line.rstrip("\n"))
        return process.returncode == 0


def run(
    cluster: Cluster,
    words: Sequence[str],
    kubectl: Kubectl,
    write: Say,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Run `latentline` with these words on a cluster; return its exit code.

    write: gets the lines that the command writes. wait: between two looks, given seconds. Raises JobFailed.
    """
    namespace = cluster.endpoint.namespace or NAMESPACE
    made = kubectl(
        namespace, "create", "--filename", "-", "--output", "name",
        given=json.dumps(manifest(cluster, words, _user())),
    )  # fmt: skip
    name = made.strip().rpartition("/")[2]
    print(f"latentline: job {name} in namespace {namespace}", file=sys.stderr)
    pod = _started(kubectl, namespace, name, wait)
    whole = kubectl.follow(namespace, f"pod/{pod}", write)
    code = _ended(kubectl, namespace, name, wait)
    if not whole:
        print(f"latentline: not all of its log came; see `kubectl logs job/{name}`", file=sys.stderr)
    return code


def manifest(cluster: Cluster, words: Sequence[str], user: str) -> dict[str, Any]:
    """Return the Job that runs `latentline` with these words for `user`."""
    pool = dataclasses.replace(cluster.pools[cluster.pool_of("Leaderboard")], accelerator=None)
    secrets = dict(cluster.secrets)
    if cluster.metadata.mysql:
        secrets["LATENTLINE_METADATA_PASSWORD"] = cluster.metadata.mysql.password
    given = {**metadata_environment(cluster), "LOGNAME": user}
    arguments = [*words, f"--serving={cluster.serving}"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"latentline-{words[0]}-", "labels": LABELS},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE,
            "ttlSecondsAfterFinished": 3600,
            "template": {
                "metadata": {"labels": LABELS},
                "spec": pod(cluster, pool, ["python", "-m", "pipeline"], arguments, given, secrets),
            },
        },
    }


def _started(kubectl: Kubectl, namespace: str, name: str, wait: Callable[[float], None]) -> str:
    """Return the pod of a job once it runs or has ended. Raises JobFailed."""
    waited, hopeless = 0.0, 0.0
    why = "no pod was made"
    while waited < START:
        pod = _pod(kubectl, namespace, name)
        if pod:
            status = pod["status"]
            if status.get("phase") != "Pending":
                return str(pod["metadata"]["name"])
            why = _waiting(status) or "its pod waits for a machine"
            hopeless = hopeless + LOOK if why.partition(":")[0] in HOPELESS else 0.0
            if hopeless > LASTING:
                break
        wait(LOOK)
        waited += LOOK
    kubectl(namespace, "delete", "job", name, "--wait=false")
    raise JobFailed(
        f"the job {name} did not start within {waited:g} s ({why}) and was removed; nothing was done"
    )


def _ended(kubectl: Kubectl, namespace: str, name: str, wait: Callable[[float], None]) -> int:
    """Return the exit code of the pod of a job, once it has ended. Raises JobFailed."""
    waited = 0.0
    while waited < DEADLINE + ANSWER:
        pod = _pod(kubectl, namespace, name)
        if not pod:
            break
        for container in pod["status"].get("containerStatuses", ()):
            if ended := container.get("state", {}).get("terminated"):
                return int(ended["exitCode"])
        if pod["status"].get("phase") in ("Failed", "Succeeded"):
            break
        wait(LOOK)
        waited += LOOK
    raise JobFailed(
        f"the pod of the job {name} was lost before it ended; `latentline status` shows what serves, the "
        f"same command does it again, and `kubectl --namespace {namespace} describe job {name}` may say why"
    )


def _pod(kubectl: Kubectl, namespace: str, name: str) -> Mapping[str, Any] | None:
    """Return the pod of a job; None if there is none. Raises JobFailed."""
    answer = kubectl(namespace, "get", "pods", "--selector", f"job-name={name}", "--output", "json")
    try:
        items = json.loads(answer)["items"]
        return items[0] if items else None
    except (ValueError, KeyError, TypeError) as error:
        raise JobFailed(
            f"kubectl answered no list of pods ({type(error).__name__}); check its version"
        ) from error


def _waiting(status: Mapping[str, Any]) -> str:
    """Return why a pod has not started; empty if it does not say."""
    for container in status.get("containerStatuses", ()):
        if waiting := container.get("state", {}).get("waiting"):
            return shown(f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": "))
    for condition in status.get("conditions", ()):
        if condition.get("status") == "False" and condition.get("message"):
            return shown(condition["message"])
    return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
