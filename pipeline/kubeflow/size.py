"""Estimate the size of the Workflow that Kubeflow Pipelines makes of a compiled pipeline.

Argo refuses a Workflow object of more than 1,048,576 bytes, of which the states of its nodes are kept as
base64 of gzip. Both parts are built here as Kubeflow's compiler and Argo build them, with invented
identifiers and times, and the second is compressed. The rest is calibrated on a run of 88 tasks on Kubeflow
Pipelines 2.17.0 with Argo 4.0.5: Workflows of 92, 428 and 517 kB at creation for 18, 88 and 107 tasks; when
76 of the 88 had ended, 601 kB of compressed states (145 kB without the arguments that do not compress) and
1,052,093 bytes in all, which Argo refused. tests/kubeflow/test_size.py holds the estimate to these figures.
"""

import base64
import dataclasses
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

LIMIT = 1_048_576
"""Bytes that Argo accepts for a Workflow."""
TEMPLATES = 10_000
"""Bytes of the templates that Kubeflow puts into every Workflow."""
REPEATED = 8.66 / 8
"""States per task that were counted, over those that are built here: some pods were started again."""
STATE = 500
"""Bytes per task of compressed states that are not built here, such as messages and resource usage."""
RESULT = 300
"""Bytes per task outside specification and states: which pods have reported their results."""

RUN = "62977a3f-cfba-4e46-85be-146d494d4391"
WORKFLOW = "latentline-nbs54"
LAUNCHER = (
    "--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)",
    "--ml_pipeline_server_address", "ml-pipeline.kubeflow.svc.cluster.local",
    "--ml_pipeline_server_port", "8887",
    "--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local",
    "--mlmd_server_port", "8080", "--publish_logs", "true", "--",
)  # fmt: skip
"""Arguments of Kubeflow's launcher in every pod."""

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes of a Workflow whose tasks have all ended.

    Attributes:
      tasks: number of tasks.
      spec: of its specification.
      status: of its compressed node states and of what else Argo notes per task.
    """

    tasks: int
    spec: int
    status: int

    @property
    def total(self) -> int:
        """Return the bytes of the whole object."""
        return self.spec + self.status

    @property
    def fits(self) -> bool:
        """Whether Argo accepts the Workflow."""
        return self.total <= LIMIT


def estimate(pipeline: Document, platform: Document) -> Estimate:
    """Return the estimate for the two documents of a compiled pipeline."""
    tasks = _tasks(pipeline)
    states = {state["id"]: state for name in tasks for state in _states(name, pipeline, platform)}
    for name, component in _dags(pipeline).items():
        states |= {state["id"]: state for state in _driver_states(name, pipeline, component)}
    ordered = _json({key: states[key] for key in sorted(states)})  # as Argo does; copies end up far apart
    compressed = len(base64.b64encode(gzip.compress(ordered.encode(), mtime=0)))
    status = round(REPEATED * compressed) + (STATE + RESULT) * len(tasks)
    return Estimate(len(tasks), TEMPLATES + len(_json(_specification(pipeline, platform))), status)


def _specification(pipeline: Document, platform: Document) -> dict[str, Any]:
    """Return the arguments and the main template of the Workflow."""
    parameters = [{"name": "components-root", "value": _json(pipeline["root"])}]
    parameters += [
        {"name": f"components-{name}", "value": _json(component)}
        for name, component in _dags(pipeline).items()
    ]
    keys: dict[str, str] = {}
    for name, component in pipeline["components"].items():
        if "dag" in component:
            continue
        implementation = _container(pipeline, component)
        key = _hash(_json(component), _json(implementation))
        if key not in keys.values():
            parameters += [
                {"name": f"components-{key}", "value": _json(component)},
                {"name": f"implementations-{key}", "value": _json(implementation)},
            ]
        keys[name] = key
        parameters.append({"name": f"kubernetes-{name}", "value": _json(_settings(platform, component))})
    tasks = _tasks(pipeline)
    return {
        "arguments": parameters,
        "dag": [part for name in tasks for part in _parts(name, tasks[name], keys)],
    }


def _dags(pipeline: Document) -> dict[str, Any]:
    """Return the components that are DAGs of tasks, by name."""
    return {name: each for name, each in pipeline["components"].items() if "dag" in each}


def _tasks(pipeline: Document) -> dict[str, Any]:
    """Return the tasks that have a container, by name, whichever DAG they belong to."""
    dags = _dags(pipeline)
    levels = [pipeline["root"], *dags.values()]
    return {
        name: task
        for level in levels
        for name, task in level["dag"]["tasks"].items()
        if task["componentRef"]["name"] not in dags
    }


def _parts(name: str, task: Document, keys: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the driver and the executor of a task, as the main template of the Workflow names them."""
    component = task["componentRef"]["name"]
    given = {
        "component": f"{{{{workflow.parameters.components-{keys[component]}}}}}",
        "task": _json(task),
        "container": f"{{{{workflow.parameters.implementations-{keys[component]}}}}}",
        "task-name": name,
        "parent-dag-id": "{{inputs.parameters.parent-dag-id}}",
        "kubernetes-config": f"{{{{workflow.parameters.kubernetes-{component}}}}}",
    }
    waits = " && ".join(f"{other}.Succeeded" for other in task.get("dependentTasks", ()))
    yield {
        "name": f"{name}-driver",
        "template": "system-container-driver",
        "arguments": {"parameters": _parameters(given)},
        **({"depends": waits} if waits else {}),
    }
    passed = {
        key: f"{{{{tasks.{name}-driver.outputs.parameters.{key}}}}}"
        for key in ("pod-spec-patch", "cached-decision")
    }
    yield {
        "name": name,
        "template": "retry-system-container-executor",
        "depends": f"{name}-driver.Succeeded",
        "arguments": {"parameters": _parameters({**passed, **_retries(task)})},
    }


