from collections.abc import Mapping

import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.evaluators import metrics_validator

from components.evaluation import eval_config as evaluation

LIMITS = {"accuracy": 0.2, "elbo": 50.0}


def blessed(
    family: str, value: float, gain: tuple[float, float] | None, limits: Mapping[str, float] | None = None
) -> bool:
    """TFMA's verdict on a headline metric and the ends of its gain over the baseline, None without one."""
    headline = evaluation.HEADLINE[family]
    config = evaluation.eval_config(family, -100.0 if headline == "elbo" else 0.5, "code", limits)
    config = tfma.utils.update_eval_config_with_defaults(
        config, has_baseline=gain is not None, rubber_stamp=True
    )

    def key(name: str, is_diff: bool = False) -> tfma.metrics.MetricKey:
        return tfma.metrics.MetricKey(
            name=name,
            model_name="candidate" if gain else "",
            is_diff=is_diff,
            example_weighted=None,
        )

    measured = {key(headline): value}
    for end, each in zip(("lower", "upper"), gain or (), strict=False):
        measured[key(f"{headline}_gain_{end}", is_diff=True)] = each
    found = metrics_validator.validate_metrics(((), measured), config)
    return bool(found.validation_ok)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ((-0.02, -0.01), False),
        ((-0.02, 0.0), True),
        ((0.01, 0.02), True),
        ((0.19, 0.25), True),
        ((0.21, 0.25), False),
    ],
)
def test_a_model_is_blessed_between_a_loss_and_a_gain_too_good_to_be_true(
    gain: tuple[float, float], verdict: bool
) -> None:
    assert blessed("classifier", 0.9, gain, LIMITS) is verdict


def test_the_limit_of_a_bound_is_in_nats() -> None:
    assert blessed("generative", -90.0, (40.0, 60.0), LIMITS)
    assert not blessed("generative", -90.0, (51.0, 60.0), LIMITS)


def test_without_limits_no_gain_is_too_good() -> None:
    assert blessed("classifier", 0.9, (0.8, 0.82))


def test_without_a_baseline_the_floor_alone_decides() -> None:
    assert blessed("classifier", 0.6, None, LIMITS)
    assert not blessed("classifier", 0.4, None, LIMITS)


def test_a_gain_does_not_make_up_for_a_missed_floor() -> None:
    assert not blessed("classifier", 0.4, (0.01, 0.02), LIMITS)
