"""The training loop: chunks of steps, and between them what a run needs to be watched and to survive.

A chunk is one graph call (`steps`). Between chunks: progress and TensorBoard, held-out terms at fixed steps
(`watch`), checkpoints (`checkpoints`), early stopping, and leaving when told to. None of it changes the
weights that a seed leads to.
"""

import dataclasses
import time
from typing import Any

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
from trainer.recipe import HELD_OUT, Recipe

__all__ = ["Fitted", "NonFiniteLoss", "Point", "fit"]

FIRST_CHUNK = 20
CHUNK_SECONDS = 1.0
LONGEST_CHUNK = 2_000
CHUNK_IN_STEP = 100
BEST = "best_{}"


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What training did.

    Attributes:
      steps: optimizer steps taken.
      step_seconds: wall time of the steps alone, without tracing and without looking at the model.
      images_per_second: over those.
      curve: training terms, a point a chunk.
      held_out: the same terms on held-out images.
      skipped: steps left out as non-finite.
      best_step: where early stopping found the weights that the model ends with; the last step without it.
      frames: images the model drew along the way, uint8 [T, images, SIDE, SIDE]; T is 0 for classifiers.
      frame_steps: when, int64 [T].
    """

    steps: int
    step_seconds: float
    images_per_second: float
    curve: list[Point]
    held_out: list[Point]
    skipped: int
    best_step: int
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

    examples: the training split. name: for progress and errors. log_dir: TensorBoard scalars, `train/` and
    `held_out/`. held_out: images that are only looked at. checkpoints: where to leave them and go on from.
    strategy: under whose scope `model` was built; the default is one device. start: from another model.
    Raises NonFiniteLoss, and Evicted on SIGTERM.
    """
    strategy = strategy or tf.distribute.get_strategy()
    validation = None
    if recipe.patience:
        examples, validation = data.split(examples, HELD_OUT)
    run = Run(Steps(model, examples, recipe, protocol, seed, strategy, start), recipe, checkpoints)
    run.resume()
    trained = steps * recipe.batch_size
    looks = [
        watch.Watch(model, images, protocol, trained) if images else None for images in (held_out, validation)
    ]
    pace = Pace(steps, recipe, run.steps.longest(), scale.in_step(strategy))
    progress = Progress(name, steps, recipe.batch_size, resumed=run.history.step)
    writer = tf.summary.create_file_writer(log_dir) if log_dir else tf.summary.create_noop_writer()
    precise = scale.precision(recipe.mixed_precision)
    with writer.as_default(), Eviction() as eviction, progress, precise:
        run.replay()
        while run.history.step < steps and not run.out_of_patience():
            seconds = run.advance(pace.size(run.history.step), name)
            pace.learn(seconds)
            progress.update(run.history.step, run.history.curve[-1].values)
            if run.history.step in pace.stops:
                run.look(*looks)
            leaving = eviction.asked
            run.checkpoint(force=leaving)
            if leaving:
                eviction.leave(name, run.history.step)
    return run.finish()


class Pace:
    """How many steps to take at once: about CHUNK_SECONDS' worth, and never past a step to look at.

    The weights do not depend on it. Where several processes take each step together it must not depend on
    their clocks.
    """

    def __init__(self, steps: int, recipe: Recipe, longest: int | None, in_step: bool) -> None:
        self.stops = set(
            watch.steps_of(steps, watch.POINTS_WITH_PATIENCE if recipe.patience else watch.POINTS)
        )
        self._in_step = in_step
        self._longest = min(longest or LONGEST_CHUNK, LONGEST_CHUNK)
        self._wanted = CHUNK_IN_STEP if in_step else FIRST_CHUNK
        self._taken = 0
        self._traced = False

    def size(self, done: int) -> int:
        """Steps of the next chunk, after `done` of the run."""
        stop = min(step for step in self.stops if step > done)
        self._taken = min(self._wanted, self._longest, stop - done)
        return self._taken

    def learn(self, seconds: float) -> None:
        """Take note that the chunk just asked for took so long."""
        if self._in_step:
            return
        if self._traced:
            wanted = int(self._taken * CHUNK_SECONDS / max(seconds, 1e-3))
            self._wanted = max(1, min(wanted, 4 * self._wanted))
        self._traced = True


