"""Read the artifacts of a run: metrics with intervals, the gate's verdict, and the data's statistics."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.evaluation.eval_config import HEADLINE, shortfall
from components.evaluation.gated import read_gains, refused_because
from components.evaluation.metrics import GAIN, GAIN_LOWER, GAIN_UPPER, LOWER, UNITS, UPPER
from components.reporting import display
from schemas import LABEL
from schemas.records import Gain

EVAL_CONFIG = "eval_config.json"
"""File in an evaluation artifact; TFMA writes it."""
CANDIDATE, BASELINE = "candidate", "baseline"
"""Names of the models in an evaluation; without a baseline, TFMA gives the candidate none."""
OVERALL = ""
"""Name of the slice of all examples; the others are named by their label."""

Metric = dict[str, Any]
"""The fields of a schemas.records.Metric."""


def overall_metrics(evaluation: str) -> dict[str, Metric]:
    """Return the candidate's metrics over the whole split, by name."""
    return sliced_metrics(evaluation).get(OVERALL, {})


def sliced_metrics(evaluation: str, model: str = CANDIDATE) -> dict[str, dict[str, Metric]]:
    """Return the metrics of a model, slice -> name -> {value, lower, upper, unit}; labels in order.

    model: CANDIDATE or BASELINE.
    """
    found: dict[str, dict[str, Metric]] = {}
    for slice_metrics in tfma.load_metrics(evaluation):
        keys = slice_metrics.slice_key.single_slice_keys
        name_of_slice = str(keys[0].int64_value) if keys else OVERALL
        mine = {
            item.key.name: item
            for item in slice_metrics.metric_keys_and_values
            if (item.key.model_name == BASELINE) == (model == BASELINE) and not item.key.is_diff
        }
        for name, item in mine.items():
            if name in UNITS:
                lower, upper = _ends(name, mine)
                found.setdefault(name_of_slice, {})[name] = {
                    "value": item.value.double_value.value, "lower": lower, "upper": upper,
                    "unit": UNITS[name],
                }  # fmt: skip
    return dict(sorted(found.items(), key=lambda entry: (len(entry[0]), entry[0])))


def _ends(name: str, items: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of a metric's 95 % interval; items: of the same slice and model, by name.

    They are metrics of their own; evaluations of version 0.1 have TFMA's interval instead. In a slice that is
    too small for an interval, it has no width.
    """
    ends = [items[full].value for end in (LOWER, UPPER) if (full := f"{name}_{end}") in items]
    interval = items[name].confidence_interval
    if not ends and interval.HasField("standard_error"):
        ends = [interval.lower_bound, interval.upper_bound]
    lower, upper = ends or [items[name].value] * 2
    return lower.double_value.value, upper.double_value.value


def production_gain(evaluation: str) -> Metric | None:
    """Return the paired gain over the model in production, over the whole split; None without such a model.

    {metric, value, lower, upper, unit}: the mean difference of the headline metric that the floor is about,
    and the ends of its 95 % interval.
    """
    gains = production_gains(evaluation)
    return next((gains[name] for name in HEADLINE.values() if name in gains), None)


def production_gains(evaluation: str) -> dict[str, Metric]:
    """Return the paired gains over the model in production as in `production_gain`, by headline metric."""
    ends = {GAIN: "value", GAIN_LOWER: "lower", GAIN_UPPER: "upper"}
    return {
        name: {
            "metric": name,
            "unit": UNITS[name],
            **{ends[ending]: value for ending, value in found.items()},
        }
        for name, found in read_gains(evaluation)[0].items()
    }


def floor(evaluation: str) -> float | None:
    """Return the least headline metric that this evaluation's gate accepts; None if it has no floor."""
    path = os.path.join(evaluation, EVAL_CONFIG)
    if not fileio.exists(path):
        return None
    with fileio.open(path) as file:
        specs = json.loads(file.read())["evalConfig"].get("metricsSpecs", [])
    for spec in specs:
        for name, thresholds in spec.get("perSliceThresholds", {}).items():
            for each in thresholds.get("thresholds", []):
                bound = each.get("threshold", {}).get("valueThreshold", {}).get("lowerBound")
                if name in HEADLINE.values() and bound is not None:
                    return float(bound)
    return None


def why_not(evaluation: str, variant: str) -> str:
    """Return why the gate refused a model of `variant`, as a sentence; empty if it did not."""
    gains = production_gains(evaluation)
    result = tfma.load_validation_result(evaluation)
    reasons = []
    for slice_failures in result.metric_validations_per_slice:
        for failure in slice_failures.failures:
            name, value = failure.metric_key.name, failure.metric_value.double_value.value
            gain = gains.get(name.removesuffix(f"_{GAIN_UPPER}").removesuffix(f"_{GAIN_LOWER}"))
            if failure.metric_threshold.HasField("value_threshold"):
                least = failure.metric_threshold.value_threshold.lower_bound.value
                reasons.append(shortfall(name, value, least))
            elif gain is None or math.isnan(value):
                reasons.append(
                    f"{name} is {value:.4g}, which cannot be compared with the model in production"
                )
            elif name.endswith(f"_{GAIN_UPPER}"):  # a threshold of version 0.1
                reasons.append(
                    f"{gain['metric']} is worse than the model in production by at least {-value:.4g}: "
                    f"{display.gain(Gain(**gain))}"
                )
            else:
                limit = failure.metric_threshold.change_threshold.absolute.value
                reasons.append(
                    f"too good to be true: {display.gain(Gain(**gain))} {gain['metric']} against the model "
                    f"in production, expected at most {limit:+.4g}; look at the span's labels, then "
                    f"`latentline promote {variant}`"
                )
    return "; ".join([*reasons, *filter(None, [refused_because(evaluation)])])


def data_statistics(statistics: Any) -> list[dict[str, Any]]:
    """Describe each split of StatisticsGen's artifact: name, examples, examples by label, and features."""
    splits = []
    for split in artifact_utils.decode_split_names(statistics.split_names):
        folder = artifact_utils.get_split_uri([statistics], split)
        stored = statistics_pb2.DatasetFeatureStatisticsList()
        stored.ParseFromString(
            io_utils.read_bytes_file(os.path.join(folder, statistics_gen.DEFAULT_FILE_NAME))
        )
        [data] = stored.datasets
        features = [feature_statistics(feature) for feature in data.features]
        labels: dict[str, int] = next(
            (f.pop("values") for f in features if f["name"] == LABEL and "values" in f), {}
        )
        splits.append(
            {
                "split": split,
                "examples": int(data.num_examples),
                "labels": dict(sorted(labels.items())),
                "features": features,
            }
        )
    return splits


def feature_statistics(feature: Any) -> dict[str, Any]:
    """Describe a feature: name, type, number of examples without it, and counts of its categories."""
    kind = feature.WhichOneof("stats")
    found = {
        "name": feature.path.step[0],
        "type": statistics_pb2.FeatureNameStatistics.Type.Name(feature.type).lower(),
        "missing": int(getattr(feature, kind).common_stats.num_missing),
    }
    if kind == "bytes_stats":
        low, high = feature.bytes_stats.min_num_bytes, feature.bytes_stats.max_num_bytes
        found["bytes"] = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    if kind == "string_stats":
        found["values"] = {top.value: int(top.frequency) for top in feature.string_stats.top_values}
    return found
