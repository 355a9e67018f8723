"""One night of one variant: the verdict, the alarm, and the history that the next night starts from."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.gate import alarm, noise
from components.gate.history import History
from components.gate.noise import Array, Declared, Noise
from components.gate.verdict import LEVEL, Difference, Verdict, verdict


class Home(NamedTuple):
    """What the gate has to know of the home: its variants, and the correlation of successive trainings."""

    variants: int
    correlation: float = 0.0


class Judgement(NamedTuple):
    """What the gate makes of a night.

    verdict: on the candidate. noise: of training, as known before the night. history: with the night.
    decline: the alarm's z, -inf while it is not armed. alarmed: whether it exceeds the home's threshold.
    """

    verdict: Verdict
    noise: Noise
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
    known = noise.estimate(history.scores, history.test_variances, history.nights, declared, home.correlation)
    found = verdict(gain, score if against_level else None, history.level(), known, alpha, home.correlation)
    if score is not None:
        history = history.with_night(score.mean, score.variance, known.variance)
    decline = alarm.statistic(history, known, home.correlation)
    return Judgement(found, known, history, decline, decline > alarm.threshold(home.variants))
