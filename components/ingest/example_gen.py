"""IdxExampleGen: a folder of four IDX files becomes TFRecords of tf.Examples, split as the files are.

With spans, the folder holds a folder for every delivery of new data, TFX's `span-{SPAN}/` or
`span-{SPAN}/version-{VERSION}/`; which of them to take is found out each time the component runs.
"""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration import data_types
from tfx.orchestration.portable import data_types as portable_data_types
from tfx.proto import example_gen_pb2
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.ingest import idx
from components.ingest.examples import serialize
from schemas import TEST_SPLIT, TRAIN_SPLIT

SHARDS = 2
"""TFRecord files a split; one is written by each of as many processes' worth of work."""
SPANS = "spans"
"""Execution property: how many of the newest spans to take; 0 where the folder holds the files itself."""
WINDOW = "window"
"""Execution property, and custom property of the examples: the folders taken, newest first."""
DELIVERED = "delivered"
"""Custom property of the examples: the numbers of all span folders there were, withdrawn ones left out."""
SEPARATOR = ", "

log = logging.getLogger(__name__)


class SpanError(idx.IdxError):
    """A folder of spans that cannot be used; its one line names span and file."""


class Span(NamedTuple):
    """One delivery of data: span-{number} or span-{number}/version-{version}."""

    number: int
    version: int | None
    folder: str  # relative to the folder of spans


class Driver(driver.FileBasedDriver):
    """Finds the newest spans when the component runs; without spans, TFX's own driver.

    Span, version, the folders of the window and a fingerprint of their files become execution properties, so
    that folders nobody has touched are a cache hit.
    """

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Called by TFX. Raises SpanError."""
        if not exec_properties[SPANS]:
            found = super().resolve_exec_properties(exec_properties, pipeline_info, component_info)
            return {**found, WINDOW: ""}
        base = exec_properties["input_base"]
        chosen = newest_spans(base, exec_properties[SPANS])
        return {
            **exec_properties,
            utils.SPAN_PROPERTY_NAME: chosen[0].number,
            utils.VERSION_PROPERTY_NAME: chosen[0].version,
            utils.FINGERPRINT_PROPERTY_NAME: fingerprint(base, chosen),
            WINDOW: SEPARATOR.join(span.folder for span in chosen),
        }

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Called by TFX; what it does, and the window among the custom properties of `examples`.

        The span also becomes the property `span`, which TFX leaves 0 and StatisticsGen hands on.
        """
        result = super().run(execution_info)
        if result.exec_properties[WINDOW].string_value:
            [examples] = result.output_artifacts["examples"].artifacts
            examples.custom_properties[WINDOW].CopyFrom(result.exec_properties[WINDOW])
            examples.properties["span"].CopyFrom(result.exec_properties[utils.SPAN_PROPERTY_NAME])
        return result


class Executor(BaseBeamExecutor):
    """Parses and writes the IDX files of each split; without Beam, though TFX asks for its executor class."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write `Split-<name>/data_tfrecord-*`: of train every folder's, of eval the newest one's alone.

        Raises idx.IdxError.
        """
        base, window = exec_properties["input_base"], exec_properties.get(WINDOW)
        folders = [os.path.join(base, name) for name in window.split(SEPARATOR)] if window else [base]
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names(list(idx.PREFIXES))
        if window:
            # Not in the driver, where it would be part of the cache's key: other folders may come and go.
            numbers = sorted(_numbered(base, "span"))
            examples.set_string_custom_property(DELIVERED, SEPARATOR.join(map(str, numbers)))
        for split, prefix in idx.PREFIXES.items():
            taken = folders[:1] if split == TEST_SPLIT else folders
            pairs = [idx.read_pair(*idx.find_pair(folder, prefix)) for folder in taken]
            joined = idx.Images(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))
            write_split(joined, artifact_utils.get_split_uri([examples], split))


