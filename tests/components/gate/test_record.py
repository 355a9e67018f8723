import dataclasses
import json
import math

import numpy as np
import pytest

from components.gate import alarm
from components.gate.night import Home
from components.gate.noise import Declared
from components.gate.record import Anchor, Limits, Measured, Record, decide
from components.gate.verdict import Difference

ERA = {"variant": "mlp", "profile": "quick"}
NOISE = {"elbo": Declared(0.4, seeds=20), "accuracy": Declared(0.004, seeds=20)}


def difference(mean: float, variance: float = 0.09) -> Difference:
    return Difference(np.asarray(mean), np.asarray(variance), np.asarray(999.0))


def anchor(model: int, date: str = "2026-03-02") -> Anchor:
    return Anchor(model, f"Trainer.mlp/model/{model}", date)


def measured(record: Record | None, score: dict[str, Difference], own: float = -100.0) -> dict[int, Measured]:
    """The same score over every anchor of the record, whose own elbo is `own`."""
    return {
        each.model: Measured(score, {name: difference(own) for name in score})
        for each in (record.anchors if record else ())
    }


def night(
    earlier: Record | None,
    elbo: float,
    era: dict[str, str] = ERA,
    own: float = -100.0,
    date: str = "2026-04-01",
) -> Record:
    """A night whose candidate differs by `elbo` from production and from the anchors."""
    gains = {"elbo": difference(elbo)}
    return decide(earlier, era, gains, measured(earlier, gains, own), NOISE, date=date)


def lived(nights: int, *anchors: int) -> Record:
    record = decide(None, ERA, {}, {}, NOISE)
    for model in anchors or (7,):
        record = record.anchored_by(anchor(model))
    for number in range(nights):
        record = night(record, 0.1 * (-1) ** number)
    return record


def test_without_production_nothing_is_compared_and_the_blessed_model_becomes_the_anchor() -> None:
    record = decide(None, ERA, {}, {}, NOISE)
    assert (record.refused, record.chance, record.nights, record.anchor) == (False, 1.0, 0, None)
    assert record.anchored_by(anchor(7)).anchor == anchor(7)


def test_the_anchor_of_an_era_stays_and_the_second_blessed_model_is_its_spare() -> None:
    record = lived(3)
    assert record.anchored_by(anchor(7)).spare is None
    with_spare = record.anchored_by(anchor(99)).anchored_by(anchor(100))
    assert [each.model for each in with_spare.anchors] == [7, 99]


def test_each_compared_candidate_counts_once_refused_or_not() -> None:
    record = lived(4)
    refused = night(record, -30.0)
    assert refused.refused
    assert refused.nights == 5


def test_a_night_of_another_era_begins_anew() -> None:
    fresh = night(lived(9), 0.0, {**ERA, "profile": "full"})
    assert (fresh.nights, fresh.anchor) == (0, None)


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
    assert decide(lived(20), ERA, loss, measured(lived(20), none), {}).refused
    unmeasured = decide(lived(20), ERA, none, measured(lived(20), loss), {})
    assert not unmeasured.refused
    assert unmeasured.nights == 21
    assert unmeasured.findings["elbo"].decline == -math.inf


@pytest.mark.parametrize("mean", [math.nan, -math.inf])
def test_a_gain_that_is_not_a_number_is_refused(mean: float) -> None:
    record = night(lived(8), mean)
    assert record.refused
    assert Record.from_json(record.to_json()).refused


def declined(*anchors: int) -> Record:
    """Forty quiet nights, then nights that lose 1.5 nats against their level, until the alarm."""
    record = lived(40, *anchors)
    for _ in range(20):
        record = night(record, -1.5)
        if record.alarm:
            return record
    raise AssertionError("no alarm was raised")


def level(record: Record) -> float:
    assert record.anchor is not None
    return float(record.anchor.histories["elbo"].level().mean)


def test_an_alarm_says_what_was_lost_and_stands_though_later_nights_are_good() -> None:
    record = declined()
    assert record.alarm is not None
    assert (record.alarm.metric, record.alarm.raised) == ("elbo", "2026-04-01")
    assert record.alarm.loss == pytest.approx(1.5, abs=0.4)
    assert record.lost["elbo"] == record.alarm.loss
    for number in range(30):
        record = night(record, 0.3, date=f"2026-05-{number + 1:02d}")
    assert record.alarm is not None
    assert record.alarm.raised == "2026-04-01"
    assert Record.from_json(record.to_json()).alarm == record.alarm


def test_nights_under_an_alarm_are_counted() -> None:
    record = declined()
    assert night(record, -1.5).nights == record.nights + 1


def test_after_resume_the_anchors_stay_and_nights_count_against_the_old_level() -> None:
    quiet, record = level(lived(40)), declined(7, 8)
    for _ in range(9):
        record = night(record, -1.5)
    assert level(record) < quiet - 0.2
    resumed = record.resumed()
    assert resumed.alarm is None
    assert [each.model for each in resumed.anchors] == [7, 8]
    assert level(resumed) == pytest.approx(quiet, abs=0.1)
    assert night(resumed, 0.0).alarm is None
    again = resumed
    for _ in range(20):
        again = night(again, -1.5)
    assert again.alarm is not None


