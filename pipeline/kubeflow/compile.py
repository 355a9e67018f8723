"""Compile the pipeline for Kubeflow Pipelines v2.

    python kubeflow/compile.py --output pipeline.yaml --variants cvae,mlp --profile full

Each task runs some nodes of the pipeline with `python -m pipeline.node` in the project's image. The same
input gives the same bytes. Upload the result with deploy.py.
"""

import argparse
import collections
import dataclasses
import hashlib
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pipeline.config.cluster import Cluster
from pipeline.config.errors import SettingsError
from pipeline.config.settings import SOURCES, Settings
from pipeline.kubeflow.tasks import Task
from trainer import variants
from trainer.devices import quiet

CLUSTER_FILE = str(pathlib.Path(__file__).parents[2] / "kubeflow" / "cluster.yaml")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What compile.py made: its tasks, and what was written."""

    tasks: Sequence[Task]
    written: Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits 2, with a line that says why, when the request was wrong."""
    quiet.libraries()
    options = _parser().parse_args(arguments)
    started = time.perf_counter()
    try:
        settings = _settings(options)
        cluster = with_data_of(settings, Cluster.from_file(options.cluster))
        _check_writable(options.output)
        check_hooks(settings, cluster)
        made = compile_to(options.output, settings, cluster)
        if options.models_config:
            write_models_config(options.models_config, settings.endpoints, cluster.serving)
    except SettingsError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"cannot write {error.filename or options.output} ({error.strerror}); give another --output")
    if ignored := without_effect(settings):
        print(f"compile.py: without effect on Kubeflow: {ignored} of the settings", file=sys.stderr)
    print("\n".join(described(options.output, made, time.perf_counter() - started)))


