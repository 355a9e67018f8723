"""The one function that puts a model into production: checked, loaded, called, then renamed into place."""

import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable

import tensorflow as tf
from tfx.utils import io_utils, path_utils

from components.serving import manifests
from components.serving.versions import LARGEST, SOURCE, artifact_name, published, same_artifact
from components.serving.versions import source as source_of
from schemas import IMAGE, LABEL, PIXELS

REMOVED = ".removed-"
"""How the hidden name of a version begins that is being removed."""
SIGNATURE = "serving_default"


class NotPublishable(RuntimeError):
    """A model that must not reach production; the message says what is wrong with it."""


def publish(
    model: str,
    base_directory: str,
    source: str,
    again: bool = False,
    beside: Callable[[str, int], None] | None = None,
) -> int:
    """Copy the SavedModel folder `model` to a new version of `base_directory`; return the version's number.

    The copy is compared with the checksum manifest of `model`, loaded and called on one batch, renamed into
    place and compared once more. The number is the time in seconds, or one more than the newest if the clock
    went back. A version that is a copy of the artifact `source` is returned as it is, so that a push that is
    repeated after a crash adds nothing. With `again`, which is for a person's decision, that holds for the
    newest version only, and only while it is whole. beside: is given the folder of the copy and its number,
    and may lay files beside the SavedModel.

    Raises NotPublishable and OSError; production is as it was then.
    """
    os.makedirs(base_directory, exist_ok=True)
    versions = published(base_directory)
    for version in reversed(versions[-1:] if again else versions):
        folder = os.path.join(base_directory, str(version))
        whole = not again or not manifests.damage_of_version(folder, thorough=True)
        if whole and same_artifact(source_of(base_directory, version), source):
            return version
    version = max(int(time.time()), versions[-1] + 1 if versions else 0)
    if version > LARGEST:
        raise NotPublishable(f"{base_directory} has version {LARGEST}; no model server can serve a later one")
    # The leading dot keeps model servers away: they look for names that are numbers.
    staging = os.path.join(base_directory, f".{version}-{uuid.uuid4().hex}")
    try:
        io_utils.copy_dir(model, staging)
        manifest = _checked(model, staging, source)
        call_once(staging, model)
        with open(os.path.join(staging, SOURCE), "w") as file:
            file.write(source)
        if beside:
            beside(staging, version)
        manifests.put(pathlib.Path(staging, manifests.INSIDE), manifest)
        manifests.to_disk(staging)
        os.rename(staging, os.path.join(base_directory, str(version)))
        manifests.sync(base_directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    folder = os.path.join(base_directory, str(version))
    if wrong := manifests.damage_of_version(folder, thorough=True):
        hide(base_directory, version)
        raise NotPublishable(f"{folder} was damaged while it was written ({wrong}); check the disk")
    return version


def expected(model: str, source: str) -> manifests.Manifest | None:
    """Return what the SavedModel folder `model`, a version or part of an artifact, held when it was whole.

    source: the artifact, whose own manifest serves for versions of 0.1, which have none. None if nobody wrote
    it down. Raises ValueError for a damaged manifest.
    """
    inside = manifests.read(pathlib.Path(model, manifests.INSIDE))
    if inside is not None or "://" in source:
        return inside
    listed = manifests.read(manifests.path_of(source))
    if listed is None:
        return None
    prefix = os.path.relpath(path_utils.serving_model_path(source), source) + "/"
    return {name.removeprefix(prefix): entry for name, entry in listed.items() if name.startswith(prefix)}


def call_once(folder: str, name: str) -> None:
    """Load a SavedModel and call it on one batch. Raises NotPublishable, which calls the model `name`."""
    try:
        serve = tf.saved_model.load(folder).signatures[SIGNATURE]
        [argument] = serve.structured_input_signature[1]
        serve(**{argument: tf.constant([example(0), example(255)])})
    except Exception as error:  # what a damaged graph or weights raise is of any kind
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise NotPublishable(f"{name} cannot be served ({words})") from error


def example(grey: int) -> bytes:
    """Return a serialized example with an image of one grey value."""
    features = {
        IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes([grey]) * PIXELS])),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def hide(base_directory: str, version: int) -> None:
    """Rename a version to a hidden name, so that a model server never sees half of it while it is removed."""
    hidden = f"{REMOVED}{version}-{uuid.uuid4().hex}"
    os.rename(os.path.join(base_directory, str(version)), os.path.join(base_directory, hidden))


def saved_model_files(folder: str) -> list[str]:
    """Return the files of a SavedModel, without what is laid beside it later, such as a model card."""
    return [name for name in manifests.sizes(folder) if "/" in name or name.endswith(".pb")]


def _checked(model: str, staging: str, source: str) -> manifests.Manifest:
    """Return the manifest of a copy that is what `model` was when it was whole. Raises NotPublishable."""
    try:
        listed = expected(model, source)
        wrong = manifests.compare(staging, listed) if listed is not None else ""
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise NotPublishable(f"{model}, a copy of {artifact_name(source)}, is damaged ({wrong})")
    return listed if listed else manifests.of(staging, saved_model_files(staging))