def _driver_states(name: str, pipeline: Document, component: Document) -> Iterator[dict[str, Any]]:
    """Yield the states of the driver of a DAG of tasks, which is given the whole of it."""
    given = _parameters({"component": _json(component), "task": name, "parent-dag-id": "1"})
    driver = f"{WORKFLOW}.root.{name}-driver"
    for node, kind in ((driver, "Retry"), (f"{driver}(0)", "Pod")):
        yield _state(node, kind, "system-dag-driver", given, {"exitCode": "0"})
    yield _state(f"{WORKFLOW}.root.{name}", "DAG", name, _parameters({"parent-dag-id": "1"}), {})


def _states(name: str, pipeline: Document, platform: Document) -> Iterator[dict[str, Any]]:
    """Yield the states of the six nodes that Argo keeps for a task; with retries each template has two."""
    task = _tasks(pipeline)[name]
    component = pipeline["components"][task["componentRef"]["name"]]
    implementation, settings = _container(pipeline, component), _settings(platform, component)
    patch = _pod(name, task, component, implementation, settings)
    asked = _parameters(
        {
            "component": _json(component),
            "task": _json(task),
            "container": _json(implementation),
            "task-name": name,
            "parent-dag-id": "1",
            "iteration-index": "-1",
            "kubernetes-config": _json(settings),
        }
    )
    decided = _parameters({"pod-spec-patch": patch, "cached-decision": "false", "condition": "true"})
    answered = {"parameters": decided, "exitCode": "0"}
    retries = _parameters(_retries(task))
    execution = [*_parameters({"pod-spec-patch": patch, "cached-decision": "false"}), *retries]
    container = [*_parameters({"pod-spec-patch": patch}), *retries]
    driver, executor = f"{WORKFLOW}.root.{name}-driver", f"{WORKFLOW}.root.{name}"
    inner = f"{executor}(0).executor"
    log = {
        "exitCode": "0",
        "artifacts": [{"name": "main-logs", "s3": {"key": f"artifacts/{WORKFLOW}/{inner}"}}],
    }
    yield _state(driver, "Retry", "system-container-driver", asked, answered)
    yield _state(f"{driver}(0)", "Pod", "system-container-driver", asked, answered)
    yield _state(executor, "Retry", "retry-system-container-executor", execution, {})
    yield _state(f"{executor}(0)", "DAG", "retry-system-container-executor", execution, {})
    yield _state(inner, "Retry", "retry-system-container-impl", container, {"exitCode": "0"})
    yield _state(f"{inner}(0)", "Pod", "retry-system-container-impl", container, log)


