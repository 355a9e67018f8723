"""Parses a compiled pipeline as strictly as the newest Kubeflow does.

    python -m venv .check && .check/bin/pip install -r kubeflow/check/requirements.txt
    .check/bin/python kubeflow/check/strict.py pipeline.yaml

The environment is its own, since the newest SDK needs a newer protobuf than TFX takes. A field that the
newest protos do not know is an error, and so is what the newest SDK cannot load. Exits 0 or 1.
"""

import importlib.metadata
import sys

import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2


def main() -> None:
    """Entry point: the pipeline files are the arguments."""
    for path in sys.argv[1:]:
        try:
            tasks, executors = check(path)
        except (OSError, ValueError, yaml.YAMLError, json_format.ParseError) as error:
            sys.exit(f"{path}: {error}")
        print(f"{path}: {tasks} tasks, platform settings of {executors} executors, {versions()}: good")


def check(path: str) -> tuple[int, int]:
    """The numbers of tasks and of executors with platform settings. Raises what the parsers raise."""
    with open(path) as file:
        specification, *platforms = yaml.safe_load_all(file)
    pipeline = json_format.ParseDict(specification, pipeline_spec_pb2.PipelineSpec())
    executors = 0
    for document in platforms:
        json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
        for settings in document["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            json_format.ParseDict(settings, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
            executors += 1
    components.load_component_from_file(path)
    dags = [pipeline.root.dag, *(each.dag for each in pipeline.components.values() if each.HasField("dag"))]
    own = {name for name, each in pipeline.components.items() if each.HasField("dag")}
    tasks = [task for dag in dags for task in dag.tasks.values() if task.component_ref.name not in own]
    return len(tasks), executors


def versions() -> str:
    """The packages that did the parsing."""
    names = ("kfp", "kfp-kubernetes", "kfp-pipeline-spec", "protobuf")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


if __name__ == "__main__":
    main()
