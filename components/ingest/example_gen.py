"""IdxExampleGen, which turns four IDX files into TFRecords of tf.Examples, one split per pair of files.

With spans, the input is a folder of deliveries (components.ingest.spans); which of them to take is determined
each time the component runs.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np
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

from components import identity
from components.ingest import formats, idx, shard_index, sources, spans
from components.ingest.examples import serialize_all
from components.ingest.spans import SEPARATOR
from schemas import CLASSES, GREY, PIXEL_VALUES

SHARD_BYTES = 64_000_000
"""Most bytes of records in one TFRecord file, before they are compressed."""
RECORD_BYTES = 900
"""An upper bound on the bytes of a record."""
WRITERS = 8
"""Most files that are written at the same time."""
SUBSET, RESIZE, SCALE = "subset", "resize", "scale"
"""Execution properties: the fields of formats.Choices; left out where they are the default."""
SPANS = "spans"
"""Execution property: how many of the newest spans to take; 0 if the folder holds the files itself."""
WINDOW = "window"
"""Execution property, and custom property of the examples: the folders taken, newest first."""
CODE = "code"
"""Execution property: the fingerprint of the code behind the component (pipeline.dag.fingerprint)."""
NAMED = "named_folder"
"""Execution property: the only folder that the given name of the data set is of; empty for any folder."""
DELIVERED = "delivered"
"""Custom property of the examples: the numbers of all span folders that existed, withdrawn ones left out."""

log = logging.getLogger(__name__)


class Driver(driver.Driver):
    """Finds the files to take when the component runs, and makes their content part of the cache's key.

    Span, version, the folders of the window and the SHA-256 of each file become execution properties, so that
    a run is taken from the cache if the bytes that it would read are those of an earlier run, and only then.
    So does the name of the data set, which on a cluster is known only now: the folder may be given when the
    run starts.
    """

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Return the execution properties with what was found; called by TFX. Raises idx.IdxError."""
        base, count = exec_properties["input_base"], exec_properties[SPANS]
        subset = exec_properties.get(SUBSET, "")
        chosen = spans.newest_spans(base, count, subset) if count else [spans.PLAIN]
        found = spans.delivered(base, chosen, subset, log.warning)
        spans.warn_of_others(found)
        given = sources.Dataset(exec_properties[identity.DATASET], base, exec_properties[NAMED])
        taken = spans.files_taken(found)
        return {
            **exec_properties,
            utils.SPAN_PROPERTY_NAME: chosen[0].number,
            utils.VERSION_PROPERTY_NAME: chosen[0].version,
            utils.FINGERPRINT_PROPERTY_NAME: spans.fingerprint(base, spans.digests(taken)),
            WINDOW: SEPARATOR.join(span.folder for span in chosen),
            identity.DATASET: sources.named(given, count, subset).name,
        }

    def run(self, execution_info: portable_data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Return execution properties and output artifact with identity, window and span; called by TFX.

        TFX leaves the property `span`, which StatisticsGen passes on, at 0.
        """
        result = super().run(execution_info)
        [examples] = result.output_artifacts["examples"].artifacts
        for name in (identity.DATASET, identity.IMAGE_SHAPE, identity.CLASS_COUNT):
            examples.custom_properties[name].CopyFrom(result.exec_properties[name])
        if result.exec_properties[WINDOW].string_value:
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

        With spans, what an earlier output holds of a span is taken from there.

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
        choices = formats.Choices(
            exec_properties.get(SUBSET, ""), exec_properties.get(RESIZE, ""), bool(exec_properties.get(SCALE))
        )
        digests: dict[str, str] = {}
        taken = spans.files_taken(spans.delivered(base, chosen, choices.subset))
        reading = formats.Reading(exec_properties[PIXEL_VALUES], *choices)
        if window:
            ingest_window(taken, reading, examples.uri, digests, exec_properties.get(CODE, ""))
        else:
            for split, [part] in taken.items():
                folder = artifact_utils.get_split_uri([examples], split)
                write_split(images_of(part, reading, split, digests), formats.count(part), folder)
        spans.check_unchanged(base, exec_properties[utils.FINGERPRINT_PROPERTY_NAME], digests)


class IdxExampleGen(FileBasedExampleGen):
    """Ingests images and labels in IDX files, the format of MNIST, or in another form that formats.py reads.

    Input: `input_base` holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files, gzipped
    or plain, or a data set in another form, read by the `choices`. With `spans` it holds folders span-1,
    span-2, ... or span-2026-11-25, ... of such files (or of folders version-1, ... of them), and the newest
    `spans` are taken: their training images together, the test images of the newest one. `pixels` says
    what their values are: GREY or BINARY. `dataset` names the data set; empty for a name that is derived from
    the folder. `named_folder` is the only folder that the name is of, empty for whichever is read.
    Output: `examples` with the splits train and eval, features `image` (raw bytes), `label` and
    `mean_intensity`; what models must agree on to be compared (components.identity), span and version are
    custom properties.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        input_base: str,
        spans: int = 0,
        pixels: str = GREY,
        choices: formats.Choices = formats.AS_THEY_ARE,
        dataset: str = "",
        named_folder: str = "",
    ) -> None:
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
        self.exec_properties[identity.DATASET] = dataset
        self.exec_properties[NAMED] = named_folder
        self.exec_properties[identity.IMAGE_SHAPE] = identity.SHAPE
        self.exec_properties[identity.CLASS_COUNT] = CLASSES
        chosen = {SUBSET: choices.subset, RESIZE: choices.resize, SCALE: int(choices.scale)}
        self.exec_properties.update({name: value for name, value in chosen.items() if value})