def _fail(message: str) -> NoReturn:
    print(f"compile.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def _check_writable(output: str) -> None:
    """Raise SettingsError if a file cannot be made at `output`, before the seconds that compiling takes."""
    folder = pathlib.Path(output).absolute().parent
    if not folder.is_dir():
        raise SettingsError(
            f"cannot write {output}: there is no folder {folder}; make it, or give another --output"
        )
    if not os.access(folder, os.W_OK):
        raise SettingsError(f"cannot write {output}: {folder} may not be written to; give another --output")


def described(output: str, made: Compiled, seconds: float) -> list[str]:
    """Return what there is to say about a compiled pipeline, one line per entry."""
    from pipeline.kubeflow import size
    from pipeline.kubeflow.tasks import longest_chain

    workflow = made.written.workflow
    nodes = {node for task in made.tasks for node in task.nodes}
    lines = [
        f"{output}: {len(made.tasks)} tasks for {len(nodes)} nodes, {longest_chain(made.tasks)} in a row, "
        f"{made.written.bytes:,} bytes, compiled in {seconds:.1f} s",
        f"  Argo's Workflow will have about {workflow.total:,} of {size.LIMIT:,} bytes "
        f"({workflow.spec:,} of specification, {workflow.status:,} of compressed status)",
    ]
    for pool in sorted({task.pool for task in made.tasks}):
        members = [*dict.fromkeys(node for task in made.tasks if task.pool == pool for node in task.nodes)]
        count = sum(task.pool == pool for task in made.tasks)
        lines.append(f"  {pool:<6} {count:>3}  {', '.join(summary(members))}")
    return lines


def with_data_of(settings: Settings, cluster: Cluster) -> Cluster:
    """Return the cluster with the `data` of the settings, where that is a folder. Raises SettingsError."""
    if settings.serving_data:
        try:
            cluster.check_reach("serving_data", settings.serving_data)
        except ValueError as error:
            raise SettingsError(str(error)) from error
    if settings.data in SOURCES:
        return cluster
    folder = settings.data.rstrip("/")
    return cluster.with_data(settings.dataset or os.path.basename(folder), folder)


def check_hooks(settings: Settings, cluster: Cluster) -> None:
    """Raise SettingsError for a webhook whose URL whoever reads the pipeline could read."""
    webhook = settings.notify.webhook
    if webhook and not webhook.startswith("$"):
        raise SettingsError(
            "notify.webhook must be $NAME on a cluster, since whoever sees the pipeline could read its URL; "
            "put the URL into a Secret, and name that under secrets in the cluster file"
        )
    if webhook and webhook[1:] not in cluster.secrets:
        raise SettingsError(
            f"notify.webhook names {webhook}, which secrets in the cluster file does not bring; "
            f"there is {', '.join(cluster.secrets) or 'none'}"
        )


def check_workers(settings: Settings, cluster: Cluster) -> None:
    """Raise SettingsError for a batch that cannot be split evenly over the workers that train on it."""
    for name, pool in cluster.pools.items():
        if pool.workers == 1:
            continue
        uneven = []
        for trial in settings.trials:
            batch = variants.load(trial.variant).recipe.with_overrides(trial.recipe).batch_size
            if cluster.pool_of(f"Trainer.{trial.name}") == name and batch % pool.replicas:
                uneven.append(f"{trial.name} ({batch})")
        if uneven:
            raise SettingsError(
                f"the batches of {', '.join(uneven)} cannot be split evenly over the {pool.replicas} devices "
                f"of the {pool.workers} workers in pools.{name}; set batch_size in their recipes, change "
                "workers, or send these trainers to another pool"
            )


def without_effect(settings: Settings) -> str:
    """Return the names of settings that were given and have an effect on one machine only."""
    plain = type(settings)()
    return " and ".join(
        name for name in ("mlflow", "keep_runs") if getattr(settings, name) != getattr(plain, name)
    )


def write_models_config(path: str, names: Sequence[str], serving: str) -> None:
    """Write the file that tells TensorFlow Serving where the models are. Raises SettingsError."""
    try:
        pathlib.Path(path).write_text(models_config(names, serving))
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; give another --models-config") from error


def models_config(names: Sequence[str], serving: str) -> str:
    """Return what tells TensorFlow Serving where the pushed versions of each of the served names are."""
    entries = [
        f'  config {{\n    name: "{name}"\n    base_path: "{os.path.join(serving, name)}"\n'
        '    model_platform: "tensorflow"\n  }\n'
        for name in names
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def summary(nodes: Sequence[str]) -> list[str]:
    """Return the names of nodes, those of one kind and several variants as one: Trainer.* x 3."""
    kinds = collections.Counter(node.partition(".")[0] for node in nodes)
    singles = {node.partition(".")[0]: node for node in nodes}
    return [f"{kind}.* x {count}" if count > 1 else singles[kind] for kind, count in kinds.items()]


def compile_to(output: str, settings: Settings, cluster: Cluster) -> Compiled:
    """Write the pipeline of `settings` for `cluster` to `output`.

    Raises SettingsError, TooLarge among them, and leaves no file then.
    """
    from pipeline.dag import ir
    from pipeline.execution.plan import Plan
    from pipeline.kubeflow import emit, pods

    check_workers(settings, cluster)
    plan = dataclasses.replace(Plan.of(settings, cluster), workers=pods.workers(cluster))
    intermediate = plan.intermediate()
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in plan.workers.items()}
    source = emit.Source(ir.digest(intermediate), plan.text(), plan.text(hooks=True), digests)
    return write(intermediate, source, cluster, output)


def write(intermediate: Any, source: Any, cluster: Cluster, output: str) -> Compiled:
    """Write the Kubeflow pipeline of a TFX IR. Raises TooLarge."""
    from pipeline.kubeflow import emit
    from pipeline.kubeflow.tasks import divided, finish, with_verdict

    nodes = {wrapped.pipeline_node.node_info.id: wrapped.pipeline_node for wrapped in intermediate.nodes}
    upstream: Mapping[str, Sequence[str]] = {name: list(node.upstream_nodes) for name, node in nodes.items()}
    tasks = with_verdict(divided(upstream, cluster.pool_of))
    parameters = {name: emit.runtime_parameters(node) for name, node in nodes.items()}
    written = emit.write(intermediate.pipeline_info.id, tasks, parameters, source, cluster, output)
    return Compiled([*tasks, finish(tasks)], written)


def _settings(options: argparse.Namespace) -> Settings:
    chosen = {"variants": options.variants, "profile": options.profile}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = Settings.from_file(options.settings) if options.settings else Settings()
    return dataclasses.replace(settings, **given)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not names:
        raise argparse.ArgumentTypeError("expected names of variants; leave the option out for all")
    return names


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
