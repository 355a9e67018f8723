import dataclasses
import math

import numpy as np
import pytest

from components.gate.line import State, alarm_text, line, refusal, state, warnings
from components.gate.night import Home
from components.gate.noise import Declared
from components.gate.record import Alarm, Anchor, Finding, Limits, Measured, Past, Record, decide
from components.gate.verdict import Difference

ERA = {"variant": "mlp"}
NOISE = {"elbo": Declared(0.4, seeds=20)}


def difference(mean: float, variance: float = 0.09) -> Difference:
    return Difference(np.asarray(mean), np.asarray(variance), np.asarray(999.0))


def lived(nights: int, last: float, noise: dict[str, Declared] = NOISE) -> Record:
    """An era of quiet nights and one that gains `last` over production, which is the anchor."""
    record = decide(None, ERA, {}, {}, noise).anchored_by(Anchor(7, "Trainer.mlp/model/7", "2026-03-02"))
    for score in [*0.5 * np.random.default_rng(3).standard_normal(nights), last]:
        gains = {"elbo": difference(score)}
        measured = {7: Measured(gains, {"elbo": difference(-100.0)})}
        record = decide(record, ERA, gains, measured, noise, Home(variants=16))
    return record


def finding(record: Record) -> Finding:
    return record.findings["elbo"]


def test_the_line_of_a_quiet_night_says_what_was_seen_and_what_would_be() -> None:
    text = line(lived(40, -0.2))
    assert text.startswith("elbo -0.2 nats (test ±0.6 nats, training ±")
    assert ": noise; a loss of " in text
    assert " would be refused tonight in 99 %; since the anchor of 2026-03-02: " in text
    assert " over 41 nights, alarm at 4.0, now " in text


def test_the_line_says_that_the_alarm_is_not_armed() -> None:
    assert line(lived(2, 0.0)).endswith("alarm not armed (3 of 5 nights)")


def test_without_an_anchor_the_alarm_is_not_armed() -> None:
    record = decide(None, ERA, {"elbo": difference(0.0)}, {}, NOISE)
    assert "anchor" not in line(record)
    assert line(record).endswith("alarm not armed (0 of 5 nights)")


def test_where_nothing_was_compared_there_is_no_line() -> None:
    assert line(decide(None, ERA, {}, {}, NOISE)) == ""


def test_accuracies_are_shown_in_points() -> None:
    gains = {"accuracy": difference(-0.008, 0.003**2)}
    record = decide(None, ERA, gains, {}, {"accuracy": Declared(0.004, seeds=20)})
    assert line(record).startswith("accuracy -0.8 points (test ±0.6 points, training ±1.1 points): noise")


def test_noise_that_was_not_measured_is_said() -> None:
    text = line(lived(10, 0.0, {}))
    assert "training noise not measured" in text
    assert text.endswith("alarm not armed (noise of training not measured)")


@pytest.mark.parametrize(("gain", "expected"), [(0.0, State.NOISE), (9.0, State.BETTER), (-9.0, State.BELOW)])
def test_the_state_follows_from_the_finding(gain: float, expected: State) -> None:
    assert state(finding(lived(10, gain))) is expected


def test_a_refusal_by_production_alone_says_so() -> None:
    record = decide(None, ERA, {"elbo": difference(-9.0)}, {}, NOISE)
    assert state(finding(record)) is State.WORSE
    assert "worse than the model in production by more than chance explains; a loss of " in refusal(record)


def test_a_candidate_that_is_not_refused_has_no_refusal() -> None:
    assert refusal(lived(10, 0.0)) == ""


def test_a_warning_says_that_trainings_differ_more_than_declared() -> None:
    record = lived(10, 0.0)
    loud = dataclasses.replace(finding(record), above_ceiling=True)
    [found] = warnings(dataclasses.replace(record, findings={"elbo": loud}))
    assert "more than 3 times the declared noise" in found


def test_a_gain_that_is_not_a_number_still_has_a_line() -> None:
    assert "nan nats" in line(lived(10, math.nan))


def test_a_quiet_night_has_no_warnings_and_no_alarm() -> None:
    assert warnings(lived(40, 0.0)) == ()
    assert alarm_text(lived(40, 0.0)) == ""


def test_warnings_name_the_cause_and_what_to_look_at() -> None:
    record = lived(10, 0.0)
    changed = dataclasses.replace(finding(record), harder=True, detectable=4.0, most_detectable=2.5)
    harder, coarse = warnings(dataclasses.replace(record, findings={"elbo": changed}))
    assert "the data has become harder or its labels worse" in harder
    assert "a loss of 4.0 nats" in coarse
    assert "max_detectable_loss is 2.5 nats" in coarse


def test_an_alarm_says_what_was_lost_here_and_since_the_first_era_and_who_can_end_it() -> None:
    record = dataclasses.replace(
        lived(10, 0.0), alarm=Alarm("2026-04-01", "elbo", 2.0), past=Past(2, {"elbo": 3.0}, "2025-12-01")
    )
    text = alarm_text(record)
    assert text.startswith(
        "alarm for slow decline since 2026-04-01: elbo has lost 2.0 nats against the level "
    )
    assert "before, 5.0 nats since the first era of 2025-12-01, accepted 2 times; nothing is pushed" in text
    assert "`latentline accept mlp`, `rollback` or `resume`" in text
    assert "alarm for slow decline" not in line(record)
    assert refusal(record).endswith(text)


def test_what_was_accepted_is_shown_on_quiet_nights() -> None:
    record = dataclasses.replace(lived(10, 0.0), past=Past(1, {"elbo": 3.0}, "2025-12-01"))
    assert line(record).endswith(
        "3.0 nats of elbo were lost before this era, since the first era of 2025-12-01, accepted once"
    )


@pytest.mark.parametrize("production", [7, 8])
def test_an_unusual_gain_is_refused_or_warned_of_by_what_has_changed(production: int) -> None:
    gains = {"elbo": difference(99.0)}
    limits = Limits(9, production, max_gain={"elbo": 50.0})
    record = decide(Record(ERA, candidates=(7,)), ERA, gains, {}, NOISE, limits=limits)
    figures = "elbo +99.0 nats (test ±0.6 nats) against the model in production, expected at most +50.0 nats"
    if production == 7:
        assert refusal(record).startswith(f"too good to be true: {figures}; look at the labels")
        assert warnings(record) == ()
    else:
        assert refusal(record) == ""
        assert warnings(record)[0].startswith(f"unusual gain: {figures}; that model was trained with other")
