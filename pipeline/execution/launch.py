"""Runs one node of a compiled pipeline, through TFX's portable launcher."""

from typing import Any

from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher
from tfx.proto.orchestration import pipeline_pb2


def launch(pipeline: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode, connection: Any) -> int:
    """Run `node` against the metadata store at `connection`; the execution's id, 0 if a condition was false.

    Raises whatever the component raises. What became of the execution, pipeline.execution.outcome tells.
    """
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    name = node.node_info.id
    execution = launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection),
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, name),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
    ).launch()
    return int(execution.execution_id or 0)
