import dataclasses
import math

import numpy as np
import pytest

from components.gate.line import State, line, refusal, state
from components.gate.noise import Declared
from components.gate.record import Finding, Record, decide
from components.gate.verdict import Difference

ERA = {"variant": "mlp"}
NOISE = {"elbo": Declared(0.4, seeds=20)}


def difference(mean: float, variance: float = 0.09) -> Difference:
    return Difference(np.asarray(mean), np.asarray(variance), np.asarray(999.0))


def lived(nights: int, last: float, noise: dict[str, Declared] = NOISE) -> Record:
    """An era of quiet nights and one that gains `last` over production, which is the anchor."""
    record = decide(None, ERA, {}, {}, noise).anchored_by(7, "2026-03-02")
    for score in [*0.5 * np.random.default_rng(3).standard_normal(nights), last]:
        gains = {"elbo": difference(score)}
        record = decide(record, ERA, gains, gains, noise)
    return record


def finding(record: Record) -> Finding:
    return record.findings["elbo"]


def test_the_line_of_a_quiet_night_says_what_was_seen_and_what_would_be() -> None:
    text = line(lived(40, -0.2), variants=16)
    assert text.startswith("elbo -0.2 nats (test ±0.6 nats, training ±")
    assert ": noise; a loss of " in text
    assert " would be refused tonight in 99 %; since the anchor of 2026-03-02: " in text
    assert " over 41 nights, alarm at 4.0, now " in text


def test_the_line_says_that_the_alarm_is_not_armed() -> None:
    assert line(lived(2, 0.0), 16).endswith("alarm not armed (3 of 5 nights)")


def test_without_an_anchor_nothing_is_said_of_an_era() -> None:
    record = decide(None, ERA, {"elbo": difference(0.0)}, {}, NOISE)
    assert "anchor" not in line(record, 16)


def test_where_nothing_was_compared_there_is_no_line() -> None:
    assert line(decide(None, ERA, {}, {}, NOISE), 16) == ""


def test_accuracies_are_shown_in_points() -> None:
    gains = {"accuracy": difference(-0.008, 0.003**2)}
    record = decide(None, ERA, gains, {}, {"accuracy": Declared(0.004, seeds=20)})
    assert line(record, 16).startswith("accuracy -0.8 points (test ±0.6 points, training ±1.1 points): noise")


def test_noise_that_was_not_measured_is_said() -> None:
    text = line(lived(10, 0.0, {}), 16)
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


def test_the_line_says_that_trainings_differ_more_than_declared() -> None:
    record = lived(10, 0.0)
    loud = dataclasses.replace(finding(record), above_ceiling=True)
    assert "more than 3 times the declared noise" in line(
        dataclasses.replace(record, findings={"elbo": loud}), 16
    )


def test_a_gain_that_is_not_a_number_still_has_a_line() -> None:
    assert "nan nats" in line(lived(10, math.nan), 16)
