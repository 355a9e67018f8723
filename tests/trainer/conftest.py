"""What tests of exported models share."""

import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from schemas import IMAGE, LABEL, MEAN_INTENSITY, PIXELS
from trainer.transform import preprocessing_fn


@pytest.fixture(scope="session")
def transform_graph(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the Transform component would leave for the threshold protocol."""
    folder = tmp_path_factory.mktemp("transform")
    spec = {
        IMAGE: tf.io.FixedLenFeature([], tf.string),
        LABEL: tf.io.FixedLenFeature([], tf.int64),
        MEAN_INTENSITY: tf.io.FixedLenFeature([], tf.float32),
    }
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    data = [{IMAGE: bytes(PIXELS), LABEL: 0, MEAN_INTENSITY: 0.0}]
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        _, transform_fn = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, {"protocol": "threshold"})
        )
        transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))
    metadata_io.write_metadata(metadata, str(folder / "graph" / tft.TFTransformOutput.RAW_METADATA_DIR))
    return str(folder / "graph")
