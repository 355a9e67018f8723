"""AtomicPusher: TFX's Pusher, except that a model server never sees half a model."""

import contextlib
import logging
import os
import shutil
from collections.abc import Collection
from typing import Any

from tfx import types
from tfx.components.evaluator import constants as evaluator
from tfx.components.pusher import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, json_utils, proto_utils

from components.serving import versions
from components.serving.publication import REMOVED, hide, publish
from components.serving.pushed import mark

BASELINE = evaluator.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY
KEEP = "keep"
"""Key of the Pusher's custom_config: how many versions stay after a push, the newest; 0: all."""

ANCHORS = "anchors"
"""Custom property of a blessing: names of the artifacts that nights are measured from, one per line.

Their versions stay, so that an anchor whose artifact is damaged can be restored.
"""

log = logging.getLogger(__name__)


class StaleVerdict(RuntimeError):
    """A blessing that is void, since it was won against a model that no longer serves."""


class Executor(executor.Executor):
    """Pushes a blessed model, unless somebody rolled back from it or its verdict is void."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Push `model` to exec_properties["push_destination"] if `model_blessing` allows it.

        Raises NotPublishable for a damaged model and StaleVerdict.
        """
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = destination.filesystem.base_directory
        model = artifact_utils.get_single_instance(input_dict["model"])
        if not self.CheckBlessing(input_dict):
            log.info("not pushed: the model was not blessed")
            self._MarkNotPushed(pushed)
            return
        if versions.artifact_name(model.uri) in versions.withdrawn(base):
            log.warning("%s is not pushed: somebody rolled back from it; only `promote` pushes it", model.uri)
            self._MarkNotPushed(pushed)
            return
        blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
        check_current(base, model.uri, blessing.get_string_custom_property(BASELINE))
        version = publish(self.GetModelPath(input_dict), base, source=model.uri)
        retain(base, _keep(exec_properties), blessing.get_string_custom_property(ANCHORS).split("\n"))
        io_utils.copy_dir(self.GetModelPath(input_dict), pushed.uri)
        mark(pushed, os.path.join(base, str(version)), version)
        log.info("pushed version %d of %s", version, model.uri)


def check_current(base_directory: str, model: str, baseline: str) -> None:
    """Raise StaleVerdict unless the artifact `baseline`, empty for none, or the model itself serves."""
    numbers = versions.published(base_directory)
    serves = versions.source(base_directory, numbers[-1]) if numbers else ""
    if versions.same_artifact(serves, model) or versions.same_artifact(serves, baseline):
        return
    if serves or baseline:
        raise StaleVerdict(
            f"the verdict on {model} is void: it was compared with {baseline or 'no model'}, and "
            f"{serves or 'no model'} serves now; run again, and it is compared with that"
        )


def _keep(exec_properties: dict[str, Any]) -> int:
    config = json_utils.loads(exec_properties.get("custom_config") or "null")
    return int((config or {}).get(KEEP, 0))


class AtomicPusher(component.Pusher):
    """Pushes a blessed model to `<base_directory>/<version>`, versions ascending, and removes the oldest.

    Input: `model` and its `model_blessing`; custom_config[KEEP]. Output: `pushed_model`.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)


def retain(base_directory: str, keep: int, spared: Collection[str] = ()) -> list[int]:
    """Remove all versions but the newest `keep`, 0 for none of them; those that were removed, ascending.

    spared: names of artifacts whose first copy stays. A version is renamed to a hidden name first, so that a
    model server never sees half of it. What an earlier removal left when it was broken off goes too.
    """
    numbers = versions.published(base_directory) if keep else []
    names = [versions.artifact_name(versions.source(base_directory, number)) for number in numbers]
    first = {names.index(name) for name in spared if name in names}
    surplus = [number for index, number in enumerate(numbers[:-keep]) if index not in first]
    for version in surplus:
        with contextlib.suppress(FileNotFoundError):  # another run on the cluster was faster
            hide(base_directory, version)
    for name in os.listdir(base_directory):
        if name.startswith(REMOVED):
            shutil.rmtree(os.path.join(base_directory, name), ignore_errors=True)
    return surplus
