"""Runs one node of a compiled pipeline, through TFX's portable launcher."""

import contextlib
import os
from typing import Any

from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import beam_executor_operator, launcher
from tfx.proto.orchestration import pipeline_pb2

from components.serving import manifests
from pipeline.execution import cache_key, staging
from pipeline.home import metadata


class DurableLauncher(launcher.Launcher):
    """TFX's launcher, except that outputs are on disk and have manifests before the store counts on them.

    A power loss between the two leaves an execution without an end, which the next run does again; the other
    way round it would leave a result that is taken from the cache for ever, without its files. A job of Beam
    that leaves this process takes the project's code along.
    """

    def _run_executor(self, execution_info: Any) -> Any:
        operator = self._executor_operator
        with contextlib.ExitStack() as stack:
            if isinstance(operator, beam_executor_operator.BeamExecutorOperator):
                stack.enter_context(staging.equipped(operator.beam_pipeline_args))
            return super()._run_executor(execution_info)

    def _publish_successful_execution(
        self, execution_id: int, contexts: Any, output_dict: Any, executor_output: Any
    ) -> None:
        for artifacts in output_dict.values():
            for artifact in artifacts:
                if "://" not in artifact.uri and os.path.isdir(artifact.uri):
                    manifests.write(artifact.uri)
        super()._publish_successful_execution(execution_id, contexts, output_dict, executor_output)


def launch(
    pipeline: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode, connection: Any, operators: Any = None
) -> int:
    """Run `node` against the metadata store of a connection or handle; the execution's id, 0 if skipped.

    operators: of executors, where others than TFX's own do the work. Raises whatever the component raises.
    What became of the execution, pipeline.execution.outcome tells.
    """
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    name = node.node_info.id
    handle = metadata.handle(connection)
    ready = DurableLauncher(
        pipeline_node=node,
        mlmd_connection=handle,
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, name),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        custom_executor_operators=operators,
    )
    with cache_key.independent_of(os.path.dirname(handle.connection_config.sqlite.filename_uri)):
        execution = ready.launch()
    return int(execution.execution_id or 0)
