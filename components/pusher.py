"""AtomicPusher: TFX's Pusher, except that a model server never sees half a model."""

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
from tfx.utils import io_utils, proto_utils

SOURCE = "latentline_source.txt"
"""File in a pushed version that names the model artifact it is a copy of."""


class Executor(executor.Executor):  # type: ignore[misc]
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
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        model = artifact_utils.get_single_instance(input_dict["model"])
        version = push(self.GetModelPath(input_dict), destination.filesystem.base_directory, source=model.uri)
        io_utils.copy_dir(self.GetModelPath(input_dict), pushed.uri)
        self._MarkPushed(
            pushed, os.path.join(destination.filesystem.base_directory, str(version)), str(version)
        )


class AtomicPusher(component.Pusher):  # type: ignore[misc]
    """Pushes a blessed model to `<base_directory>/<version>`, versions ascending.

    Input: `model` and its `model_blessing`. Output: `pushed_model`.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)


def push(model: str, base_directory: str, source: str) -> int:
    """Copy the SavedModel folder `model` to a new version of `base_directory`; the version's number.

    The number is the time in seconds, or one more than the newest where the clock went back. The newest
    version is returned as it is if it already is a copy of `source`, so that a push repeated after a crash
    adds nothing.
    """
    os.makedirs(base_directory, exist_ok=True)
    versions = published(base_directory)
    if versions and _source(os.path.join(base_directory, str(versions[-1]))) == source:
        return versions[-1]
    version = max(int(time.time()), versions[-1] + 1 if versions else 0)
    # The leading dot keeps model servers away: they look for names that are numbers.
    staging = os.path.join(base_directory, f".{version}-{uuid.uuid4().hex}")
    try:
        io_utils.copy_dir(model, staging)
        with open(os.path.join(staging, SOURCE), "w") as file:
            file.write(source)
        os.rename(staging, os.path.join(base_directory, str(version)))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return version


def published(base_directory: str) -> list[int]:
    """The versions a model server would see, ascending."""
    return sorted(int(name) for name in os.listdir(base_directory) if name.isdigit())


def _source(version_directory: str) -> str:
    try:
        with open(os.path.join(version_directory, SOURCE)) as file:
            return file.read()
    except FileNotFoundError:
        return ""
