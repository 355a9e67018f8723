"""What a run has seen so far; it travels in the checkpoints, so that a resumed run tells the whole story."""

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
      skipped: of them left out as non-finite.
      timed_steps, timed_seconds: steps without tracing, and their wall time.
      curve: training terms, a point a chunk.
      held_out: the same terms on held-out images, nats.
      frame_steps, frames: images drawn along the way, uint8 [images, SIDE, SIDE] each, and when.
      best_step, best: of early stopping: the step of the best bound, and that bound in nats.
      worse: evaluations since.
    """

    step: int = 0
    skipped: int = 0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    curve: list[Point] = dataclasses.field(default_factory=list)
    held_out: list[Point] = dataclasses.field(default_factory=list)
    frame_steps: list[int] = dataclasses.field(default_factory=list)
    frames: list[npt.NDArray[np.uint8]] = dataclasses.field(default_factory=list)
    best_step: int = 0
    best: float = -np.inf
    worse: int = 0

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The history as arrays for a checkpoint."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != FRAMES
        }
        text = json.dumps(plain, default=dataclasses.asdict).encode()
        return {RECORD: np.frombuffer(text, np.uint8), FRAMES: np.array(self.frames, np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "History":
        """What `to_arrays` was given."""
        plain = json.loads(arrays[RECORD].tobytes())
        points = {name: [Point(**point) for point in plain[name]] for name in ("curve", "held_out")}
        return cls(**{**plain, **points}, frames=list(arrays[FRAMES]))
