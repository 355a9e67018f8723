"""Compiles the pipeline for Kubeflow Pipelines v2.

    python kubeflow/compile.py --output pipeline.yaml --variants cvae,mlp --profile full

Every node of TFX's becomes a task that runs `python -m pipeline.node` in the project's image, with the node's
share of the pipeline in its arguments. The same input gives the same bytes. Upload the result with deploy.py.
"""

import argparse
import collections
import dataclasses
import inspect
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pipeline.config.cluster import Cluster, Pool
from pipeline.config.errors import SettingsError
from pipeline.config.settings import Settings

CLUSTER_FILE = str(pathlib.Path(__file__).parents[2] / "kubeflow" / "cluster.yaml")
COMMAND = ("python", "-m", "pipeline.node")
RUN_ID = "run_id"
KINDS = {"STRING": str, "INT": int, "DOUBLE": float}
"""Types of runtime parameters: as TFX calls them, as Kubeflow takes them."""

MAX_ARGUMENT = 131_072
"""Bytes, one less of which Linux takes as a single argument (MAX_ARG_STRLEN)."""
MAX_OBJECT = 1_000_000
"""Bytes; a Kubernetes object must stay below about 1 MiB, and Argo's workflow holds the whole pipeline."""


class TooLarge(SettingsError):
    """The compiled pipeline is larger than Linux or Kubernetes takes."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A runtime parameter of the pipeline: `type` is STRING, INT or DOUBLE."""

    name: str
    type: str
    default: str | int | float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits 2, with a line that says why, when the request was wrong."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is first imported
    started = time.perf_counter()
    try:
        settings = _settings(options)
        cluster = with_data_of(settings, Cluster.from_file(options.cluster))
        nodes = compile_to(options.output, settings, cluster)
    except SettingsError as error:
        print(f"compile.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    if left_out := without_effect(settings):
        print(f"compile.py: without effect on Kubeflow: {left_out} of the settings", file=sys.stderr)
    if options.models_config:
        text = models_config(settings.variants, cluster.serving)
        pathlib.Path(options.models_config).write_text(text)
    seconds = time.perf_counter() - started
    size = os.path.getsize(options.output)
    print(
        f"{options.output}: {len(nodes)} tasks, {size:,} of {MAX_OBJECT:,} bytes, compiled in {seconds:.1f} s"
    )
    for pool in sorted(set(nodes.values())):
        members = [node for node, chosen in nodes.items() if chosen == pool]
        print(f"  {pool:<6} {len(members):>3}  {', '.join(summary(members))}")


def with_data_of(settings: Settings, cluster: Cluster) -> Cluster:
    """The cluster with the folder that is the `data` of the settings, if one is. Raises SettingsError."""
    if settings.serving_data:
        try:
            cluster.check_reach("serving_data", settings.serving_data)
        except ValueError as error:
            raise SettingsError(str(error)) from error
    if settings.data in ("auto", "mnist"):
        return cluster
    folder = settings.data.rstrip("/")
    return cluster.with_data(os.path.basename(folder), folder)


def without_effect(settings: Settings) -> str:
    """Names of settings that were given and that only a run on one machine heeds."""
    plain = type(settings)()
    return " and ".join(
        name for name in ("notify", "mlflow", "keep_runs") if getattr(settings, name) != getattr(plain, name)
    )


def models_config(variants: Sequence[str], serving: str) -> str:
    """What tells TensorFlow Serving where each variant's pushed versions are."""
    entries = [
        f'  config {{\n    name: "{name}"\n    base_path: "{os.path.join(serving, name)}"\n'
        '    model_platform: "tensorflow"\n  }\n'
        for name in variants
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def summary(nodes: Sequence[str]) -> list[str]:
    """The nodes' names, those of one kind and several variants as one: Trainer.* x 3."""
    kinds = collections.Counter(node.partition(".")[0] for node in nodes)
    singles = {node.partition(".")[0]: node for node in nodes}
    return [f"{kind}.* x {count}" if count > 1 else singles[kind] for kind, count in kinds.items()]


def compile_to(output: str, settings: Settings, cluster: Cluster) -> dict[str, str]:
    """Write the pipeline of `settings` for `cluster` to `output`; node id -> name of its pool.

    Raises SettingsError, TooLarge among them, and leaves no file then.
    """
    return write(intermediate(settings, cluster), cluster, output)


def intermediate(settings: Settings, cluster: Cluster) -> Any:
    """TFX's representation (IR) of the pipeline of `settings`, with the places of `cluster`."""
    from tfx.dsl.compiler import compiler
    from tfx.orchestration.data_types import RuntimeParameter

    from components.ingest.sources import Dataset
    from pipeline.dag.target import Target
    from pipeline.pipeline import create_pipeline

    folder = RuntimeParameter(name="data", ptype=str, default=cluster.data.folder)
    dataset = Dataset(cluster.data.name, cast(str, folder))
    target = Target(
        root=cluster.root,
        serving=cluster.serving,
        schema=os.path.join(cluster.code, "schemas", "schema.pbtxt"),
        beam=cluster.beam,
    )
    return compiler.Compiler().compile(create_pipeline(settings, dataset, target))


def write(ir: Any, cluster: Cluster, output: str) -> dict[str, str]:
    """Write the Kubeflow pipeline of a TFX IR; node id -> name of its pool. Raises TooLarge."""
    from kfp import compiler, dsl

    from pipeline.dag import ir as node_ir

    names = [wrapped.pipeline_node.node_info.id for wrapped in ir.nodes]
    parameters = {name: runtime_parameters(node_ir.node_of(ir, name)) for name in names}
    everything = {parameter.name: parameter for own in parameters.values() for parameter in own}

    def build(*values: Any) -> None:
        given = dict(zip(everything, values, strict=True))
        tasks: dict[str, Any] = {}
        for name in names:
            packed = node_ir.pack(node_ir.cut(ir, name))
            fixed = [
                *("--node-id", name, "--ir", packed.text, "--ir-sha256", packed.sha256),
                *("--tfx-root", cluster.root, "--log-format", cluster.log_format),
                *(["--verbose"] if cluster.verbose else []),
            ]
            check_arguments(name, fixed)
            component = container(cluster.image, fixed, parameters[name])
            own = {parameter.name: given[parameter.name] for parameter in parameters[name]}
            task = component(**{RUN_ID: dsl.PIPELINE_JOB_ID_PLACEHOLDER}, **own)
            upstream = node_ir.node_of(ir, name).upstream_nodes
            task.after(*(tasks[other] for other in upstream if other in tasks))
            task.set_display_name(name)
            task.set_caching_options(False)
            _place(task, cluster.pools[cluster.pool_of(name)])
            _equip(task, cluster)
            tasks[name] = task

    _signature(build, ir.pipeline_info.id, list(everything.values()))
    staging = f"{output}.part.yaml"
    try:
        compiler.Compiler().compile(dsl.pipeline(name=ir.pipeline_info.id)(build), staging)
        check_size(os.path.getsize(staging))
        os.replace(staging, output)
    finally:
        pathlib.Path(staging).unlink(missing_ok=True)
    return {name: cluster.pool_of(name) for name in names}


def container(image: str, fixed: Sequence[str], parameters: Sequence[Parameter]) -> Any:
    """The Kubeflow component that runs a node with the `fixed` arguments, the run's id and its parameters."""
    from kfp import dsl

    def node(run_id: Any, *values: Any) -> Any:
        given = [
            argument
            for parameter, value in zip(parameters, values, strict=True)
            for argument in ("--parameter", f"{parameter.name}={parameter.type}:{value}")
        ]
        return dsl.ContainerSpec(
            image=image, command=list(COMMAND), args=[*fixed, "--run-id", run_id, *given]
        )

    needed = [dataclasses.replace(parameter, default=None) for parameter in parameters]
    name = fixed[fixed.index("--node-id") + 1]
    _signature(node, name, [Parameter(RUN_ID, "STRING", None), *needed])
    return dsl.container_component(node)


def runtime_parameters(node: Any) -> list[Parameter]:
    """The runtime parameters in a node's IR, sorted by name, without the run's id and root."""
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


def check_arguments(node: str, arguments: Sequence[str]) -> None:
    """Raise TooLarge if Linux would refuse one of the arguments of a node's container."""
    longest = max(len(argument.encode()) for argument in arguments)
    if longest >= MAX_ARGUMENT:
        raise TooLarge(
            f"an argument of {node} has {longest:,} bytes; Linux takes fewer than {MAX_ARGUMENT:,}: "
            "shorten what the settings put into this node (overrides)"
        )


def check_size(size: int) -> None:
    """Raise TooLarge if a pipeline of `size` bytes does not fit a Kubernetes object."""
    if size > MAX_OBJECT:
        raise TooLarge(
            f"the pipeline has {size:,} bytes; Kubernetes takes about {MAX_OBJECT:,}: "
            "split --variants over several pipelines, each with a name of its own in its settings"
        )


def _signature(function: Any, name: str, parameters: Sequence[Parameter]) -> None:
    """Give `function` the name and the signature that the SDK reads a component's inputs from."""
    empty = inspect.Parameter.empty
    function.__name__ = name
    function.__doc__ = None
    function.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                parameter.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                annotation=KINDS[parameter.type],
                default=empty if parameter.default is None else parameter.default,
            )
            for parameter in parameters
        ]
    )


def _place(task: Any, pool: Pool) -> None:
    """Resources, machines and retries of a task."""
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
    """Volumes, environment and image settings of a task."""
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


def metadata_environment(cluster: Cluster) -> Mapping[str, str]:
    """What pipeline.execution.node reads of its metadata store from the environment, without the password."""
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


def _settings(options: argparse.Namespace) -> Settings:
    chosen = {"variants": options.variants, "profile": options.profile}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = Settings.from_file(options.settings) if options.settings else Settings()
    return dataclasses.replace(settings, **given)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compile.py", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument("--output", required=True, help="file to write, .yaml")
    parser.add_argument("--settings", help="YAML file of settings, as for `latentline run`")
    parser.add_argument("--cluster", default=CLUSTER_FILE, help="default: %(default)s")
    parser.add_argument(
        "--models-config", metavar="FILE", help="write TensorFlow Serving's list of the pushed models too"
    )
    parser.add_argument("--variants", type=_names, help="names, separated by commas (default: all)")
    parser.add_argument("--profile", help="training budget: smoke, quick or full")
    return parser


if __name__ == "__main__":
    main()
