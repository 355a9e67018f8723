"""Write the tasks of a pipeline as a Kubeflow pipeline file, through Kubeflow's SDK.

The SDK makes a component and an executor for each task and caps how long a task may be retried at an hour.
Both are put right here: tasks with the same command share a component, and retries may go on for days. The
tasks of the run are put into a DAG of their own, as the SDK's ExitHandler does, so that the exit task runs
after them however they have ended.
"""

import contextlib
import dataclasses
import inspect
import json
import os
import pathlib
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from pipeline.config.cluster import Cluster, Pool, RunAs
from pipeline.config.errors import SettingsError
from pipeline.execution.shown import METRICS, PAGE, SUMMARY
from pipeline.kubeflow import size
from pipeline.kubeflow.tasks import FINISH, REPORT, TRAIN, VERDICT, Task, finish

COMMAND = ("python", "-m", "pipeline.node")
LAST_COMMAND = ("python", "-m", "pipeline.finish")
"""Command of the exit task."""
RUN = "run"
"""Task of the root whose DAG holds all tasks but the exit task; its component is `comp-run`."""
RUN_ID, NODES = "run_id", "nodes"
"""Input parameters of every task: the run's id, and the nodes to run, separated by commas."""
KINDS = {"STRING": str, "INT": int, "DOUBLE": float}
"""Types of runtime parameters: as TFX calls them, as Kubeflow takes them."""

MAX_ARGUMENT = 131_072
"""Bytes, one less of which Linux takes as a single argument (MAX_ARG_STRLEN)."""


class TooLarge(SettingsError):
    """The compiled pipeline is larger than Linux or Argo takes."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A runtime parameter of the pipeline: `type` is STRING, INT or DOUBLE."""

    name: str
    type: str
    default: str | int | float | None


@dataclasses.dataclass(frozen=True)
class Source:
    """The IR that the tasks run.

    Attributes:
      sha256: its digest.
      plan: text of the plan that it is compiled from.
      last: text of the plan with the hooks of the settings, for the exit task.
      workers: digests of the JobSets of workers, by name of the pool.
    """

    sha256: str
    plan: str
    last: str
    workers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written: bytes of the file, and the size that Argo's Workflow will have."""

    bytes: int
    workflow: size.Estimate


def write(
    name: str,
    tasks: Sequence[Task],
    parameters: Mapping[str, Sequence[Parameter]],
    source: Source,
    cluster: Cluster,
    output: str,
) -> Written:
    """Write the Kubeflow pipeline called `name`; parameters: node id -> its runtime parameters.

    Raises TooLarge, and leaves no file then.
    """
    documents = compiled(name, tasks, parameters, source, cluster)
    estimate = size.estimate(*documents)
    if not estimate.fits:
        raise TooLarge(
            f"the run would need about {estimate.total:,} bytes of Argo's Workflow "
            f"({estimate.spec:,} of specification, {estimate.status:,} of compressed status); Argo takes "
            f"{size.LIMIT:,}: split --variants over several pipelines, each with its own name in its settings"
        )
    text = yaml.safe_dump_all(documents, width=110)
    staging = pathlib.Path(f"{output}.part.yaml")
    try:
        staging.write_text(text)
        os.replace(staging, output)
    except OSError as error:
        raise SettingsError(f"cannot write {output}: {error.strerror}; give another --output") from error
    finally:
        with contextlib.suppress(OSError):
            staging.unlink(missing_ok=True)
    return Written(len(text.encode()), estimate)


