"""The compiled pipeline (IR) as a file under its digest, and one node's share of it.

TFX compiles a pipeline to an intermediate representation. On a cluster it is written once, under the pipeline
root and named by its sha256; each container reads it there, checks it against the digest in its arguments,
and cuts out the nodes that it runs.
"""

import hashlib
import os
import posixpath

from google.protobuf import message
from tfx.dsl.io import fileio
from tfx.proto.orchestration import pipeline_pb2

FOLDER = ".ir"
"""Folder of the files, below the pipeline root; no node is called so."""


class BadIr(ValueError):
    """The file is missing, or is not the IR that was compiled."""


def content(pipeline: pipeline_pb2.Pipeline) -> bytes:
    """Return the IR as bytes; the same IR gives the same bytes."""
    return bytes(pipeline.SerializeToString(deterministic=True))


def digest(pipeline: pipeline_pb2.Pipeline) -> str:
    """Return the sha256 of the IR's bytes, in hexadecimal."""
    return hashlib.sha256(content(pipeline)).hexdigest()


def path(root: str, sha256: str, kind: str = "pb") -> str:
    """Return the place of what has the given digest below a pipeline root; kind: end of the file's name."""
    return posixpath.join(root, FOLDER, f"{sha256}.{kind}")


def keep(root: str, data: bytes, kind: str) -> str:
    """Write bytes below the pipeline root and return their digest; a whole file or none appears.

    Several processes may write the same file at the same time: each writes the same bytes.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    target = path(root, sha256, kind)
    fileio.makedirs(posixpath.join(root, FOLDER))
    unfinished = f"{target}.{os.uname().nodename}-{os.getpid()}"
    with fileio.open(unfinished, "wb") as file:
        file.write(data)
    fileio.rename(unfinished, target, overwrite=True)
    return sha256


def kept(root: str, sha256: str, kind: str) -> bytes | None:
    """Return the bytes with the given digest, None where they were not written yet. Raises BadIr."""
    place = path(root, sha256, kind)
    if not fileio.exists(place):
        return None
    with fileio.open(place, "rb") as file:
        data = bytes(file.read())
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadIr(
            f"the file {place} has the sha256 {found}, expected {sha256}: it is damaged; remove it and retry "
            "the run, whose first task writes it again"
        )
    return data


def write(root: str, pipeline: pipeline_pb2.Pipeline) -> str:
    """Write the IR below the pipeline root and return its digest."""
    return keep(root, content(pipeline), "pb")


def read(root: str, sha256: str) -> pipeline_pb2.Pipeline | None:
    """Return the IR with the given digest, None where it was not written yet. Raises BadIr."""
    data = kept(root, sha256, "pb")
    if data is None:
        return None
    pipeline = pipeline_pb2.Pipeline()
    try:
        pipeline.ParseFromString(data)
    except message.DecodeError as error:
        raise BadIr(
            f"the file {path(root, sha256)} is not a pipeline of TFX ({error}); compile and upload again"
        ) from error
    return pipeline


def cut(pipeline: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.Pipeline:
    """Return the pipeline with node `node_id` alone, without metadata connection. Raises KeyError."""
    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    pipeline.deployment_config.Unpack(deployment)
    own = pipeline_pb2.IntermediateDeploymentConfig()
    for field in ("executor_specs", "custom_driver_specs", "node_level_platform_configs"):
        if node_id in getattr(deployment, field):
            getattr(own, field)[node_id].CopyFrom(getattr(deployment, field)[node_id])
    result = pipeline_pb2.Pipeline(
        pipeline_info=pipeline.pipeline_info,
        nodes=[pipeline_pb2.Pipeline.PipelineOrNode(pipeline_node=node_of(pipeline, node_id))],
        runtime_spec=pipeline.runtime_spec,
        execution_mode=pipeline.execution_mode,
    )
    result.deployment_config.Pack(own, deterministic=True)
    return result


def node_of(pipeline: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.PipelineNode:
    """Return the node called `node_id`. Raises KeyError."""
    for wrapped in pipeline.nodes:
        if wrapped.pipeline_node.node_info.id == node_id:
            return wrapped.pipeline_node
    raise KeyError(node_id)
