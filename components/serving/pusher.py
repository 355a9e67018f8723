"""AtomicPusher: TFX's Pusher, except that a model server never sees half a model."""

import contextlib
import logging
import os
import shutil
import time
import uuid
from typing import Any

from tfx import types
from tfx.components.pusher import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, json_utils, proto_utils

from components.serving.pushed import mark
from components.serving.versions import SOURCE, published
from components.serving.versions import source as source_of

KEEP = "keep"
"""Key of the Pusher's custom_config: how many versions stay after a push, the newest; 0: all."""
REMOVED = ".removed-"
"""How the hidden name of a version begins that is being removed."""

log = logging.getLogger(__name__)


class Executor(executor.Executor):
    """Copies a blessed model beside the versions and renames it into place."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Push `model` to exec_properties["push_destination"] if `model_blessing` allows it."""
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            log.info("not pushed: the model was not blessed")
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        model = artifact_utils.get_single_instance(input_dict["model"])
        version = push(self.GetModelPath(input_dict), destination.filesystem.base_directory, source=model.uri)
        retain(destination.filesystem.base_directory, _keep(exec_properties))
        io_utils.copy_dir(self.GetModelPath(input_dict), pushed.uri)
        mark(pushed, os.path.join(destination.filesystem.base_directory, str(version)), version)
        log.info("pushed version %d of %s", version, model.uri)


def _keep(exec_properties: dict[str, Any]) -> int:
    config = json_utils.loads(exec_properties.get("custom_config") or "null")
    return int((config or {}).get(KEEP, 0))


class AtomicPusher(component.Pusher):
    """Pushes a blessed model to `<base_directory>/<version>`, versions ascending, and removes the oldest.

    Input: `model` and its `model_blessing`; custom_config[KEEP]. Output: `pushed_model`.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)


def push(model: str, base_directory: str, source: str, again: bool = False) -> int:
    """Copy the SavedModel folder `model` to a new version of `base_directory`; the version's number.

    The number is the time in seconds, or one more than the newest where the clock went back. A version that
    is a copy of `source` is returned as it is, so that a push repeated after a crash adds nothing, nor
    does one of a model that somebody has rolled back from. With `again`, which is for somebody's decision,
    that holds for the newest version only.
    """
    os.makedirs(base_directory, exist_ok=True)
    versions = published(base_directory)
    for version in reversed(versions[-1:] if again else versions):
        if source_of(base_directory, version) == source:
            return version
    version = max(int(time.time()), versions[-1] + 1 if versions else 0)
    # The leading dot keeps model servers away: they look for names that are numbers.
    staging = os.path.join(base_directory, f".{version}-{uuid.uuid4().hex}")
    try:
        io_utils.copy_dir(model, staging)
        with open(os.path.join(staging, SOURCE), "w") as file:
            file.write(source)
        _to_disk(staging)
        os.rename(staging, os.path.join(base_directory, str(version)))
        _to_disk_itself(base_directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return version


def _to_disk(folder: str) -> None:
    """Have the folder's files written, since a power cut may keep a rename and lose what it renamed."""
    for place, _, files in os.walk(folder):
        for path in (*(os.path.join(place, file) for file in files), place):
            _to_disk_itself(path)


def _to_disk_itself(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def retain(base_directory: str, keep: int) -> list[int]:
    """Remove all versions but the newest `keep`, 0 for none of them; those that were removed, ascending.

    A version is renamed to a hidden name first, so that a model server never sees half of it. What an earlier
    removal left when it was broken off goes too.
    """
    surplus = published(base_directory)[:-keep] if keep else []
    for version in surplus:
        hidden = f"{REMOVED}{version}-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):  # another run on the cluster was faster
            os.rename(os.path.join(base_directory, str(version)), os.path.join(base_directory, hidden))
    for name in os.listdir(base_directory):
        if name.startswith(REMOVED):
            shutil.rmtree(os.path.join(base_directory, name), ignore_errors=True)
    return surplus
