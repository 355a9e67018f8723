"""A trainer on several pods: the task creates a JobSet of workers, follows it, and answers for it.

The task runs the Trainer's driver and publisher as for any node. In place of training it writes the arguments
of the training into a file under the pipeline root, creates the JobSet of which its own pod is the owner,
writes what worker 0 says, and ends as the workers end. The workers join by TF_CONFIG and do not
know the metadata store. A set that fails is not started again by Kubernetes: the task's supervisor starts the
work again, from the checkpoint.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.io import fileio
from tfx.orchestration.portable.python_executor_operator import PythonExecutorOperator
from tfx.proto.orchestration import executable_spec_pb2

from pipeline.dag import ir
from pipeline.execution.jobset import PORT, Api, Line, Refused, in_pod
from pipeline.execution.worker import FIELDS, NUMBER

LOOK = 5.0
"""Seconds between two looks at the workers."""
GOING = 300.0
"""Seconds that the pods of an earlier attempt may take to end."""
TOGETHER = 600.0
"""Seconds in which all workers have to run once the first does.

Several sets that each wait for the rest of their machines would otherwise wait for each other.
"""
LATE = 60.0
"""Seconds that Kubernetes may take to end a set whose time is over."""
INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation with the number of a worker."""

log = logging.getLogger(__name__)


class WorkersFailed(RuntimeError):
    """The workers have failed, or could not be started; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """The pod whose end is that of the workers."""

    name: str
    uid: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Owner":
        """Return the pod that Kubeflow names in the environment. Raises WorkersFailed."""
        name, uid = (environment.get(f"KFP_POD_{key}", "") for key in ("NAME", "UID"))
        if not name or not uid:
            raise WorkersFailed(
                "the environment lacks KFP_POD_NAME or KFP_POD_UID, which Kubeflow Pipelines sets: the "
                "workers would not end with their run"
            )
        return cls(name, uid)


def template(root: str, sha256: str) -> dict[str, Any]:
    """Return the JobSet that the first task of the run wrote below the pipeline root. Raises BadIr."""
    data = ir.kept(root, sha256, "json")
    if data is None:
        raise ir.BadIr(
            f"there is no {ir.path(root, sha256, 'json')}, which the first task of the run writes; start a "
            "new run"
        )
    return dict(json.loads(data))


def name_of(run_id: str, node: str) -> str:
    """Return the name of the JobSet of a node in a run: the same for every attempt."""
    return f"latentline-{hashlib.sha256(f'{run_id}/{node}'.encode()).hexdigest()[:12]}"


def filled(template: Mapping[str, Any], name: str, owner: Owner, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the JobSet of a template: its name, its owner, and what its workers are given.

    The number of a worker is in an annotation of its pod, from where Kubernetes puts it into TF_CONFIG.
    """
    made: dict[str, Any] = json.loads(json.dumps(template))
    made["metadata"]["name"] = name
    made["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}
    ]
    [group] = made["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    hosts = [f"{name}-{group['name']}-0-{index}.{name}:{PORT}" for index in range(job["parallelism"])]
    cluster = json.dumps({"worker": hosts}, separators=(",", ":"))
    container["args"] = [*container.get("args", ()), *(word.replace("$", "$$") for word in arguments)]
    container["env"] = [
        *container.get("env", ()),
        {"name": NUMBER, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}},
        {
            "name": "TF_CONFIG",
            "value": f'{{"cluster":{cluster},"task":{{"type":"worker","index":$({NUMBER})}}}}',
        },
    ]
    return made


def trained_by(template: Mapping[str, Any], run_id: str, node: str) -> dict[Any, Any]:
    """Return the operators with which TFX's launcher has a Trainer's work done by workers."""
    operator = functools.partial(_Operator, work=functools.partial(train, template, name_of(run_id, node)))
    return {executable_spec_pb2.PythonClassExecutableSpec: operator}


