import json

import pytest

from trainer.job import Job
from trainer.recipe import Budget, Recipe

VALUES = {"variant": "cvae", "dataset": "mnist"}


def test_a_job_survives_the_trip_through_json() -> None:
    job = Job.from_dict({**VALUES, "config": {"latent": 3}, "recipe": {"steps": 7}, "seed": 5})
    assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 3}, "job.epochs: no such field; choose from variant, dataset"),
        ({"protocol": "hard"}, "unknown protocol 'hard'; choose from threshold"),
        ({"profile": "slow"}, "unknown profile 'slow'; choose from smoke"),
        ({"seed": -1}, "seed must be between 0 and"),
    ],
)
def test_a_wrong_job_says_what_is_accepted(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Job.from_dict({**VALUES, **wrong})


def test_overrides_of_a_recipe_hold_for_every_profile() -> None:
    recipe = Recipe(steps=Budget(1, 2, 3), floor=Budget(0, 0, 0)).with_overrides(
        {"steps": 9, "batch_size": 4}
    )
    assert [recipe.steps.of(profile) for profile in ("smoke", "quick", "full")] == [9, 9, 9]
    assert recipe.batch_size == 4


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"learning_rate": -1.0}, {"epochs": 3}])
def test_a_wrong_recipe_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(steps=Budget(1, 2, 3), floor=Budget(0, 0, 0)).with_overrides(wrong)
