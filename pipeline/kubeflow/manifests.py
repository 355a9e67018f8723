"""The objects that the pipeline needs in a cluster, with the image and the namespace of the cluster file."""

import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

from pipeline.config.cluster import Cluster

FOLDER = pathlib.Path(__file__).parents[2] / "kubeflow" / "manifests"
IMAGE = "latentline"
"""What stands for the project's image in the files."""
NAMESPACE = "kubeflow"
"""Where Kubeflow Pipelines keeps its runs where no profile has a namespace of its own."""


def rendered(cluster: Cluster, folder: pathlib.Path = FOLDER) -> str:
    """Return the objects of a folder's kustomization as YAML, for `kubectl apply --filename -`.

    A Job is named after its content: Kubernetes changes none, so another image has to be another Job.
    """
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    labels = kustomization["labels"][0]["pairs"]
    found = []
    for name in kustomization["resources"]:
        for item in yaml.safe_load_all((folder / name).read_text()):
            for container in _containers(item):
                if container["image"] == IMAGE:
                    container["image"] = cluster.image
            named = item["metadata"]
            named["namespace"] = cluster.endpoint.namespace or NAMESPACE
            named["labels"] = {**named.get("labels", {}), **labels}
            if item["kind"] == "Job":
                content = json.dumps(item["spec"], sort_keys=True).encode()
                named["name"] += f"-{hashlib.sha256(content).hexdigest()[:8]}"
            for subject in item.get("subjects", ()):
                subject["namespace"] = named["namespace"]
            found.append(item)
    return yaml.safe_dump_all(found, sort_keys=False)


def _containers(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the containers of an object that has a pod template."""
    pod = item.get("spec", {}).get("template", {}).get("spec", {})
    yield from pod.get("initContainers", ())
    yield from pod.get("containers", ())
