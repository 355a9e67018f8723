"""Configure what the Evaluator measures and when it blesses a model."""

import dataclasses
import json
import math
from collections.abc import Mapping

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2

from components.evaluation import metrics
from components.gate import evidence
from schemas import LABEL

SIGNATURE = "evaluate"
HEADLINE = {"generative": "elbo", "classifier": "accuracy"}
"""The metric that floor and comparison go by; both are better when higher."""

ABOVE_ZERO = 1e-9
"""TFMA's bounds include the bound itself; an accuracy has to exceed what a constant answer reaches."""


@dataclasses.dataclass(frozen=True)
class Demands:
    """State what a model must reach to be blessed.

    Attributes:
      floor: least value of the headline metric.
      min_active_units: least number of active latent units; 0: any, and models without latent units.
      min_codes: least perplexity of a codebook's use; 0: any, and models without a codebook.
    """

    floor: float
    min_active_units: float = 0.0
    min_codes: float = 0.0


def headlines(family: str) -> list[str]:
    """Return the metrics by which candidates of a family are compared; the floor is about the first."""
    return [HEADLINE[each] for each in families(family)]


def families(family: str) -> list[str]:
    """Return the families whose metrics a model has: `both` is two of them."""
    return ["generative", "classifier"] if family == "both" else [family]


def eval_config(family: str, demands: Demands, code_version: str) -> tfma.EvalConfig:
    """Return metrics of the family, overall and by label, with demands and comparison.

    The metrics bring their confidence intervals themselves; TFMA computes none.
    TFMA's blessing says that a model meets the demands and that the test split supports a verdict; whether it
    is worse than production is left to the gate (components.evaluation.gated). A split supports a verdict if
    it has enough images and, for models that classify, enough of each class and an accuracy above that of a
    constant answer.
    code_version: of the metrics, so that TFX's cache sees it change.
    """
    means = [name for each in families(family) for name in metrics.MEANS[each]]
    compared = headlines(family)
    values = {compared[0]: demands.floor, **evidence_needed(family)}
    if demands.min_active_units:
        values["active_units"] = demands.min_active_units
    if demands.min_codes:
        values["codebook_perplexity"] = demands.min_codes
    config = {"means": means, "headlines": compared, "code_version": code_version}
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(name="candidate", signature_name=SIGNATURE, label_key=LABEL),
            tfma.ModelSpec(name="baseline", signature_name=SIGNATURE, label_key=LABEL, is_baseline=True),
        ],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[LABEL])],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[metric_config(config)],
                per_slice_thresholds={
                    **{
                        name: overall(tfma.MetricThreshold(value_threshold=at_least(least)))
                        for name, least in values.items()
                    },
                },
            )
        ],
    )


def evidence_needed(family: str) -> dict[str, float]:
    """Return the least value of each metric that says whether the test split supports a verdict."""
    needed: dict[str, float] = {metrics.IMAGES: evidence.MIN_IMAGES}
    if "classifier" in families(family):
        needed |= {metrics.SMALLEST_CLASS: evidence.MIN_PER_CLASS, metrics.SKILL: ABOVE_ZERO}
    return needed


def shortfall(name: str, value: float, least: float) -> str:
    """Return why a model is not blessed whose metric `name` is below its demand, as a sentence."""
    shown = "not a number" if math.isnan(value) else f"{value:.4g}"
    if name == metrics.IMAGES:
        return f"the test split has {shown} images; a verdict needs at least {least:.0f}"
    if name == metrics.SMALLEST_CLASS:
        return (
            f"the rarest class of the test split has {shown} images; a verdict needs at least {least:.0f} of "
            "each class"
        )
    if name == metrics.SKILL:
        return (
            "accuracy does not exceed what a constant answer reaches: the lower end of its 95 % interval is "
            f"{shown} above the share of the most frequent class, expected more than 0"
        )
    return f"{name} {shown} is below the floor {least:.4g}"


def metric_config(config: Mapping[str, object]) -> tfma.MetricConfig:
    """Return the one entry of the config: our metric class and its arguments."""
    return tfma.MetricConfig(
        class_name=metrics.PerExampleMeans.__name__, module=metrics.__name__, config=json.dumps(config)
    )


def overall(threshold: tfma.MetricThreshold) -> tfma.PerSliceMetricThresholds:
    """Apply a threshold to the whole split, not to its slices."""
    everything = tfma.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec()], threshold=threshold)
    return tfma.PerSliceMetricThresholds(thresholds=[everything])


def at_least(floor: float) -> tfma.GenericValueThreshold:
    """Return a threshold that passes values of `floor` and above."""
    return tfma.GenericValueThreshold(lower_bound=wrappers_pb2.DoubleValue(value=floor))
