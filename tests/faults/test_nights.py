"""Ten nights, some of them bad: what reached production."""

import pathlib
from typing import Any

import nights
import pytest

from components.ingest import sources

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def mornings(tmp_path_factory: pytest.TempPathFactory) -> list[nights.Morning]:
    home: pathlib.Path = tmp_path_factory.mktemp("nights")
    return list(nights.nights(home, sources.digits(), ["--variants", "mlp", "--profile", "quick"]))


def test_a_good_night_ends_well_and_a_bad_delivery_does_not_stay_unsaid(
    mornings: list[nights.Morning],
) -> None:
    for morning in mornings:
        if morning.delivery.good:
            assert morning.code == 0, morning.err
        elif morning.delivery.spoil is None:
            assert "holds no files yet" in morning.out
            assert "nothing to do" in morning.out
        else:
            assert morning.status_code > 0, morning.status_text


def test_only_models_of_good_deliveries_are_in_production(mornings: list[nights.Morning]) -> None:
    pushed = [morning for morning in mornings if "pushed" in str(production(morning)["result"])]
    assert len(pushed) >= 2
    assert all(morning.delivery.good for morning in pushed)


def production(morning: nights.Morning) -> Any:
    """What became of the variant that night."""
    return morning.status["last"]["variants"].get("mlp", {"result": "none"})
