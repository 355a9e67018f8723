"""IdxExampleGen, which turns four IDX files into TFRecords of tf.Examples, one split per pair of files.

With spans, the input is a folder of deliveries (components.ingest.spans); which of them to take is determined
each time the component runs.
"""

import os
from concurrent import futures
from typing import Any

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

from components.ingest import idx, spans
from components.ingest.examples import serialize
from components.ingest.spans import SEPARATOR
from schemas import BINARY, GREY, PIXEL_VALUES

SHARDS = 2
"""TFRecord files per split, written in parallel."""
SPANS = "spans"
"""Execution property: how many of the newest spans to take; 0 if the folder holds the files itself."""
WINDOW = "window"
"""Execution property, and custom property of the examples: the folders taken, newest first."""
DELIVERED = "delivered"
"""Custom property of the examples: the numbers of all span folders that existed, withdrawn ones left out."""


class Driver(driver.Driver):
    """Finds the files to take when the component runs, and makes their content part of the cache's key.

    Span, version, the folders of the window and the SHA-256 of each file become execution properties, so that
    a run is taken from the cache if the bytes that it would read are those of an earlier run, and only then.
    """

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Return the execution properties with what was found; called by TFX. Raises idx.IdxError."""
        base, count = exec_properties["input_base"], exec_properties[SPANS]
        chosen = spans.newest_spans(base, count) if count else [spans.PLAIN]
        taken = spans.files_taken(base, chosen)
        spans.warn_of_others(base, chosen)
        return {
            **exec_properties,
            utils.SPAN_PROPERTY_NAME: chosen[0].number,
            utils.VERSION_PROPERTY_NAME: chosen[0].version,
            utils.FINGERPRINT_PROPERTY_NAME: spans.fingerprint(base, spans.digests(taken)),
            WINDOW: SEPARATOR.join(span.folder for span in chosen),
        }

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Return execution properties and output artifact, which get window and span; called by TFX.

        TFX leaves the property `span`, which StatisticsGen passes on, at 0.
        """
        result = super().run(execution_info)
        if result.exec_properties[WINDOW].string_value:
            [examples] = result.output_artifacts["examples"].artifacts
            examples.custom_properties[WINDOW].CopyFrom(result.exec_properties[WINDOW])
            examples.properties["span"].CopyFrom(result.exec_properties[utils.SPAN_PROPERTY_NAME])
        return result


class Executor(BaseBeamExecutor):
    """Parses and writes the IDX files of each split; TFX requires the class of a Beam executor."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write `Split-<name>/data_tfrecord-*`: of train from all folders, of eval from the newest one.

        Raises idx.IdxError, also if a file has changed since the driver took its fingerprint.
        """
        base, window = exec_properties["input_base"], exec_properties.get(WINDOW)
        chosen = (
            [spans.Span(0, None, folder) for folder in window.split(SEPARATOR)] if window else [spans.PLAIN]
        )
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names(list(idx.PREFIXES))
        if window:
            # Not in the driver, where it would be part of the cache's key: other folders may come and go.
            examples.set_string_custom_property(
                DELIVERED, SEPARATOR.join(map(str, sorted(spans.numbers(base))))
            )
        digests: dict[str, str] = {}
        joined = {
            split: join([idx.read_pair(*pair, digests) for pair in pairs])
            for split, pairs in spans.files_taken(base, chosen).items()
        }
        spans.check_unchanged(base, exec_properties[utils.FINGERPRINT_PROPERTY_NAME], digests)
        for split, images in joined.items():
            images = images._replace(images=to_grey(images.images, exec_properties[PIXEL_VALUES], split))
            check_varied(images, split)
            write_split(images, artifact_utils.get_split_uri([examples], split))


class IdxExampleGen(FileBasedExampleGen):
    """Ingests images and labels in IDX files, the format of MNIST.

    Input: `input_base` holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files, gzipped
    or plain. With `spans` it holds folders span-1, span-2, ... or span-2026-11-25, ... of such files (or of
    folders version-1, ... of them), and the newest `spans` are taken: their training images together, the
    test images of the newest one. `pixels` says what their values are: GREY or BINARY.
    Output: `examples` with the splits train and eval, features `image` (raw bytes), `label` and
    `mean_intensity`; span and version are custom properties.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, input_base: str, spans: int = 0, pixels: str = GREY) -> None:
        splits = [  # the names of the splits; TFX asks for a pattern as well, which nothing reads
            example_gen_pb2.Input.Split(name=name, pattern=prefix) for name, prefix in idx.PREFIXES.items()
        ]
        super().__init__(
            input_base=input_base,
            input_config=example_gen_pb2.Input(splits=splits),
            output_file_format=example_gen_pb2.FORMAT_TFRECORDS_GZIP,
        )
        self.exec_properties[SPANS] = spans
        self.exec_properties[PIXEL_VALUES] = pixels


def join(parts: list[idx.Images]) -> idx.Images:
    """Return the images and labels of all parts together, in their order."""
    return parts[0] if len(parts) == 1 else idx.Images(*map(np.concatenate, zip(*parts, strict=True)))


def to_grey(images: idx.Bytes, pixels: str, split: str) -> idx.Bytes:
    """Return images as grey values 0 to 255; BINARY ones hold 0 and 1, or 0 and 255. Raises idx.IdxError."""
    if pixels == GREY:
        return images
    found = np.flatnonzero(np.bincount(images.ravel(), minlength=256))
    if set(found) <= {0, 1}:
        return images * np.uint8(255)
    if set(found) <= {0, 255}:
        return images
    shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    raise idx.IdxError(
        f"{split} split: its pixels have {len(found)} values ({shown}), expected 0 and 1, or 0 and 255, "
        f"since `pixels` is {BINARY}; set `pixels: {GREY}` or binarize the images"
    )


def check_varied(pair: idx.Images, split: str) -> None:
    """Raise idx.IdxError if a split has several images and all are identical."""
    images = pair.images
    if len(images) > 1 and np.array_equal(images.min(axis=0), images.max(axis=0)):
        raise idx.IdxError(
            f"{split} split: all {len(images):,} images are identical, expected different ones; check the "
            "conversion of the images, since no model can be judged on these"
        )


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
