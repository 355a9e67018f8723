"""What the Evaluator measures, and when it blesses; and how its verdict reads afterwards."""

import json
from collections.abc import Mapping

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2

from components.evaluation import metrics
from schemas import LABEL

SIGNATURE = "evaluate"
HEADLINE = {"generative": "elbo", "classifier": "accuracy"}
"""The metric that floor and comparison go by; both are better when higher."""


def eval_config(
    family: str, floor: float, code_version: str, max_gain: Mapping[str, float] | None = None
) -> tfma.EvalConfig:
    """Metrics of the family, overall and by digit, with confidence intervals, floor and comparison.

    floor: least value of the headline metric. A model is blessed if its headline metric reaches the floor and
    it is not worse than the baseline beyond the 95 % interval of their paired difference; without a baseline
    the floor alone decides. code_version: of the metrics, so that TFX's cache sees it change.
    max_gain: by headline metric, the largest gain over the baseline that is believed. New data whose train
    and test labels are wrong the same way makes a candidate look far better than a model of right ones; where
    even the lower end of the interval exceeds it, the model is not blessed.
    """
    families = ["generative", "classifier"] if family == "both" else [family]
    means = [name for each in families for name in metrics.MEANS[each]]
    headline = HEADLINE[families[0]]
    changes = {f"{headline}_{metrics.GAIN_UPPER}": no_loss()}
    if max_gain:
        changes[f"{headline}_{metrics.GAIN_LOWER}"] = at_most(max_gain[headline])
    config = {"means": means, "headline": headline, "code_version": code_version}
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
                    headline: overall(tfma.MetricThreshold(value_threshold=at_least(floor))),
                    **{
                        name: overall(tfma.MetricThreshold(change_threshold=change))
                        for name, change in changes.items()
                    },
                },
            )
        ],
        options=tfma.Options(
            compute_confidence_intervals=wrappers_pb2.BoolValue(value=True),
            confidence_intervals=tfma.ConfidenceIntervalOptions(
                method=tfma.ConfidenceIntervalOptions.JACKKNIFE
            ),
        ),
    )


def metric_config(config: Mapping[str, object]) -> tfma.MetricConfig:
    """The one entry of the config: our metric class and its arguments."""
    return tfma.MetricConfig(
        class_name=metrics.PerExampleMeans.__name__, module=metrics.__name__, config=json.dumps(config)
    )


def overall(threshold: tfma.MetricThreshold) -> tfma.PerSliceMetricThresholds:
    """The threshold, for the whole split and not for its slices."""
    everything = tfma.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec()], threshold=threshold)
    return tfma.PerSliceMetricThresholds(thresholds=[everything])


def at_least(floor: float) -> tfma.GenericValueThreshold:
    """Passes values of `floor` and above."""
    return tfma.GenericValueThreshold(lower_bound=wrappers_pb2.DoubleValue(value=floor))


def no_loss() -> tfma.GenericChangeThreshold:
    """Passes differences of zero and above; TFMA drops it where there is no baseline."""
    return tfma.GenericChangeThreshold(
        direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute=wrappers_pb2.DoubleValue(value=0.0)
    )


def at_most(gain: float) -> tfma.GenericChangeThreshold:
    """Passes differences of `gain` and below; TFMA drops it where there is no baseline."""
    return tfma.GenericChangeThreshold(
        direction=tfma.MetricDirection.LOWER_IS_BETTER, absolute=wrappers_pb2.DoubleValue(value=gain)
    )
