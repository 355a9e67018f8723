"""What is measured while a model trains: its terms on held-out images, and the images that it draws."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import SIDE
from trainer.binarize import to_images
from trainer.loop import data
from trainer.models.model import Batch, GenerativeModel, Model

POINTS = 12
"""Evenly spaced steps of a run at which to measure, the last one among them."""
MOST_IMAGES, LEAST_IMAGES = 1_000, 100
IMAGES_A_STEP = 1 / 80
"""Held-out images per image trained on, which keeps the measuring to a few percent of a run."""
SLICE = 250
FRAME_IMAGES = 25
NOISE = (1, 0)


def steps_of(steps: int) -> list[int]:
    """Return the steps to measure after in a run of `steps`, ascending."""
    return sorted({max(1, round(steps * (point + 1) / POINTS)) for point in range(POINTS)})


class Watch:
    """Held-out images and the model that is measured on them; measuring leaves the model unchanged.

    trained: images that the run will train on in all, which decides how many held-out ones it can afford.
    """

    def __init__(self, model: Model, held_out: data.Examples, protocol: str, trained: int) -> None:
        self._model = model
        self._draw: Any = tf.function(self._sample, autograph=False)
        count = min(max(int(trained * IMAGES_A_STEP), LEAST_IMAGES), MOST_IMAGES, len(held_out.labels))
        pixels, labels = data.rows(held_out, np.arange(count))
        images = to_images(tf.constant(pixels), protocol)
        self._slices = [
            Batch(images[first : first + SLICE], tf.constant(labels[first : first + SLICE]))
            for first in range(0, count, SLICE)
        ]

    def terms(self) -> dict[str, float]:
        """Return means of the training losses and terms, in nats, under the same noise each time."""
        phases = self._model.phases()
        found: dict[str, list[Any]] = {}
        learned = {id(variable) for variable in self._model.learned()}
        statistics = [variable for variable in self._model.state() if id(variable) not in learned]
        before = [variable.numpy() for variable in statistics]
        for batch in self._slices:
            for phase in phases:
                prefix = "" if len(phases) == 1 else f"{phase.name}_"
                objective = phase.objective(batch, tf.constant(NOISE))
                for term, values in {"loss": objective.loss, **objective.terms}.items():
                    found.setdefault(f"{prefix}{term}", []).append(values.numpy())
        for variable, value in zip(statistics, before, strict=True):
            variable.assign(value)
        return {term: float(np.concatenate(values).mean()) for term, values in found.items()}

    def frame(self) -> npt.NDArray[np.uint8] | None:
        """Return FRAME_IMAGES samples of the model, uint8 [images, SIDE, SIDE], always from the same noise.

        Return None for a model that draws none.
        """
        if not isinstance(self._model, GenerativeModel):
            return None
        images = self._draw().numpy()
        return np.asarray(np.rint(255 * images.clip(0.0, 1.0)), np.uint8).reshape(-1, SIDE, SIDE)

    def _sample(self) -> tf.Tensor:
        return self._model.sample(tf.constant(FRAME_IMAGES), tf.constant(NOISE))