def images_of(
    part: formats.Part, reading: formats.Reading, split: str, digests: dict[str, str]
) -> Iterator[idx.Images]:
    """Yield the images of a part as grey values, and note the SHA-256 of its files. Raises idx.IdxError."""
    blocks = formats.blocks(part, reading.choices, digests)
    return varied(formats.to_grey(blocks, reading.pixels, split), split)


def ingest_window(
    taken: Mapping[str, Sequence[formats.Part]],
    reading: formats.Reading,
    folder: str,
    digests: dict[str, str],
    code: str,
) -> None:
    """Write the splits of a window of spans into `folder`, each span with shards of its own.

    Shards that an output beside `folder` holds are taken from there (components.ingest.shard_index).

    taken: files by split, newest span first. digests: gets the SHA-256 of each file. code: fingerprint of the
    code that writes shards. Raises idx.IdxError.
    """
    known = shard_index.earlier(folder)
    written: dict[str, list[str]] = {}
    for split, parts in taken.items():
        own = os.path.join(folder, f"Split-{split}")
        tf.io.gfile.makedirs(own)
        for number, part in enumerate(parts):
            found = spans.digests({split: [part]})
            digests.update(found)
            key = shard_index.key(
                split=split, files=shard_index.identity(part, found), reading=reading, code=code
            )
            prefix = f"data_tfrecord-{number:03d}"
            earlier = known.get(key, [])
            paths = [shard_path(own, shard, len(earlier), prefix) for shard in range(len(earlier))]
            if not earlier or not shard_index.take(earlier, paths):
                images = images_of(part, reading, split, digests)
                paths = write_split(images, formats.count(part), own, prefix)
            written.setdefault(key, paths)
    shard_index.write(folder, written)


def shard_path(folder: str, shard: int, total: int, prefix: str) -> str:
    """Return the path of one of `total` files of records."""
    return os.path.join(folder, f"{prefix}-{shard:05d}-of-{total:05d}.gz")


def varied(blocks: Iterable[idx.Images], split: str) -> Iterator[idx.Images]:
    """Yield the blocks; raise idx.IdxError at their end if there are several images and all are identical."""
    count, first, alike = 0, None, True
    for block in blocks:
        first = block.images[0] if first is None else first
        alike = alike and bool(np.all(block.images == first))
        count += len(block.images)
        yield block
    if count > 1 and alike:
        raise idx.IdxError(
            f"{split} split: all {count:,} images are identical, expected different ones; check the "
            "conversion of the images, since no model can be judged on these"
        )


def shards(count: int, cores: int) -> int:
    """Return how many files `count` records are written to.

    At least as many as there are cores where each gets a block of images, and so many that none holds more
    than SHARD_BYTES of records.
    """
    return max(min(cores, -(-count // formats.BLOCK)), -(-count * RECORD_BYTES // SHARD_BYTES), 1)


def write_split(
    blocks: Iterable[idx.Images], count: int, folder: str, prefix: str = "data_tfrecord"
) -> list[str]:
    """Write blocks that hold `count` images in all as gzipped TFRecords into `folder`; return their paths.

    At most WRITERS + 1 shards are in memory at a time: one that is gathered, and those that are written.
    """
    tf.io.gfile.makedirs(folder)
    cores = len(os.sched_getaffinity(0))
    total = shards(count, cores)
    writers = min(cores, WRITERS)
    paths = [shard_path(folder, shard, total, prefix) for shard in range(total)]
    with futures.ThreadPoolExecutor(writers) as pool:
        running: list[futures.Future[None]] = []
        for path, shard in zip(paths, regrouped(blocks, count, total), strict=True):
            if len(running) == writers:
                running.pop(0).result()
            running.append(pool.submit(_write_records, path, shard))
        for each in running:
            each.result()
    return paths


def regrouped(blocks: Iterable[idx.Images], count: int, parts: int) -> Iterator[list[idx.Images]]:
    """Yield the images of the blocks, `count` in all, as `parts` lists of as many images as possible each."""
    sizes = [count * (part + 1) // parts - count * part // parts for part in range(parts)]
    own: list[idx.Images] = []
    left = sizes.pop(0)
    for block in blocks:
        rest = block
        while len(rest.labels):
            own.append(idx.Images(rest.images[:left], rest.labels[:left]))
            rest = idx.Images(rest.images[left:], rest.labels[left:])
            left -= len(own[-1].labels)
            if not left and sizes:
                yield own
                own, left = [], sizes.pop(0)
    yield own


def _write_records(path: str, blocks: list[idx.Images]) -> None:
    # Level 1: the files are read at least four times for each time they are written.
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    with tf.io.TFRecordWriter(path, options) as writer:
        for block in blocks:
            for record in serialize_all(block.images, block.labels):
                writer.write(record)
