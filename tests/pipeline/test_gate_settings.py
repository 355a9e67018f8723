"""What the pipeline tells the gate about a variant."""

from typing import Any

import pytest

from pipeline.config.settings import Settings
from pipeline.pipeline import gate_settings
from schemas import CLASSES, SIDE


def told(dataset: str = "mnist", **settings: Any) -> Any:
    asked = Settings(**{"variants": ("mlp", "m2"), **settings})
    return [gate_settings(trial.name, trial.job(dataset, asked.profile), asked) for trial in asked.trials]


def test_nights_of_a_run_with_another_seed_are_of_one_era() -> None:
    assert told()[0].era == told(seed=7)[0].era
    assert told()[0].era["classes"] == CLASSES
    assert told()[0].era["image_shape"] == [SIDE, SIDE]


def test_nights_of_two_experiments_with_one_variant_are_called_by_their_names() -> None:
    experiments = {"wide": {"variant": "mlp", "config": {"hidden": (64,)}}, "narrow": {"variant": "mlp"}}
    found = told(variants=("wide", "narrow"), experiments=experiments)
    assert [(each.era["variant"], each.era["module"]) for each in found] == [
        ("wide", "mlp"),
        ("narrow", "mlp"),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": "fashion"},
        {"protocol": "grey"},
        {"profile": "smoke"},
        {"data": "/data", "spans": 2},
        {"warm_start": True},
        {"experiments": {"mlp": {"recipe": {"steps": 7}}}},
        {"experiments": {"mlp": {"config": {"hidden": (8,)}}}},
    ],
)
def test_whatever_makes_nights_incomparable_begins_an_era(settings: dict[str, Any]) -> None:
    assert told(**settings)[0].era != told()[0].era


def test_the_detectable_loss_of_the_recipe_is_that_of_its_first_headline_metric() -> None:
    limits = {"mlp": {"recipe": {"max_detectable_loss": 0.01}}, "m2": {"recipe": {"max_detectable_loss": 3}}}
    assert [each.most_detectable for each in told(experiments=limits)] == [{"accuracy": 0.01}, {"elbo": 3.0}]
    assert [each.most_detectable for each in told()] == [{}, {}]


def test_the_threshold_of_the_alarm_follows_the_variants_of_the_run() -> None:
    assert {each.variants for each in told()} == {2}
