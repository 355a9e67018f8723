"""One node's share of a compiled pipeline, as text that fits a command line.

TFX compiles a pipeline to an intermediate representation (IR). A container that runs one node needs of it
that node, the facts about the pipeline, and the node's executor and driver: a kilobyte or two, compressed.
Base64 has no braces and no dollar signs, so neither Kubeflow nor Kubernetes rewrites it on the way.
"""

import base64
import dataclasses
import gzip
import hashlib
import zlib

from google.protobuf import message
from tfx.proto.orchestration import pipeline_pb2


class BadIr(ValueError):
    """The text is not the IR of the node that was asked for."""


@dataclasses.dataclass(frozen=True)
class PackedIr:
    """A node's IR as text, and the sha256 of the bytes it stands for."""

    text: str
    sha256: str


def cut(pipeline: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.Pipeline:
    """The pipeline with node `node_id` alone, without metadata connection. Raises KeyError."""
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
    """The node called `node_id`. Raises KeyError."""
    for wrapped in pipeline.nodes:
        if wrapped.pipeline_node.node_info.id == node_id:
            return wrapped.pipeline_node
    raise KeyError(node_id)


def pack(pipeline: pipeline_pb2.Pipeline) -> PackedIr:
    """The IR as text; the same IR gives the same text."""
    data = pipeline.SerializeToString(deterministic=True)
    return PackedIr(
        base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode(),
        hashlib.sha256(data).hexdigest(),
    )


def unpack(packed: PackedIr) -> pipeline_pb2.Pipeline:
    """The IR that `pack` was given. Raises BadIr."""
    again = "compile the pipeline again and upload that"
    try:
        data = gzip.decompress(base64.b64decode(packed.text, validate=True))
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise BadIr(f"the IR is not gzip in base64 ({error}); {again}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != packed.sha256:
        raise BadIr(
            f"the IR has sha256 {found}, expected {packed.sha256!r}: it was changed on its way; {again}"
        )
    pipeline = pipeline_pb2.Pipeline()
    try:
        pipeline.ParseFromString(data)
    except message.DecodeError as error:
        raise BadIr(f"the IR is not a pipeline of TFX ({error}); {again}") from error
    return pipeline