class IdxExampleGen(FileBasedExampleGen):
    """Ingests IDX images and labels (MNIST and its kin).

    Input: `input_base` holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files, gz or
    plain. With `spans` it holds folders span-1, span-2, ... of such files (or of folders version-1, ... of
    them), and the newest `spans` are taken: their training images together, the newest one's test images.
    Output: `examples` with the splits train and eval, features `image` (raw bytes), `label` and `ink`; span
    and version are custom properties.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, input_base: str, spans: int = 0) -> None:
        splits = [
            example_gen_pb2.Input.Split(name=name, pattern=f"{prefix}-*")
            for name, prefix in idx.PREFIXES.items()
        ]
        super().__init__(
            input_base=input_base,
            input_config=example_gen_pb2.Input(splits=splits),
            output_file_format=example_gen_pb2.FORMAT_TFRECORDS_GZIP,
        )
        self.exec_properties[SPANS] = spans


def newest_spans(base: str, count: int) -> list[Span]:
    """The newest `count` spans under `base`, newest first, or as many as there are.

    A folder without files, whose delivery has not begun, is passed over with a warning. Raises SpanError
    where there is no span with files, and where the files of one that is taken are not all there.
    """
    whole: list[Span] = []
    empty: list[str] = []
    for number, name in sorted(_numbered(base, "span").items(), reverse=True):
        if len(whole) == count:
            break
        found = _newest_version(base, number, name)
        if found:
            whole.append(found)
        else:
            empty.append(name)
    if not whole:
        nothing = (
            f"of {SEPARATOR.join(empty)} none holds files" if empty else "holds no folder span-1, span-2, ..."
        )
        raise SpanError(
            f"{idx.shown(base)}: {nothing}, expected IDX files in folders span-1, span-2, ...; deliver a "
            "span, or give another folder"
        )
    for name in empty:
        log.warning("%s holds no files yet; the newest whole span is %s", name, whole[0].folder)
    for span in whole:
        _check_whole(base, span)
    return whole


def fingerprint(base: str, spans: Iterable[Span]) -> str:
    """TFX's fingerprint (sizes and times) of each file that the window takes, a line each."""
    files = []
    for index, span in enumerate(spans):
        for split, pair in idx.split_files(os.path.join(base, span.folder)).items():
            if split == TRAIN_SPLIT or index == 0:
                names = [os.path.basename(path) for path in pair]
                found = [
                    io_utils.generate_fingerprint(name, path) for name, path in zip(names, pair, strict=True)
                ]
                files += [f"{span.folder}/{each}" for each in found]
    return "\n".join(files)


def write_split(pair: idx.Images, folder: str) -> None:
    """Write images uint8 [N, SIDE, SIDE] and labels uint8 [N] as gzipped TFRecords into `folder`."""
    tf.io.gfile.makedirs(folder)
    parts = np.array_split(np.arange(len(pair.labels)), SHARDS)
    with futures.ThreadPoolExecutor(SHARDS) as pool:
        for done in [
            pool.submit(
                _write_records,
                os.path.join(folder, f"data_tfrecord-{part:05d}-of-{SHARDS:05d}.gz"),
                pair.images[chosen],
                pair.labels[chosen],
            )
            for part, chosen in enumerate(parts)
        ]:
            done.result()


def _write_records(path: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    # Level 1: the files are read at least four times for each time they are written.
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    with tf.io.TFRecordWriter(path, options) as writer:
        for image, label in zip(images, labels, strict=True):
            writer.write(serialize(image.tobytes(), int(label)))


def _newest_version(base: str, number: int, name: str) -> Span | None:
    """The span in folder `name`, in its newest version with files if it has versions; None without files."""
    folder = os.path.join(base, name)
    versions = _numbered(folder, "version")
    files = _files(folder)
    if files and versions:
        raise SpanError(
            f"{idx.shown(folder)}: holds files ({files[0]}) and versions ({min(versions.values())}), "
            "expected one or the other; move the files into a version of their own"
        )
    if files:
        return Span(number, None, name)
    for version, version_name in sorted(versions.items(), reverse=True):
        if _files(os.path.join(folder, version_name)):
            return Span(number, version, os.path.join(name, version_name))
        log.warning("%s/%s holds no files yet; an older version is looked for", name, version_name)
    return None


def _check_whole(base: str, span: Span) -> None:
    try:
        idx.split_files(os.path.join(base, span.folder))
    except idx.IdxError as error:
        raise SpanError(
            f"{span.folder} is not whole ({error}); deliver the rest, or take {span.folder} away to go on "
            "with the spans before it"
        ) from None


def _numbered(folder: str, kind: str) -> dict[int, str]:
    """The folders {kind}-N in `folder`, number -> name. Raises SpanError where two have one number."""
    found: dict[int, str] = {}
    for name in _names(folder):
        match = re.fullmatch(rf"{kind}-(\d+)", name)
        if not match or not tf.io.gfile.isdir(os.path.join(folder, name)):
            continue
        number = int(match[1])
        if number in found:
            raise SpanError(
                f"{idx.shown(folder)}: {found[number]} and {name} both are {kind} {number}, expected one; "
                "rename or remove the other"
            )
        found[number] = name
    return found


def _files(folder: str) -> list[str]:
    """The names of files that have been delivered into `folder`; copying tools begin theirs with a dot."""
    return [
        name
        for name in _names(folder)
        if not name.startswith(".") and not tf.io.gfile.isdir(os.path.join(folder, name))
    ]


def _names(folder: str) -> Sequence[str]:
    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise SpanError(
            f"{idx.shown(folder)}: cannot be listed ({' '.join(error.message.split())}), expected a "
            "folder of folders span-1, span-2, ...; check the path and its permissions"
        ) from None
