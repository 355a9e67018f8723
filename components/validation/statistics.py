"""Read what StatisticsGen computed of the splits of a run."""

import os
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from schemas import FORMER_NAMES, LABEL


def split_statistics(
    statistics: standard_artifacts.ExampleStatistics, split: str
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Read what StatisticsGen computed of one split; features of version 0.1 get their present names."""
    folder = artifact_utils.get_split_uri([statistics], split)
    found = statistics_pb2.DatasetFeatureStatisticsList()
    path = os.path.join(folder, statistics_gen.DEFAULT_FILE_NAME)
    found.ParseFromString(io_utils.read_bytes_file(path))
    for feature in found.datasets[0].features:
        feature.path.step[:] = [FORMER_NAMES.get(step, step) for step in feature.path.step]
    return found


def feature_statistics(statistics: statistics_pb2.DatasetFeatureStatisticsList, name: str) -> Any:
    """Return the statistics of the feature `name`; None if there are none."""
    for feature in statistics.datasets[0].features:
        if list(feature.path.step) == [name]:
            return feature
    return None


def occurrences(statistics: statistics_pb2.DatasetFeatureStatisticsList, name: str) -> int:
    """Return how many examples have the feature `name`."""
    feature = feature_statistics(statistics, name)
    if feature is None:
        return 0
    return int(getattr(feature, feature.WhichOneof("stats")).common_stats.num_non_missing)


def label_counts(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> dict[int, int]:
    """Return how many examples each class has; empty if the labels were not counted."""
    feature = feature_statistics(statistics, LABEL)
    if feature is None or feature.WhichOneof("stats") != "string_stats":
        return {}
    buckets = feature.string_stats.rank_histogram.buckets
    return {int(bucket.label): int(bucket.sample_count) for bucket in buckets}
