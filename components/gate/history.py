"""The nights of an era: what is kept of them, and the level that they have."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.gate.noise import Array

KEPT = 60
"""Newest nights that are kept one by one; of the older ones the sums are enough."""

CLIP = 2.75
"""Standard deviations that a night may count.

At 3, one night of nonsense raises an alarm in 17 % of homes; at 2.5, a fast decline is found a night later.
"""


class Level(NamedTuple):
    """The mean of the clipped scores of all nights, the nights, and the test variance of the mean; [...]."""

    mean: Array
    nights: Array
    test_variance: Array


@dataclasses.dataclass(frozen=True)
class History:
    """The compared candidates of an era, of one variant or of a batch of variants that lived apart.

    A score is candidate minus anchor in the headline metric's unit, on its night's test split.

    Attributes:
      scores: [..., KEPT], the newest last, nan before the first night.
      clipped: as `scores`, but no further than CLIP standard deviations from the level of their night.
      test_variances: squared standard errors of `scores`, [..., KEPT].
      nights: compared candidates of the era, [...].
      total: sum of the clipped scores of all nights, [...].
      total_test_variance: sum of the test variances of all nights, [...].
    """

    scores: Array
    clipped: Array
    test_variances: Array
    nights: Array
    total: Array
    total_test_variance: Array

    @classmethod
    def empty(cls, *shape: int) -> "History":
        """Return an era without nights, for a batch of the given shape."""
        absent = np.full((*shape, KEPT), np.nan)
        none = np.zeros(shape)
        return cls(absent, absent, absent, none, none, none)

    def level(self) -> Level:
        """Return the mean of all nights; without nights it is 0."""
        nights = np.maximum(self.nights, 1)
        return Level(self.total / nights, self.nights, self.total_test_variance / nights**2)

    def with_night(self, score: Array, test_variance: Array, training_variance: Array) -> "History":
        """Return the history with one more night, clipped around the level of the nights before it.

        For the level that is clipped around, the anchor counts as one night with score 0, so that a first
        night of nonsense does not become the level. A score that is not a number counts as the lowest that a
        night can have. training_variance: of one training, as estimated from earlier nights.
        """
        center = self.total / (self.nights + 1)
        spread = np.sqrt(training_variance * (1 + 1 / (self.nights + 1)) + test_variance)
        low, high = center - CLIP * spread, center + CLIP * spread
        known = np.where(np.isfinite(score), score, low)
        clipped = np.clip(known, low, high)
        return History(
            _appended(self.scores, known),
            _appended(self.clipped, clipped),
            _appended(self.test_variances, test_variance),
            self.nights + 1,
            self.total + clipped,
            self.total_test_variance + test_variance,
        )

    def without_newest(self, count: int) -> "History":
        """Return the history of one variant as it was `count` nights ago, an empty one before its beginning.

        It is empty as well where so many nights are not kept one by one.
        """
        kept = int(np.isfinite(self.clipped).sum())
        if count >= min(float(self.nights), kept + 1):
            return History.empty()
        scores, clipped, test_variances = (
            np.concatenate([np.full(count, np.nan), values[: KEPT - count]])
            for values in (self.scores, self.clipped, self.test_variances)
        )
        return History(
            scores,
            clipped,
            test_variances,
            self.nights - count,
            self.total - self.clipped[KEPT - count :].sum(),
            self.total_test_variance - self.test_variances[KEPT - count :].sum(),
        )

    def mean_of_newest(self, count: int) -> float:
        """Return the mean clipped score of the newest `count` nights of one variant; 0 without nights."""
        known = self.clipped[np.isfinite(self.clipped)][-count:]
        return float(known.mean()) if known.size else 0.0

    def renewed(self, which: npt.NDArray[np.bool_]) -> "History":
        """Return the history with a new era, without nights, for those members that `which` names."""
        fresh = History.empty(*self.nights.shape)
        return History(
            *(
                np.where(which[..., None] if old.ndim > which.ndim else which, new, old)
                for old, new in zip(dataclasses.astuple(self), dataclasses.astuple(fresh), strict=True)
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return the history of one variant in the form that `from_json` reads."""
        kept = int(np.isfinite(self.clipped).sum())
        return {
            **{
                name: [float(value) for value in getattr(self, name)[KEPT - kept :]]
                for name in ("scores", "clipped", "test_variances")
            },
            "nights": int(self.nights),
            "total": float(self.total),
            "total_test_variance": float(self.total_test_variance),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "History":
        """Return the history of one variant. Raises ValueError where `stored` is not what `to_json` gave."""
        names = [field.name for field in dataclasses.fields(cls)]
        if sorted(stored) != sorted(names):
            raise ValueError(f"the gate's history has the fields {sorted(stored)}; expected {sorted(names)}")
        nights = int(stored["nights"])
        columns = [np.asarray(stored[name], np.float64) for name in names[:3]]
        if any(column.shape != columns[0].shape for column in columns) or columns[0].ndim != 1:
            raise ValueError("the gate's history has unequal numbers of scores and variances")
        if not columns[0].size <= min(nights, KEPT):
            raise ValueError(f"the gate's history of {nights} nights has {columns[0].size} scores")
        padded = [np.concatenate([np.full(KEPT - column.size, np.nan), column]) for column in columns]
        sums = [np.asarray(float(stored[name])) for name in names[3:]]
        if not all(np.all(np.isfinite(array)) for array in (*columns, *sums)):
            raise ValueError("the gate's history has scores that are not finite numbers")
        return cls(*padded, *sums)


def _appended(values: Array, newest: Array) -> Array:
    return np.concatenate([values[..., 1:], np.broadcast_to(newest, values.shape[:-1])[..., None]], axis=-1)
