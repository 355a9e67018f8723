"""IdxExampleGen: a folder of four IDX files becomes TFRecords of tf.Examples, split as the files are."""

import os
from concurrent import futures
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tfx import types
from tfx.components.example_gen import utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from components import idx
from components.examples import serialize
from schemas import TEST_SPLIT, TRAIN_SPLIT

SHARDS = 2
"""TFRecord files a split; one is written by each of as many processes' worth of work."""


class Executor(BaseBeamExecutor):
    """Parses and writes the IDX files of each split; without Beam, though TFX asks for its executor class."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write `Split-<name>/data_tfrecord-*` for each split of input_config. Raises idx.IdxError."""
        config = example_gen_pb2.Input()
        proto_utils.json_to_proto(exec_properties["input_config"], config)
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names([split.name for split in config.splits])
        for split in config.splits:
            folder, prefix = os.path.split(os.path.join(exec_properties["input_base"], split.pattern))
            pair = idx.read_pair(*idx.find_pair(folder, prefix.rstrip("*").rstrip("-")))
            write_split(pair, artifact_utils.get_split_uri([examples], split.name))


class IdxExampleGen(FileBasedExampleGen):
    """Ingests IDX images and labels (MNIST and its kin).

    Input: `input_base` holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files, gz or
    plain; with `spans` it holds folders span-1, span-2, ... of such files, and the newest is taken.
    Output: `examples` with the splits train and eval, features `image` (raw bytes) and `label`.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, input_base: str, spans: bool = False) -> None:
        folder = f"span-{utils.SPAN_SPEC}/" if spans else ""
        splits = [
            example_gen_pb2.Input.Split(name=TRAIN_SPLIT, pattern=f"{folder}train-*"),
            example_gen_pb2.Input.Split(name=TEST_SPLIT, pattern=f"{folder}t10k-*"),
        ]
        super().__init__(
            input_base=input_base,
            input_config=example_gen_pb2.Input(splits=splits),
            output_file_format=example_gen_pb2.FORMAT_TFRECORDS_GZIP,
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
