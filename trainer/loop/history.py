"""The record of a run so far; checkpoints carry it, so that a resumed run reports the whole run."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

RECORD, FRAMES = "history", "frames"


@dataclasses.dataclass(frozen=True)
class Point:
    """Means of terms that belong to `step`."""

    step: int
    values: dict[str, float]


@dataclasses.dataclass
class History:
    """A run up to `step`.

    Attributes:
      step: optimizer steps taken.
      timed_steps, timed_seconds: steps without tracing, and their wall time.
      curve: training terms, one point per chunk.
      held_out: the same terms on held-out images, nats.
      frame_steps, frames: images drawn along the way, uint8 [images, SIDE, SIDE] each, and their steps.
    """

    step: int = 0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    curve: list[Point] = dataclasses.field(default_factory=list)
    held_out: list[Point] = dataclasses.field(default_factory=list)
    frame_steps: list[int] = dataclasses.field(default_factory=list)
    frames: list[npt.NDArray[np.uint8]] = dataclasses.field(default_factory=list)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the history as arrays for a checkpoint."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != FRAMES
        }
        text = json.dumps(plain, default=dataclasses.asdict).encode()
        return {RECORD: np.frombuffer(text, np.uint8), FRAMES: np.array(self.frames, np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "History":
        """Return the history that `to_arrays` was called on."""
        plain = json.loads(arrays[RECORD].tobytes())
        points = {name: [Point(**point) for point in plain[name]] for name in ("curve", "held_out")}
        return cls(**{**plain, **points}, frames=list(arrays[FRAMES]))