def _state(name: str, kind: str, template: str, inputs: Any, outputs: Any) -> dict[str, Any]:
    """Return the state of a node that succeeded, with times and numbers that depend on its name."""
    noise = _hash(name)
    times = [
        f"2026-11-25T{int(noise[at], 16):02}:{int(noise[at + 1 : at + 3], 16) % 60:02}:00Z" for at in (0, 3)
    ]
    return {
        "id": f"{WORKFLOW}-{int(noise[:8], 16)}",
        "name": name,
        "displayName": name.rpartition(".")[2],
        "type": kind,
        "templateName": template,
        "templateScope": f"local/{WORKFLOW}",
        "phase": "Succeeded",
        "boundaryID": f"{WORKFLOW}-{int(_hash(name.rpartition('.')[0])[:8], 16)}",
        "startedAt": times[0],
        "finishedAt": times[1],
        "progress": "1/1",
        "resourcesDuration": {"cpu": int(noise[8:10], 16), "memory": int(noise[10:13], 16)},
        "inputs": {"parameters": inputs},
        "outputs": outputs,
        "children": [f"{WORKFLOW}-{int(noise[13:21], 16)}"],
        **({"hostNodeName": "node-1"} if kind == "Pod" else {}),
    }


def _pod(name: str, task: Document, component: Document, implementation: Document, settings: Document) -> str:
    """Return the patch of a pod that the driver of a task hands to its executor."""
    values = {}
    for key, given in task.get("inputs", {}).get("parameters", {}).items():
        constant = str(given.get("runtimeValue", {}).get("constant", "/latentline/data/mnist"))
        values[key] = RUN if "{{" in constant else constant
    filled = []
    for argument in implementation.get("args", ()):
        for key, value in values.items():
            argument = argument.replace(f"{{{{$.inputs.parameters['{key}']}}}}", value)
        filled.append(argument)
    given = _json(
        {
            "inputs": {"parameterValues": values},
            "outputs": {"outputFile": "/tmp/kfp_outputs/output_metadata.json"},
        }
    )
    launcher = [
        *("/kfp-launcher/launch", "--pipeline_name", "latentline", "--run_id", RUN),
        *("--execution_id", str(int(_hash(name)[:2], 16)), "--executor_input", given),
        *("--component_spec", _json(component), *LAUNCHER),
    ]
    main = {
        "name": "main",
        "image": implementation.get("image", ""),
        "command": launcher,
        "args": [*implementation.get("command", ()), *filled],
        "env": [*implementation.get("env", ()), *settings.get("secretAsEnv", ())],
        "resources": implementation.get("resources", {}),
        "volumeMounts": settings.get("pvcMount", []),
    }
    rest = {key: settings[key] for key in ("nodeSelector", "tolerations", "pvcMount") if key in settings}
    return _json({"containers": [main], **rest})


def _retries(task: Document) -> dict[str, str]:
    policy = task.get("retryPolicy", {})
    return {
        f"retry-{ours}": str(policy[theirs]).removesuffix("s")
        for ours, theirs in (
            ("max-count", "maxRetryCount"),
            ("backoff-duration", "backoffDuration"),
            ("backoff-factor", "backoffFactor"),
            ("backoff-max-duration", "backoffMaxDuration"),
        )
        if theirs in policy
    }


def _container(pipeline: Document, component: Document) -> Document:
    found: Document = pipeline["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    return found


def _settings(platform: Document, component: Document) -> Document:
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found: Document = executors.get(component["executorLabel"], {})
    return found


def _parameters(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _hash(*texts: str) -> str:
    return hashlib.sha256("/".join(texts).encode()).hexdigest()
