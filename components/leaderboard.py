"""Leaderboard: one row a variant, from what its trainer, evaluator and pusher left behind."""

import json
import math
import os
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import constants as evaluator
from tfx.components.pusher import executor as pusher
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.metrics import UNITS
from schemas import TRAINING_RECORD

FILE = "leaderboard.json"

TRAINED = (
    "variant", "family", "dataset", "protocol", "profile", "seed", "steps", "batch_size", "parameters",
    "examples", "importance_samples", "train_seconds", "step_seconds", "images_per_second",
)  # fmt: skip
"""Fields of a row that the training record gives."""


class Report(types.Artifact):  # type: ignore[misc]
    """What people look at after a run; leaderboard.json is its data."""

    TYPE_NAME = "LatentlineReport"


@component
def Leaderboard(  # type: ignore[no-untyped-def]
    runs: InputArtifact[list[standard_artifacts.ModelRun]],  # type: ignore[valid-type]
    evaluations: InputArtifact[list[standard_artifacts.ModelEvaluation]],  # type: ignore[valid-type]
    blessings: InputArtifact[list[standard_artifacts.ModelBlessing]],  # type: ignore[valid-type]
    pushes: InputArtifact[list[standard_artifacts.PushedModel]],  # type: ignore[valid-type]
    report: OutputArtifact[Report],
):
    """Inputs: one artifact a variant, in the same order. Output: `report` with leaderboard.json."""
    rows = [row(*artifacts) for artifacts in zip(runs, evaluations, blessings, pushes, strict=True)]
    with fileio.open(os.path.join(report.uri, FILE), "w") as file:
        file.write(json.dumps(rows, indent=1))


def row(run: Any, evaluation: Any, blessing: Any, push: Any) -> dict[str, Any]:
    """One variant's row; metrics as {value, lower, upper, unit}, ends of the 95 % confidence interval."""
    with fileio.open(os.path.join(run.uri, TRAINING_RECORD)) as file:
        record = json.load(file)
    blessed = blessing.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
    version = push.get_string_custom_property(pusher._PUSHED_VERSION_KEY)  # TFX names it nowhere public
    return {
        **{field: record[field] for field in TRAINED},
        "metrics": overall_metrics(evaluation.uri),
        "blessed": blessed,
        "why_not": "" if blessed else why_not(evaluation.uri),
        "pushed_version": int(version) if version else None,
    }


def overall_metrics(evaluation: str) -> dict[str, dict[str, Any]]:
    """The candidate's metrics over the whole split: name -> {value, lower, upper, unit}."""
    found = {}
    for slice_metrics in tfma.load_metrics(evaluation):
        if slice_metrics.slice_key.single_slice_keys:
            continue
        for item in slice_metrics.metric_keys_and_values:
            name = item.key.name
            if name in UNITS and item.key.model_name != "baseline" and not item.key.is_diff:
                value = item.value.double_value.value
                interval = item.confidence_interval
                lower, upper = (
                    bound.double_value.value if interval.HasField("standard_error") else value
                    for bound in (interval.lower_bound, interval.upper_bound)
                )
                found[name] = {"value": value, "lower": lower, "upper": upper, "unit": UNITS[name]}
    return found


def why_not(evaluation: str) -> str:
    """Which thresholds a model that was not blessed has missed, as a sentence; empty where it passed all."""
    result = tfma.load_validation_result(evaluation)
    reasons = []
    for slice_failures in result.metric_validations_per_slice:
        for failure in slice_failures.failures:
            name, value = failure.metric_key.name, failure.metric_value.double_value.value
            if failure.metric_threshold.HasField("value_threshold"):
                floor = failure.metric_threshold.value_threshold.lower_bound.value
                shown = "not a number" if math.isnan(value) else f"{value:.4g}"
                reasons.append(f"{name} {shown} is below the floor {floor:.4g}")
            else:
                headline = name.removesuffix("_gain_upper")
                reasons.append(
                    f"{headline} is worse than the model in production by at least {-value:.4g} "
                    "(95 % interval of the paired difference)"
                )
    return "; ".join(reasons)