def test_accepting_begins_an_era_and_counts_what_was_lost() -> None:
    first = declined().accepted()
    assert (first.alarm, first.anchors, first.nights) == (None, (), 0)
    assert (first.past.accepted, first.past.since) == (1, "2026-03-02")
    record = first.anchored_by(anchor(70, "2026-06-01"))
    for number in range(40):
        record = night(record, 0.1 * (-1) ** number)
    while not record.alarm:
        record = night(record, -1.5)
    second = record.accepted()
    assert second.past.accepted == 2
    assert second.past.since == "2026-03-02"
    assert second.past.loss["elbo"] == pytest.approx(3.0, abs=0.8)
    assert Record.from_json(second.to_json()).past == second.past


def test_a_change_of_settings_does_not_end_an_alarm_and_its_end_is_then_an_end() -> None:
    record = declined()
    elsewhere = night(record, 0.0, {**ERA, "profile": "full"})
    assert (elsewhere.alarm, elsewhere.anchors) == (record.alarm, ())
    assert elsewhere.resumed().alarm is None
    assert elsewhere.accepted().past.loss == {"elbo": record.alarm.loss if record.alarm else 0.0}


def test_a_spare_knows_the_nights_since_it_was_blessed_and_takes_the_place_of_a_lost_anchor() -> None:
    record = lived(10).anchored_by(anchor(8))
    for _ in range(12):
        record = night(record, 0.0)
    spared = record.without([7])
    assert spared.anchor is not None
    assert (spared.anchor.model, spared.spare, spared.nights) == (8, None, 12)
    assert record.without([8]).nights == 22
    assert record.without([7, 8]).anchors == ()


def test_each_further_metric_is_a_further_chance_of_a_false_alarm() -> None:
    gains = {"elbo": difference(0.0), "accuracy": difference(0.0, 1e-5)}
    record = decide(None, ERA, gains, {}, NOISE, Home(variants=8))
    assert record.findings["elbo"].alarm_at == alarm.threshold(16)


@pytest.mark.parametrize(("fall", "harder"), [(0.0, False), (0.1, False), (-30.0, False), (9.0, True)])
def test_an_anchor_that_does_worse_by_itself_says_that_the_data_is_harder(fall: float, harder: bool) -> None:
    record = lived(0)
    for number in range(20):
        record = night(record, 0.0, own=-100.0 + 0.1 * (-1) ** number)
    for _ in range(4):
        record = night(record, 0.0, own=-100.0 - fall)
    assert record.findings["elbo"].harder is harder


def test_test_splits_that_always_differ_are_no_harder_data() -> None:
    """Their differences are learned from the nights themselves: a split as hard as some before is nothing."""
    rng, record, said = np.random.default_rng(5), lived(0), 0
    for _ in range(200):
        record = night(record, 0.0, own=-100.0 + 3 * float(rng.standard_normal()))
        said += record.findings["elbo"].harder
    assert said <= 4


LIMITS = {"elbo": 50.0, "accuracy": 0.2}


def gained(elbo: float, accuracy: float = 0.0, production: int = 7, earlier: Record | None = None) -> Record:
    gains = {"elbo": difference(elbo, 1.0), "accuracy": difference(accuracy, 1e-4)}
    limits = Limits(candidate=9, production=production, max_gain=LIMITS)
    before = earlier or Record(ERA, candidates=(7,))
    return decide(before, ERA, gains, {}, NOISE, limits=limits)


@pytest.mark.parametrize(
    ("elbo", "accuracy", "refused"),
    [(49.0, 0.19, False), (51.0, 0.0, False), (53.0, 0.0, True), (0.0, 0.21, False), (0.0, 0.23, True)],
)
def test_a_gain_that_new_data_cannot_bring_is_refused_once_its_interval_lies_above_the_limit(
    elbo: float, accuracy: float, refused: bool
) -> None:
    assert gained(elbo, accuracy).too_good is refused
    assert gained(elbo, accuracy).refused is refused


def test_a_gain_over_a_model_of_other_settings_is_not_limited() -> None:
    assert not gained(500.0, production=3).refused
    assert gained(500.0, production=3).findings["elbo"].implausible
    elsewhere = Record({**ERA, "profile": "full"}, candidates=(7,))
    assert not gained(500.0, earlier=elsewhere).refused


def test_candidates_of_an_era_are_known_whether_they_were_blessed_or_not() -> None:
    record = gained(0.0)
    assert record.candidates == (7, 9)
    assert gained(0.0, earlier=record).candidates == (7, 9)
    assert Record.from_json(record.to_json()).candidates == (7, 9)
    assert night(record, 0.0, {**ERA, "profile": "full"}).candidates == ()


def test_without_any_record_a_gain_over_production_is_limited() -> None:
    gains = {"elbo": difference(500.0, 1.0)}
    assert decide(None, ERA, gains, {}, NOISE, limits=Limits(9, 7, max_gain=LIMITS)).too_good
