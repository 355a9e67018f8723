import numpy as np
import pytest

from components.gate.history import History
from components.gate.line import METRICS, State, line, state
from components.gate.night import Home, Judgement, judge
from components.gate.noise import Declared
from components.gate.verdict import Difference

HOME = Home(variants=16)
DECLARED = Declared(0.4, seeds=20)


def difference(mean: float) -> Difference:
    return Difference(np.asarray(mean), np.asarray(0.09), np.asarray(999.0))


def judged(nights: int, gain: float) -> Judgement:
    rng = np.random.default_rng(3)
    history = History.empty()
    for _ in range(nights):
        score = difference(0.5 * rng.standard_normal())
        history = judge(history, score, score, DECLARED, HOME).history
    return judge(history, difference(gain), difference(gain), DECLARED, HOME)


def test_the_line_of_a_quiet_night_says_what_was_seen_and_what_would_be() -> None:
    text = line(METRICS["elbo"], difference(-0.2), judged(40, -0.2), HOME, False, "2026-03-02")
    assert text.startswith("elbo -0.2 nats (test ±0.6 nats, training ±")
    assert ": noise; a loss of " in text
    assert " would be refused tonight in 99 %; since the anchor of 2026-03-02: " in text
    assert " over 41 nights, alarm at 4.0, now " in text


def test_the_line_says_that_the_alarm_is_not_armed() -> None:
    text = line(METRICS["elbo"], difference(0.0), judged(2, 0.0), HOME, False, "2026-03-02")
    assert text.endswith("alarm not armed (3 of 5 nights)")


def test_without_an_anchor_nothing_is_said_of_an_era() -> None:
    assert "anchor" not in line(METRICS["elbo"], difference(0.0), judged(0, 0.0), HOME, False, "")


def test_accuracies_are_shown_in_points() -> None:
    gain = Difference(np.asarray(-0.008), np.asarray(0.003**2), np.asarray(np.inf))
    found = judge(History.empty(), gain, None, Declared(0.004, seeds=20), HOME)
    assert line(METRICS["accuracy"], gain, found, HOME, False, "").startswith(
        "accuracy -0.8 points (test ±0.6 points, training ±1.1 points): noise"
    )


@pytest.mark.parametrize(
    ("gain", "named", "expected"),
    [
        (0.0, False, State.NOISE),
        (9.0, False, State.BETTER),
        (-9.0, True, State.REFUSED),
        (-9.0, False, State.HELD),
    ],
)
def test_the_state_follows_from_verdict_and_warning(gain: float, named: bool, expected: State) -> None:
    assert state(judged(10, gain), difference(gain), named) is expected


def test_an_alarm_comes_before_every_other_state() -> None:
    found = judged(10, 9.0)._replace(alarmed=np.asarray(True))
    assert state(found, difference(9.0), False) is State.ALARM


def test_a_variant_that_is_held_is_told_among_how_many() -> None:
    text = line(METRICS["elbo"], difference(-9.0), judged(10, -9.0), HOME, False, "2026-03-02")
    assert "held: within what chance does among 16 variants" in text


def test_the_line_says_that_trainings_differ_more_than_declared() -> None:
    found = judged(10, 0.0)
    found = found._replace(noise=found.noise._replace(above_ceiling=np.asarray(True)))
    text = line(METRICS["elbo"], difference(0.0), found, HOME, False, "2026-03-02")
    assert "more than 3 times the declared noise" in text
