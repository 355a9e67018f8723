from typing import Any

import numpy as np
import pytest

from benchmarks.measure_noise import merged, spreads


def run(elbo: float, accuracy: float = 0.9, profile: str = "smoke", **others: Any) -> dict[str, Any]:
    """The row of m2, which has both headline metrics, and those given."""
    row = {
        "variant": "m2", "profile": profile, "dataset": "mnist", "protocol": "threshold",
        "metrics": {"elbo": {"value": elbo}, "accuracy": {"value": accuracy}},
    }  # fmt: skip
    return {"m2": row, **others}


def test_the_spread_is_the_standard_deviation_over_seeds() -> None:
    values = np.random.default_rng(0).normal(-150, 2, 12)
    elbo, accuracy = spreads([run(value) for value in values], "make measure-noise")
    assert (elbo.metric, elbo.seeds, elbo.profile) == ("elbo", 12, "smoke")
    assert elbo.value == pytest.approx(values.std(ddof=1), rel=0.01)
    assert (accuracy.metric, accuracy.value) == ("accuracy", 0.0)


def test_fewer_than_ten_seeds_measure_nothing() -> None:
    with pytest.raises(ValueError, match="at least 10 seeds"):
        spreads([run(value) for value in range(9)], "")


def test_runs_that_differ_in_more_than_their_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="more than their seed"):
        spreads([run(-1.0)] * 9 + [run(-1.0, profile="quick")], "")
    with pytest.raises(ValueError, match="no row of mlp"):
        spreads([run(-1.0)] * 9 + [run(-1.0, mlp={})], "")


def test_a_new_measurement_takes_the_place_of_the_old_one_and_of_no_other() -> None:
    old = spreads([run(-1.0)] * 10, "old")
    other = spreads([run(-1.0, profile="quick")] * 10, "other")
    new = spreads([run(-1.0)] * 11, "new")
    found = merged([*old, *other], new)
    assert sorted((each.profile, each.metric, each.command) for each in found) == [
        ("quick", "accuracy", "other"),
        ("quick", "elbo", "other"),
        ("smoke", "accuracy", "new"),
        ("smoke", "elbo", "new"),
    ]
