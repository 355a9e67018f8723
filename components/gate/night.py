"""One night of one variant: the verdict, the alarm, and the history that the next night starts from."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.gate import alarm, correlation, noise
from components.gate.history import History
from components.gate.noise import Array, Declared, Noise
from components.gate.verdict import LEVEL, Difference, Verdict, verdict


class Home(NamedTuple):
    """What the gate has to know of the home.

    variants: their number. correlation: assumed between the trainings of successive nights until it can be
    estimated; 0 where each begins anew, on data of its own.
    """

    variants: int
    correlation: float = 0.0


class Judgement(NamedTuple):
    """What the gate makes of a night.

    verdict: on the candidate. noise: of training, as known before the night. correlation: of the trainings of
    successive nights, likewise. history: with the night. decline: the alarm's z, -inf while it is not armed.
    alarmed: whether it exceeds the home's threshold.
    """

    verdict: Verdict
    noise: Noise
    correlation: Array
    history: History
    decline: Array
    alarmed: npt.NDArray[np.bool_]


def judge(
    history: History,
    gain: Difference,
    score: Difference | None,
    declared: Declared,
    home: Home,
    alpha: float = LEVEL,
    against_level: bool = True,
) -> Judgement:
    """Judge the candidate of a night by its era's earlier nights.

    gain: candidate minus production. score: candidate minus anchor, None where the era has none yet: then the
    night is not counted. declared: the recipe's noise of training. alpha: level of each comparison.
    against_level: whether to compare with the era's earlier nights, beside production. All arrays are [...],
    one variant or many.
    """
    linked = correlation.of_nights(history, home.correlation)
    known = noise.estimate(history.scores, history.test_variances, history.nights, declared, linked)
    found = verdict(gain, score if against_level else None, history.level(), known, alpha, linked)
    if score is not None:
        history = history.with_night(score.mean, score.variance, known.variance)
    decline = alarm.statistic(history, known, linked)
    return Judgement(found, known, linked, history, decline, decline > alarm.threshold(home.variants))