class _Executor(GenericExecutor):
    """TFX's executor, with workers that train in place of this process."""

    work: Callable[[str, str], None]

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Called by TFX."""
        given = self._GetFnArgs(input_dict, output_dict, exec_properties)
        values = {field: getattr(given, field) for field in FIELDS}
        path, sha256 = write_arguments(self._get_tmp_dir(), values)
        self.work(path, sha256)
        if not fileio.exists(given.serving_model_dir):
            raise WorkersFailed(f"the workers ended well and left no model in {given.serving_model_dir}")


class _Operator(PythonExecutorOperator):
    """TFX's operator of Python executors, with the executor above; the cache keeps the Trainer's own key."""

    def __init__(self, *given: Any, work: Callable[[str, str], None], **named: Any) -> None:
        super().__init__(*given, **named)
        self._executor_cls = type("WorkersExecutor", (_Executor,), {"work": staticmethod(work)})


def write_arguments(folder: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """Write the arguments of a training into a file, and return its path and its sha256."""
    data = json.dumps(values, sort_keys=True).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    path = os.path.join(folder, f"arguments-{sha256[:12]}.json")
    with fileio.open(path, "wb") as file:
        file.write(data)
    return path, sha256


def train(template: Mapping[str, Any], name: str, path: str, sha256: str) -> None:
    """Have workers train with the arguments of a file. Raises WorkersFailed and Refused."""
    owner, api = Owner.of(os.environ), in_pod()
    remove(api, name)
    made = filled(template, name, owner, ["--arguments", path, "--sha256", sha256])
    follower = Follower(api, made)
    log.info("%s: created a JobSet of %d workers", name, follower.count)
    try:
        api.create(made)
        follower.follow()
    except BaseException:  # also when this task is stopped, with 0.1 s left: nobody waits for an answer
        if not follower.ended:
            end(api, name)
        raise


def end(api: Api, name: str) -> None:
    """Ask once for the end of the workers; if nobody hears it, they end with the pod that owns them."""
    try:
        api.delete(name, patience=0.0, answer=2.0)
    except Refused as error:
        log.warning("%s: the workers end with the pod of this task (%s)", name, error)


def remove(api: Api, name: str, wait: Callable[[float], None] = time.sleep) -> None:
    """Remove the workers of an earlier attempt and wait until they are gone.

    Raises WorkersFailed and Refused.
    """
    until = api.clock() + GOING
    while (found := api.jobset(name)) is not None:
        if api.clock() >= until:
            raise WorkersFailed(f"the JobSet {name} of an earlier attempt has not ended within {GOING:g} s")
        if "deletionTimestamp" not in found["metadata"]:
            api.delete(name)
        wait(min(LOOK, 1.0))


class Follower:
    """Follows the workers of a JobSet to their end."""

    def __init__(
        self,
        api: Api,
        made: Mapping[str, Any],
        write: Callable[[str], None] | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api, self._write, self._wait = api, write or _to_stderr, wait
        self._name = made["metadata"]["name"]
        job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
        self.count: int = job["parallelism"]
        self._seconds: int = job["activeDeadlineSeconds"]
        self._last: Line | None = None
        self._told = ""
        self.ended = False

    def follow(self) -> None:
        """Write what worker 0 says until the workers have ended. Raises WorkersFailed and Refused."""
        began, first = self._api.clock(), None
        while self._api.clock() < began + self._seconds + LATE:
            found = self._api.jobset(self._name)
            if found is None:
                raise WorkersFailed(f"somebody has deleted the JobSet {self._name} of the workers")
            pods = sorted(self._api.pods(self._name), key=number)
            self._relay(pods)
            conditions = {
                each["type"]: str(each.get("message", ""))
                for each in found.get("status", {}).get("conditions", ())
                if each.get("status") == "True"
            }
            if conditions.keys() & {"Completed", "Failed"}:
                self.ended = True
                self._relay(pods)  # what was written since
                if "Failed" in conditions:
                    raise WorkersFailed(
                        reason(pods, self.count) or f"the workers failed: {conditions['Failed']}"
                    )
                return
            started = [pod for pod in pods if phase(pod) in ("Running", "Succeeded", "Failed")]
            self._tell(pods, len(started))
            first = (first or self._api.clock()) if 0 < len(started) < self.count else None
            if first and self._api.clock() > first + TOGETHER:
                raise WorkersFailed(
                    f"only {len(started)} of {self.count} workers started within {TOGETHER:g} s of the first "
                    f"({waiting(pods) or 'the others have no pod'}); their machines must become free"
                )
            self._wait(LOOK)
        raise WorkersFailed(f"the workers have not ended within {self._seconds} s (retry.days of their pool)")

    def _relay(self, pods: Sequence[Mapping[str, Any]]) -> None:
        for pod in pods[:1]:
            if number(pod) == 0 and phase(pod) != "Pending":
                for line in self._api.lines(pod["metadata"]["name"], self._last):
                    self._write(line.text)
                    self._last = line

    def _tell(self, pods: Sequence[Mapping[str, Any]], started: int) -> None:
        """Log how many workers run, and why others do not, when that changes."""
        why = waiting(pods)
        now = f"{started} of {self.count} workers have started" + (f"; {why}" if why else "")
        if now != self._told:
            self._told = now
            log.info("%s: %s", self._name, now)


def number(pod: Mapping[str, Any]) -> int:
    """Return the number of a worker."""
    return int(pod["metadata"].get("annotations", {}).get(INDEX, 0))


def phase(pod: Mapping[str, Any]) -> str:
    """Return what Kubernetes calls the phase of a pod."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def waiting(pods: Sequence[Mapping[str, Any]]) -> str:
    """Return why the first worker that waits does so; empty if none waits, or none says why."""
    for pod in pods:
        if phase(pod) == "Pending":
            status = pod.get("status", {})
            reasons: list[Mapping[str, Any] | None] = [
                each.get("state", {}).get("waiting") for each in status.get("containerStatuses", ())
            ]
            reasons += [each for each in status.get("conditions", ()) if each.get("status") == "False"]
            for found in filter(None, reasons):
                words = " ".join(f"{found.get('reason', '')}: {found.get('message', '')}".split()).strip(": ")
                return f"worker {number(pod)} waits ({words})"
    return ""