def compiled(
    name: str,
    tasks: Sequence[Task],
    parameters: Mapping[str, Sequence[Parameter]],
    source: Source,
    cluster: Cluster,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two documents of the pipeline: its specification and its settings for Kubernetes."""
    from kfp import dsl

    own = {
        task.name: _merged([parameters[node] for node in task.nodes if node in parameters]) for task in tasks
    }
    everything = _merged(list(own.values()))
    names: dict[str, str] = {}

    def build(*values: Any) -> None:
        given = dict(zip([parameter.name for parameter in everything], values, strict=True))
        made: dict[str, Any] = {}
        for task in (*tasks, finish(tasks)):
            fixed = arguments(task, source, cluster)
            check_arguments(task.name, fixed)
            component = container(task.kind, cluster.image, fixed, own.get(task.name, []))
            step = component(
                **{RUN_ID: dsl.PIPELINE_JOB_ID_PLACEHOLDER},
                **({NODES: ",".join(task.nodes)} if task.nodes else {}),
                **{parameter.name: given[parameter.name] for parameter in own.get(task.name, [])},
            )
            step.after(*(made[other] for other in task.upstream))
            step.set_display_name(f"{task.kind} {task.line}".strip())
            step.set_caching_options(False)
            _place(step, machines(task, cluster))
            _equip(step, cluster)
            made[task.name] = step
            names[step.name] = task.name

    _signature(build, name, everything)
    with names_of_callers():
        pipeline = dsl.pipeline(name=name)(build)
    specification, platform = _documents(pipeline)
    _rename(specification, names)
    if cluster.run_as:
        _run_as(platform, cluster.run_as)
    everyone = [*tasks, finish(tasks)]
    _share_components(specification, platform, {task.name: task.kind for task in everyone})
    days = {task.name: cluster.pools[task.pool].retry.days for task in everyone}
    for key, step in specification["root"]["dag"]["tasks"].items():
        if policy := step.get("retryPolicy"):
            policy["backoffFactor"] = int(policy["backoffFactor"])
            policy["backoffMaxDuration"] = f"{days[key] * 86_400}s"
    _with_exit_task(specification)
    return specification, platform


@contextlib.contextmanager
def names_of_callers() -> Iterator[None]:
    """Let the SDK find the name of a calling method without reading the source of every frame below it.

    Each setting of a task calls inspect.stack() for a name that only an error message needs; that was nearly
    all of the time of a compilation.
    """
    from kfp.dsl import pipeline_task

    def stack() -> list[tuple[Any, str, int, str]]:
        frame: types.FrameType | None = sys._getframe(1)
        found = []
        while frame is not None:
            code = frame.f_code
            found.append((frame, code.co_filename, frame.f_lineno, code.co_name))
            frame = frame.f_back
        return found

    own = pipeline_task.inspect
    pipeline_task.inspect = types.SimpleNamespace(stack=stack)
    try:
        yield
    finally:
        pipeline_task.inspect = own


def steps(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return all tasks of a compiled pipeline by name, the exit task last."""
    root = specification["root"]["dag"]["tasks"]
    inner = specification["components"][root[RUN]["componentRef"]["name"]]["dag"]["tasks"]
    return {**inner, FINISH: root[FINISH]}


def arguments(task: Task, source: Source, cluster: Cluster) -> list[str]:
    """Return the arguments that a task's container has beside the run's id, its nodes and its parameters."""
    retry = cluster.pools[task.pool].retry
    if task.kind == FINISH:
        return [
            *("--plan", source.last, "--log-format", cluster.log_format),
            *(["--verbose"] if cluster.verbose else []),
        ]
    return [
        *("--ir-sha256", source.sha256, "--tfx-root", cluster.root, "--log-format", cluster.log_format),
        *("--attempts", str(retry.times + 1), "--wait", retry.wait),
        *(["--plan", source.plan] if task.first else []),
        *(["--workers", source.workers[task.pool]] if has_workers(task, cluster) else []),
        *(["--go-on"] if task.line else []),
        *(["--verdict"] if task.kind == VERDICT else []),
        *(["--kfp", "{{$}}"] if task.kind == REPORT else []),
        *(["--verbose"] if cluster.verbose else []),
    ]


def has_workers(task: Task, cluster: Cluster) -> bool:
    """Return whether the task has several pods train, and waits for them."""
    return task.kind == TRAIN and cluster.pools[task.pool].workers > 1


def machines(task: Task, cluster: Cluster) -> Pool:
    """Return what a task's own pod gets: a task that waits for workers needs no accelerator."""
    own = cluster.pools[task.pool]
    if not has_workers(task, cluster):
        return own
    return dataclasses.replace(
        cluster.pools[cluster.pool_of("Leaderboard")], accelerator=None, retry=own.retry
    )


def container(kind: str, image: str, fixed: Sequence[str], parameters: Sequence[Parameter]) -> Any:
    """Return the Kubeflow component of a kind of task, with `fixed` and the filled-in arguments."""
    from kfp import dsl

    def last(run_id: Any) -> Any:
        return dsl.ContainerSpec(image=image, command=list(LAST_COMMAND), args=[*fixed, "--run-id", run_id])

    if kind == FINISH:
        _signature(last, kind, [Parameter(RUN_ID, "STRING", None)])
        return dsl.container_component(last)

    def node(run_id: Any, nodes: Any, *values: Any) -> Any:
        given = [
            argument
            for parameter, value in zip(parameters, values[: len(parameters)], strict=True)
            for argument in ("--parameter", f"{parameter.name}={parameter.type}:{value}")
        ]
        return dsl.ContainerSpec(
            image=image,
            command=list(COMMAND),
            args=["--nodes", nodes, *fixed, "--run-id", run_id, *given],
        )

    needed = [dataclasses.replace(parameter, default=None) for parameter in parameters]
    fixed_inputs = [Parameter(RUN_ID, "STRING", None), Parameter(NODES, "STRING", None)]
    shown = {PAGE: dsl.HTML, SUMMARY: dsl.Markdown, METRICS: dsl.Metrics} if kind == REPORT else {}
    outputs = {name: dsl.Output[artifact] for name, artifact in shown.items()}
    _signature(node, kind, [*fixed_inputs, *needed], outputs)
    return dsl.container_component(node)


def runtime_parameters(node: Any) -> list[Parameter]:
    """Return the runtime parameters in a node's IR, sorted by name, without the run's id and root."""
    from tfx.dsl.compiler import constants
    from tfx.proto.orchestration import pipeline_pb2

    found = {}
    for value in node.parameters.parameters.values():
        if value.WhichOneof("value") == "runtime_parameter":
            own = value.runtime_parameter
            kind = pipeline_pb2.RuntimeParameter.Type.Name(own.type)
            given = own.default_value.WhichOneof("value")
            default = getattr(own.default_value, given) if given else None
            found[own.name] = Parameter(own.name, kind, default)
    for name in (constants.PIPELINE_RUN_ID_PARAMETER_NAME, constants.PIPELINE_ROOT_PARAMETER_NAME):
        found.pop(name, None)
    return [found[name] for name in sorted(found)]


def check_arguments(task: str, given: Sequence[str]) -> None:
    """Raise TooLarge if Linux would refuse one of the arguments of a task's container."""
    longest = max(len(argument.encode()) for argument in given)
    if longest >= MAX_ARGUMENT:
        raise TooLarge(
            f"an argument of {task} has {longest:,} bytes; Linux takes fewer than {MAX_ARGUMENT:,}: "
            "shorten the experiments of the settings"
        )


def metadata_environment(cluster: Cluster) -> Mapping[str, str]:
    """Return what pipeline.execution.node reads of its metadata store, without the password."""
    prefix = "LATENTLINE_METADATA_"
    if not cluster.metadata.mysql:
        return {f"{prefix}SQLITE": cluster.metadata.sqlite}
    server = cluster.metadata.mysql
    return {
        f"{prefix}HOST": server.host,
        f"{prefix}PORT": str(server.port),
        f"{prefix}DATABASE": server.database,
        f"{prefix}USER": server.user,
    }


def _merged(lists: Sequence[Sequence[Parameter]]) -> list[Parameter]:
    """Return each parameter once, by name."""
    found = {parameter.name: parameter for parameters in lists for parameter in parameters}
    return [found[name] for name in sorted(found)]


def _documents(pipeline: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the SDK makes of a pipeline: its specification and its settings for Kubernetes."""
    from google.protobuf import json_format

    made = pipeline.pipeline_spec, pipeline.platform_spec
    specification, platform = (json_format.MessageToDict(document) for document in made)
    return specification, platform


def _rename(specification: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give the tasks our names in place of the SDK's, which count: train-2."""
    dag = specification["root"]["dag"]
    renamed = {names[old]: step for old, step in dag["tasks"].items()}
    for step in renamed.values():
        if "dependentTasks" in step:
            step["dependentTasks"] = sorted(names[other] for other in step["dependentTasks"])
    dag["tasks"] = renamed


def _with_exit_task(specification: dict[str, Any]) -> None:
    """Put all tasks but the exit task into a DAG of their own, after which that one runs in any case."""
    root = specification["root"]
    inner = root["dag"]["tasks"]
    last = inner.pop(FINISH)
    given = root.get("inputDefinitions", {}).get("parameters", {})
    component = {
        "dag": {"tasks": inner},
        **(
            {
                "inputDefinitions": {
                    "parameters": {
                        name: {"parameterType": parameter["parameterType"]}
                        for name, parameter in given.items()
                    }
                }
            }
            if given
            else {}
        ),
    }
    specification["components"][f"comp-{RUN}"] = component
    inputs = {name: {"componentInputParameter": name} for name in given}
    root["dag"]["tasks"] = {
        RUN: {
            "componentRef": {"name": f"comp-{RUN}"},
            **({"inputs": {"parameters": inputs}} if inputs else {}),
            "taskInfo": {"name": RUN},
        },
        FINISH: {
            **last,
            "dependentTasks": [RUN],
            "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
        },
    }


def _run_as(platform: dict[str, Any], account: RunAs) -> None:
    """Set user and group of every task, for which the SDK that fits TFX has no function."""
    context = {"runAsUser": str(account.user), "runAsGroup": str(account.group), "runAsNonRoot": True}
    for settings in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        settings["securityContext"] = context


def _share_components(
    specification: dict[str, Any], platform: dict[str, Any], kinds: Mapping[str, str]
) -> None:
    """Leave one component and executor of those that differ in their number only; kinds: by task."""
    components, executors = specification["components"], specification["deploymentSpec"]["executors"]
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    shared: dict[str, str] = {}
    kept: dict[str, tuple[Any, Any, Any]] = {}
    for task, step in specification["root"]["dag"]["tasks"].items():
        component = dict(components[step["componentRef"]["name"]])
        label = component.pop("executorLabel")
        parts = component, executors[label], settings.get(label)
        essence = json.dumps(parts, sort_keys=True)
        if essence not in shared:
            count = sum(name.startswith(f"{kinds[task]}/") for name in kept) + 1
            shared[essence] = f"{kinds[task]}/{count}"
            kept[shared[essence]] = parts
        step["componentRef"]["name"] = f"comp-{_short(shared[essence])}"
    for documents in (components, executors, settings):
        documents.clear()
    for name, (component, executor, own) in kept.items():
        label = f"exec-{_short(name)}"
        components[f"comp-{_short(name)}"] = {**component, "executorLabel": label}
        executors[label] = executor
        if own is not None:
            settings[label] = own


def _short(numbered: str) -> str:
    """Return `train` for the first component of a kind, `train/1`, and `train-2` for the second."""
    kind, _, number = numbered.partition("/")
    return kind if number == "1" else f"{kind}-{number}"


def _signature(
    function: Any, name: str, parameters: Sequence[Parameter], outputs: Mapping[str, Any] | None = None
) -> None:
    """Give `function` the name and the signature that the SDK reads a component's inputs and outputs from."""
    inputs = [
        inspect.Parameter(
            parameter.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=KINDS[parameter.type],
            default=inspect.Parameter.empty if parameter.default is None else parameter.default,
        )
        for parameter in parameters
    ]
    given = [
        inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
        for key, annotation in (outputs or {}).items()
    ]
    function.__name__ = name
    function.__doc__ = None
    function.__signature__ = inspect.Signature([*inputs, *given])


def _place(task: Any, pool: Pool) -> None:
    """Give a task its resources, machines and retries."""
    from kfp import kubernetes

    task.set_cpu_request(pool.cpu).set_cpu_limit(pool.cpu)
    task.set_memory_request(pool.memory).set_memory_limit(pool.memory)
    if pool.accelerator:
        task.set_accelerator_type(pool.accelerator.type).set_accelerator_limit(pool.accelerator.count)
    for label, value in sorted(pool.node_selector.items()):
        kubernetes.add_node_selector(task, label, value)
    for toleration in pool.tolerations:
        kubernetes.add_toleration(
            task, toleration.key, toleration.operator, toleration.value or None, toleration.effect or None
        )
    if pool.retry.times:
        task.set_retry(pool.retry.times, backoff_duration=pool.retry.wait, backoff_factor=pool.retry.factor)


def _equip(task: Any, cluster: Cluster) -> None:
    """Give a task its volumes, environment and image settings."""
    from kfp import kubernetes

    for volume in cluster.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.mount)
    for variable, value in metadata_environment(cluster).items():
        task.set_env_variable(variable, value)
    secrets = dict(cluster.secrets)
    if cluster.metadata.mysql:
        secrets["LATENTLINE_METADATA_PASSWORD"] = cluster.metadata.mysql.password
    for variable, secret in sorted(secrets.items()):
        kubernetes.use_secret_as_env(task, secret.name, {secret.key: variable})
    kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
