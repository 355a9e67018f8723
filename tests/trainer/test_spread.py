import dataclasses
import json

import pytest

from trainer import spread, variants
from trainer.recipe import PROFILES
from trainer.spread import Spread

ONE = Spread("mlp", "quick", "mnist", "threshold", "accuracy", 0.002, 20, command="make measure-noise")


def test_every_stored_measurement_is_of_a_known_variant_and_names_its_command() -> None:
    for each in spread.measured():
        assert each.variant in variants.names()
        assert each.profile in PROFILES
        assert each.command.startswith("make measure-noise")
        assert (each.metric == "elbo") <= variants.load(each.variant).generative
        assert (each.metric == "accuracy") <= variants.load(each.variant).classifies


def test_a_variant_that_was_not_measured_has_no_spread() -> None:
    assert spread.of("never_measured", "full") == {}


@pytest.mark.parametrize(
    ("change", "reason"), [({"value": -1.0}, "at least 0"), ({"seeds": 9}, "at least 10")]
)
def test_a_measurement_that_cannot_be_is_refused(change: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Spread(**{**dataclasses.asdict(ONE), **change})


def test_measurements_are_written_as_they_are_read() -> None:
    text = spread.as_json([ONE])
    assert [Spread(**each) for each in json.loads(text)] == [ONE]