def reason(pods: Sequence[Mapping[str, Any]], count: int) -> str:
    """Return which worker failed first, and why; empty if no pod says so.

    A worker whose neighbour is lost fails as well, so the first to fail is the one to look at.
    """
    found = []
    for pod in pods:
        if phase(pod) != "Failed":
            continue
        status = pod["status"]
        ended = [each.get("state", {}).get("terminated") for each in status.get("containerStatuses", ())]
        last: Mapping[str, Any] = next((each for each in ended if each), {})
        why = [status.get("reason", ""), last.get("reason", "").replace("Error", "")]
        words = ", ".join(filter(None, [*why, said(last.get("message", "")), status.get("message", "")]))
        code = f"exit code {last['exitCode']}" if "exitCode" in last else "no exit code"
        text = f"worker {number(pod)} of {count} failed ({code}): {words or 'it does not say why'}"
        found.append((last.get("finishedAt", ""), number(pod), text))
    return min(found)[2] if found else ""


def said(message: str) -> str:
    """Return the error in the last line that a worker wrote, which is the end of its message, or the line."""
    last = next((line for line in reversed(message.split("\n")) if line.strip()), "")
    try:
        return str(json.loads(last)["error"])
    except (ValueError, KeyError, TypeError):
        pass
    match = re.search(r' error=("(?:[^"\\]|\\.)*"|\S+)', last)
    if not match:
        return last and f"its last line was: {' '.join(last.split())}"
    return str(json.loads(match[1])) if match[1].startswith('"') else match[1]


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
