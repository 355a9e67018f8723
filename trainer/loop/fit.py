"""The training loop: chunks of steps, and between them what makes a run observable and resumable.

A chunk is one graph call (`steps`). Between chunks come progress and TensorBoard, measurements on held-out
images at fixed steps (`watch`), checkpoints (`checkpoints`), and a stop when one is requested. None of it
changes the weights that a seed leads to.
"""

import dataclasses
import time

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.devices import scale
from trainer.loop import data, watch
from trainer.loop.checkpoints import Checkpoints
from trainer.loop.eviction import Eviction
from trainer.loop.history import History, Point
from trainer.loop.progress import Progress
from trainer.loop.steps import NonFiniteLoss, Steps
from trainer.loop.warm import WarmStart
from trainer.models.model import Model
from trainer.recipe import Recipe

__all__ = ["Fitted", "NonFiniteLoss", "Point", "fit"]

FIRST_CHUNK = 20
CHUNK_SECONDS = 1.0
LONGEST_CHUNK = 2_000
CHUNK_IN_STEP = 100


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What training did.

    Attributes:
      steps: optimizer steps taken.
      step_seconds: wall time of the steps alone, without tracing and without measuring on held-out images.
      images_per_second: over those seconds.
      curve: training terms, one point per chunk.
      held_out: the same terms on held-out images.
      frames: images the model drew along the way, uint8 [T, images, SIDE, SIDE]; T is 0 for classifiers.
      frame_steps: the steps of the frames, int64 [T].
    """

    steps: int
    step_seconds: float
    images_per_second: float
    curve: list[Point]
    held_out: list[Point]
    frames: npt.NDArray[np.uint8]
    frame_steps: npt.NDArray[np.int64]


def fit(
    model: Model,
    examples: data.Examples,
    *,
    recipe: Recipe,
    steps: int,
    protocol: str,
    seed: int,
    name: str,
    log_dir: str | None = None,
    held_out: data.Examples | None = None,
    checkpoints: Checkpoints | None = None,
    strategy: tf.distribute.Strategy | None = None,
    start: WarmStart | None = None,
) -> Fitted:
    """Train `model` in place for `steps` steps.

    examples: the training split. name: for progress and errors. log_dir: folder of TensorBoard scalars,
    `train/` and `held_out/`. held_out: images that are only measured on. checkpoints: where to leave them and
    resume from. strategy: under whose scope `model` was built; the default is one device. start: a model to
    start from. Raises NonFiniteLoss, and Evicted on SIGTERM.
    """
    strategy = strategy or tf.distribute.get_strategy()
    run = Run(Steps(model, examples, recipe, protocol, seed, strategy, start, steps), recipe, checkpoints)
    run.resume()
    look = watch.Watch(model, held_out, protocol, steps * recipe.batch_size) if held_out else None
    pace = Pace(steps, run.steps.longest(), scale.in_step(strategy))
    progress = Progress(name, steps, recipe.batch_size, resumed=run.history.step)
    writer = tf.summary.create_file_writer(log_dir) if log_dir else tf.summary.create_noop_writer()
    precise = scale.precision(recipe.mixed_precision)
    with writer.as_default(), Eviction() as eviction, progress, precise:
        run.replay()
        while run.history.step < steps:
            seconds = run.advance(pace.size(run.history.step), name)
            pace.learn(seconds)
            progress.update(run.history.step, run.history.curve[-1].values)
            if look and run.history.step in pace.stops:
                run.measure(look)
            leaving = eviction.asked
            run.checkpoint(force=leaving)
            if leaving:
                eviction.leave(name, run.history.step)
    return run.finish()


class Pace:
    """How many steps to take at once: about CHUNK_SECONDS' worth, and never past a step to measure after.

    The weights do not depend on it. Where several processes take each step together, it must not depend on
    their clocks.
    """

    def __init__(self, steps: int, longest: int | None, in_step: bool) -> None:
        self.stops = set(watch.steps_of(steps))
        self._in_step = in_step
        self._longest = min(longest or LONGEST_CHUNK, LONGEST_CHUNK)
        self._wanted = CHUNK_IN_STEP if in_step else FIRST_CHUNK
        self._taken = 0
        self._traced = False

    def size(self, done: int) -> int:
        """Return the steps of the next chunk, after `done` of the run."""
        stop = min(step for step in self.stops if step > done)
        self._taken = min(self._wanted, self._longest, stop - done)
        return self._taken

    def learn(self, seconds: float) -> None:
        """Adapt to the seconds that the chunk just asked for took."""
        if self._in_step:
            return
        if self._traced:
            wanted = int(self._taken * CHUNK_SECONDS / max(seconds, 1e-3))
            self._wanted = max(1, min(wanted, 4 * self._wanted))
        self._traced = True


class Run:
    """A training run in progress: its steps and its history."""

    def __init__(self, steps: Steps, recipe: Recipe, checkpoints: Checkpoints | None) -> None:
        self.steps = steps
        self.history = History()
        self._recipe, self._checkpoints = recipe, checkpoints
        self._traced = False

    def resume(self) -> None:
        """Restore the latest checkpoint, where there is one."""
        arrays = self._checkpoints.latest() if self._checkpoints else None
        if arrays is None:
            return
        self.history = History.from_arrays(arrays)
        self.steps.state.restore(arrays)

    def replay(self) -> None:
        """Write the points of a resumed run to the TensorBoard log of this execution."""
        for prefix, points in (("train", self.history.curve), ("held_out", self.history.held_out)):
            for point in points:
                _scalars(prefix, point)

    def advance(self, size: int, name: str) -> float:
        """Take `size` steps; return the seconds they took."""
        history = self.history
        started = time.perf_counter()
        means = self.steps.run(history.step, size, name)
        seconds = time.perf_counter() - started
        history.step += size
        if self._traced:  # the first call of a process also traces
            history.timed_steps += size
            history.timed_seconds += seconds
        self._traced = True
        history.curve.append(Point(history.step, means))
        _scalars("train", history.curve[-1])
        return seconds

    def measure(self, look: watch.Watch) -> None:
        """Record the terms on held-out images, and the images that the model draws."""
        history = self.history
        with self.steps.state.averaged():
            history.held_out.append(Point(history.step, look.terms()))
            _scalars("held_out", history.held_out[-1])
            drawn = look.frame()
            if drawn is not None:
                history.frames.append(drawn)
                history.frame_steps.append(history.step)

    def checkpoint(self, force: bool) -> None:
        """Write a checkpoint if it is time, or in any case with `force`."""
        if self._checkpoints and (force or self._checkpoints.due()):
            arrays = {**self.steps.state.snapshot(), **self.history.to_arrays()}
            self._checkpoints.save(self.history.step, arrays)

    def finish(self) -> Fitted:
        """Give the model its final weights and return what training did."""
        history = self.history
        self.steps.state.take_averages()
        rate = history.timed_steps * self._recipe.batch_size / max(history.timed_seconds, 1e-9)
        return Fitted(
            steps=history.step,
            step_seconds=history.timed_seconds,
            images_per_second=rate,
            curve=history.curve,
            held_out=history.held_out,
            frames=np.array(history.frames, np.uint8),
            frame_steps=np.array(history.frame_steps, np.int64),
        )


def _scalars(prefix: str, point: Point) -> None:
    for term, value in point.values.items():
        tf.summary.scalar(f"{prefix}/{term}", value, step=point.step)