class Run:
    """Training under way: its steps and its history."""

    def __init__(self, steps: Steps, recipe: Recipe, checkpoints: Checkpoints | None) -> None:
        self.steps = steps
        self.history = History()
        self._recipe, self._checkpoints = recipe, checkpoints
        self._best: dict[str, npt.NDArray[Any]] = {}
        self._traced = False

    def resume(self) -> None:
        """Go back to the latest checkpoint, where there is one."""
        arrays = self._checkpoints.latest() if self._checkpoints else None
        if arrays is None:
            return
        self.history = History.from_arrays(arrays)
        self.steps.restore(arrays)
        prefix = BEST.format("")
        self._best = {key.removeprefix(prefix): v for key, v in arrays.items() if key.startswith(prefix)}

    def replay(self) -> None:
        """Write what a resumed run saw before to the TensorBoard log of this execution."""
        for prefix, points in (("train", self.history.curve), ("held_out", self.history.held_out)):
            for point in points:
                _scalars(prefix, point)

    def advance(self, size: int, name: str) -> float:
        """Take `size` steps; the seconds that took."""
        history = self.history
        started = time.perf_counter()
        taken = self.steps.run(history.step, size, name, history.skipped)
        seconds = time.perf_counter() - started
        history.step += size
        history.skipped = taken.skipped
        if self._traced:  # the first call of a process also traces
            history.timed_steps += size
            history.timed_seconds += seconds
        self._traced = True
        history.curve.append(Point(history.step, taken.means))
        _scalars("train", history.curve[-1])
        return seconds

    def look(self, held_out: watch.Watch | None, validation: watch.Watch | None) -> None:
        """Record how the model does on held-out images, and what it draws."""
        history = self.history
        with self.steps.averaged():
            if held_out:
                history.held_out.append(Point(history.step, held_out.terms()))
                _scalars("held_out", history.held_out[-1])
                drawn = held_out.frame()
                if drawn is not None:
                    history.frames.append(drawn)
                    history.frame_steps.append(history.step)
            if validation:
                self._validate(validation.validation_score())

    def checkpoint(self, force: bool) -> None:
        """Leave a checkpoint if it is time, or in any case with `force`."""
        if self._checkpoints and (force or self._checkpoints.due()):
            best = {BEST.format(name): value for name, value in self._best.items()}
            arrays = {**self.steps.snapshot(), **best, **self.history.to_arrays()}
            self._checkpoints.save(self.history.step, arrays)

    def out_of_patience(self) -> bool:
        """Whether early stopping has waited long enough for a better bound."""
        return 0 < self._recipe.patience <= self.history.worse

    def finish(self) -> Fitted:
        """Give the model its final weights; what training did."""
        history = self.history
        if self._best:
            self.steps.set_weights(self._best)
        else:
            self.steps.take_averages()
        rate = history.timed_steps * self._recipe.batch_size / max(history.timed_seconds, 1e-9)
        return Fitted(
            steps=history.step,
            step_seconds=history.timed_seconds,
            images_per_second=rate,
            curve=history.curve,
            held_out=history.held_out,
            skipped=history.skipped,
            best_step=history.best_step if self._best else history.step,
            frames=np.array(history.frames, np.uint8),
            frame_steps=np.array(history.frame_steps, np.int64),
        )

    def _validate(self, validation_score: float) -> None:
        history = self.history
        history.worse += 1
        if validation_score > history.best:
            history.best, history.best_step, history.worse = validation_score, history.step, 0
            self._best = self.steps.weights()


def _scalars(prefix: str, point: Point) -> None:
    for term, value in point.values.items():
        tf.summary.scalar(f"{prefix}/{term}", value, step=point.step)
