import math

import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.evaluators import metrics_validator

from components.evaluation import eval_config as evaluation
from components.evaluation.eval_config import Demands

ENOUGH = {"images": 1_000.0, "smallest_class": 80.0, "accuracy_above_constant": 0.3}
Gain = tuple[float, float]
"""The ends of a gain's interval."""


def blessed(
    family: str,
    value: float,
    gains: dict[str, Gain] | Gain | None = None,
    demands: Demands | None = None,
    **measured: float,
) -> bool:
    """TFMA's verdict on a headline metric of `value`. gains: over the baseline, of it or by metric."""
    headline = evaluation.headlines(family)[0]
    demands = demands or Demands(floor=-100.0 if headline == "elbo" else 0.5)
    config = tfma.utils.update_eval_config_with_defaults(
        evaluation.eval_config(family, demands, "code"), has_baseline=gains is not None, rubber_stamp=True
    )

    def key(name: str, is_diff: bool = False) -> tfma.metrics.MetricKey:
        return tfma.metrics.MetricKey(
            name=name,
            model_name="candidate" if gains is not None else "",
            is_diff=is_diff,
            example_weighted=None,
        )

    found = {key(headline): value} | {key(name): each for name, each in (ENOUGH | measured).items()}
    by_metric = {headline: gains} if isinstance(gains, tuple) else gains or {}
    for name, ends in by_metric.items():
        for end, each in zip(("lower", "upper"), ends, strict=True):
            found[key(f"{name}_gain_{end}", is_diff=True)] = each
    return bool(metrics_validator.validate_metrics(((), found), config).validation_ok)


@pytest.mark.parametrize("gain", [(-0.9, -0.8), (0.01, 0.02), (0.8, 0.9)])
def test_gains_and_losses_are_left_to_the_gate(gain: Gain) -> None:
    assert blessed("classifier", 0.9, gain)


def test_without_a_baseline_the_demands_alone_decide() -> None:
    assert blessed("classifier", 0.6)
    assert not blessed("classifier", 0.4)


def test_a_gain_does_not_make_up_for_a_missed_floor() -> None:
    assert not blessed("classifier", 0.4, (0.01, 0.02))


@pytest.mark.parametrize("family", ["generative", "classifier", "both"])
@pytest.mark.parametrize(("images", "verdict"), [(2, False), (99, False), (100, True)])
def test_no_model_is_blessed_on_fewer_than_a_hundred_images(family: str, images: int, verdict: bool) -> None:
    assert blessed(family, 0.9, images=images) is verdict


@pytest.mark.parametrize("family", ["classifier", "both"])
@pytest.mark.parametrize(("few", "verdict"), [(0, False), (9, False), (10, True)])
def test_no_classifier_is_blessed_on_fewer_than_ten_images_of_a_class(
    family: str, few: int, verdict: bool
) -> None:
    assert blessed(family, 0.9, smallest_class=few) is verdict


@pytest.mark.parametrize("family", ["classifier", "both"])
@pytest.mark.parametrize(
    ("skill", "verdict"), [(-0.02, False), (0.0, False), (0.01, True), (math.nan, False)]
)
def test_no_classifier_is_blessed_that_does_no_better_than_a_constant_answer(
    family: str, skill: float, verdict: bool
) -> None:
    assert blessed(family, 0.9, accuracy_above_constant=skill) is verdict


def test_a_generative_model_needs_no_classes() -> None:
    assert blessed("generative", -90.0, smallest_class=0, accuracy_above_constant=math.nan)


@pytest.mark.parametrize(
    ("metric", "units", "codes"), [("active_units", 2.0, 0.0), ("codebook_perplexity", 0.0, 2.0)]
)
@pytest.mark.parametrize(("found", "verdict"), [(0.0, False), (1.0, False), (2.0, True), (math.nan, False)])
def test_latent_variables_have_to_be_used(
    metric: str, units: float, codes: float, found: float, verdict: bool
) -> None:
    demands = Demands(floor=-100.0, min_active_units=units, min_codes=codes)
    assert blessed("generative", -90.0, None, demands, **{metric: found}) is verdict


def test_a_model_without_the_latent_variables_that_are_demanded_of_it_is_not_blessed() -> None:
    assert not blessed("generative", -90.0, demands=Demands(floor=-100.0, min_active_units=1.0))


@pytest.mark.parametrize(
    ("name", "value", "least", "reason"),
    [
        ("images", 2.0, 100.0, "the test split has 2 images; a verdict needs at least 100"),
        ("smallest_class", 9.0, 10.0, "the rarest class of the test split has 9 images; a verdict needs at"),
        ("accuracy_above_constant", -0.02, 1e-9, "accuracy does not exceed what a constant answer reaches"),
        ("active_units", 0.0, 1.0, "active_units 0 is below the floor 1"),
        ("elbo", math.nan, -100.0, "elbo not a number is below the floor -100"),
    ],
)
def test_a_shortfall_is_a_sentence(name: str, value: float, least: float, reason: str) -> None:
    assert evaluation.shortfall(name, value, least).startswith(reason)
