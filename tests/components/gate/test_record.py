import dataclasses
import json
import math

import numpy as np
import pytest

from components.gate.noise import Declared
from components.gate.record import Record, decide
from components.gate.verdict import Difference

ERA = {"variant": "mlp", "profile": "quick"}
NOISE = {"elbo": Declared(0.4, seeds=20), "accuracy": Declared(0.004, seeds=20)}


def difference(mean: float, variance: float = 0.09) -> Difference:
    return Difference(np.asarray(mean), np.asarray(variance), np.asarray(999.0))


def night(earlier: Record | None, elbo: float, era: dict[str, str] = ERA) -> Record:
    """A night whose candidate differs by `elbo` from production and from the anchor, which are one model."""
    gains = {"elbo": difference(elbo)}
    return decide(earlier, era, gains, gains if earlier and earlier.anchor else {}, NOISE)


def lived(nights: int) -> Record:
    record = decide(None, ERA, {}, {}, NOISE).anchored_by(7, "2026-03-02")
    for number in range(nights):
        record = night(record, 0.1 * (-1) ** number)
    return record


def test_without_production_nothing_is_compared_and_the_blessed_model_becomes_the_anchor() -> None:
    record = decide(None, ERA, {}, {}, NOISE)
    assert (record.refused, record.chance, record.nights, record.anchor) == (False, 1.0, 0, 0)
    assert record.anchored_by(7, "2026-03-02").anchor == 7


def test_the_anchor_of_an_era_stays() -> None:
    assert lived(3).anchored_by(99, "2027-01-01").anchor == 7


def test_each_compared_candidate_counts_once_refused_or_not() -> None:
    record = lived(4)
    refused = night(record, -30.0)
    assert refused.refused
    assert refused.nights == 5


def test_a_night_of_another_era_begins_anew() -> None:
    fresh = night(lived(9), 0.0, {**ERA, "profile": "full"})
    assert (fresh.nights, fresh.anchor) == (0, 0)


@pytest.mark.parametrize("nights", [0, 1, 12, 70])
def test_a_record_comes_back_from_json_and_goes_on_alike(nights: int) -> None:
    record = lived(nights)
    back = Record.from_json(record.to_json())
    assert back.to_json() == record.to_json()
    assert night(back, -1.0).to_json() == night(record, -1.0).to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"findings": 1}', "[" * 100_000])
def test_a_record_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        Record.from_json(text)


def test_a_record_with_an_unknown_field_is_an_error() -> None:
    stored = json.loads(lived(2).to_json()) | {"unknown": 1}
    with pytest.raises(ValueError, match="cannot be read"):
        Record.from_json(json.dumps(stored))


@pytest.mark.parametrize(("elbo", "accuracy", "refused"), [(0, 0, False), (-9, 0.1, True), (9, -0.1, True)])
def test_of_two_metrics_either_refuses(elbo: float, accuracy: float, refused: bool) -> None:
    gains = {"elbo": difference(elbo), "accuracy": difference(accuracy, 1e-5)}
    assert decide(None, ERA, gains, {}, NOISE).refused is refused


def test_two_metrics_are_tested_at_half_the_level_each() -> None:
    """A loss that one metric alone refuses just so is accepted where there is a second one."""
    loss = -2.65 * math.sqrt(2 * 0.4**2 + 0.09)
    exact = {"elbo": dataclasses.replace(NOISE["elbo"], seeds=10**6), "accuracy": NOISE["accuracy"]}
    alone = {"elbo": difference(loss)}
    both = {**alone, "accuracy": difference(0.0, 1e-5)}
    assert decide(None, ERA, alone, {}, exact).refused
    assert not decide(None, ERA, both, {}, exact).refused


def test_where_the_noise_was_never_measured_production_decides_and_no_alarm_is_armed() -> None:
    loss, none = {"elbo": difference(-1.2)}, {"elbo": difference(0.0)}
    assert not decide(None, ERA, loss, {}, NOISE).refused
    assert decide(lived(20), ERA, loss, none, {}).refused
    unmeasured = decide(lived(20), ERA, none, {"elbo": difference(-1.2)}, {})
    assert not unmeasured.refused
    assert unmeasured.nights == 21
    assert unmeasured.findings["elbo"].decline == -math.inf


@pytest.mark.parametrize("mean", [math.nan, -math.inf])
def test_a_gain_that_is_not_a_number_is_refused(mean: float) -> None:
    record = decide(lived(8), ERA, {"elbo": difference(mean)}, {"elbo": difference(mean)}, NOISE)
    assert record.refused
    assert Record.from_json(record.to_json()).refused
