"""What the pixels and labels of a run must look like for a verdict on its models to mean something."""

from collections.abc import Mapping

from google.protobuf import text_format
from tensorflow_data_validation.anomalies.proto import custom_validation_config_pb2
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.validation.statistics import feature_statistics, label_counts
from schemas import TEST_SPLIT, TRAIN_SPLIT, VALIDATIONS

CUSTOM = "CUSTOM_VALIDATION"
"""Name of TFDV's type of anomaly for what the validations of `config` find."""


def config(*protocols: str) -> custom_validation_config_pb2.CustomValidationConfig:
    """Return the validations of protocols, for ExampleValidator: those of all protocols and their own."""
    found = custom_validation_config_pb2.CustomValidationConfig()
    text_format.Merge(VALIDATIONS.read_text(), found)
    for protocol in protocols:
        own = VALIDATIONS.with_name(f"{VALIDATIONS.stem}_{protocol}{VALIDATIONS.suffix}")
        if own.exists():
            text_format.Merge(own.read_text(), found)
    return found


def measured(statistics: statistics_pb2.DatasetFeatureStatisticsList, name: str) -> str:
    """Return what was found of a numeric feature, for a message."""
    feature = feature_statistics(statistics, name)
    if feature is None or feature.WhichOneof("stats") != "num_stats":
        return f"found no statistics of {name}"
    numbers = feature.num_stats
    return f"found {name} {numbers.min:.4g} to {numbers.max:.4g}, mean {numbers.mean:.4g}"


def missing_classes(splits: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]) -> str:
    """Return a sentence that names classes of the test split that the train split lacks; empty if none."""
    counts = {split: label_counts(statistics) for split, statistics in splits.items()}
    missing = sorted(counts.get(TEST_SPLIT, {}).keys() - counts.get(TRAIN_SPLIT, {}).keys())
    if not missing:
        return ""
    classes = f"class {missing[0]}" if len(missing) == 1 else f"classes {', '.join(map(str, missing))}"
    images = sum(counts[TEST_SPLIT][label] for label in missing)
    return (
        f"{TRAIN_SPLIT}/label: no image of {classes}, of which the test split has {images:,}, expected every "
        "class of the test split; a model cannot learn them, and its accuracy would say nothing about them"
    )
