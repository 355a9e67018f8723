"""What is looked at while a model trains: its terms on held-out images, and images it draws."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import SIDE
from trainer.binarize import to_inputs
from trainer.loop import data
from trainer.models.model import Batch, GenerativeModel, Model

POINTS = 12
"""Evenly spaced steps of a run at which to look, the last one among them."""
POINTS_WITH_PATIENCE = 48
MOST_IMAGES, LEAST_IMAGES = 1_000, 100
IMAGES_A_STEP = 1 / 80
"""Held-out images for each image trained on, which keeps the looking to a few percent of a run."""
SLICE = 250
FRAME_IMAGES = 25
NOISE = (1, 0)


def steps_of(steps: int, points: int = POINTS) -> list[int]:
    """The steps to look at in a run of `steps`, ascending."""
    return sorted({max(1, round(steps * (point + 1) / points)) for point in range(points)})


class Watch:
    """Held-out images and the model that is tried on them; looking changes nothing of the model.

    trained: images that the run will train on in all, which says how many held-out ones it can afford.
    """

    def __init__(self, model: Model, held_out: data.Examples, protocol: str, trained: int) -> None:
        self._model = model
        self._draw: Any = tf.function(self._sample, autograph=False)
        count = min(max(int(trained * IMAGES_A_STEP), LEAST_IMAGES), MOST_IMAGES, len(held_out.labels))
        pixels, labels = data.rows(held_out, np.arange(count))
        images = tf.reshape(to_inputs(tf.constant(pixels), protocol), [-1, SIDE, SIDE, 1])
        self._slices = [
            Batch(images[first : first + SLICE], tf.constant(labels[first : first + SLICE]))
            for first in range(0, count, SLICE)
        ]

    def terms(self) -> dict[str, float]:
        """Means of the training objective's losses and terms, under the same noise each time, nats."""
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

    def validation_score(self) -> float:
        """What early stopping goes by: mean elbo, or minus cross-entropy, without training noise, nats."""
        found: list[Any] = []
        for batch in self._slices:
            metrics = self._model.metrics_per_example(batch, tf.constant(NOISE), 1)
            found.append(metrics["elbo"] if "elbo" in metrics else -metrics["cross_entropy"])
        return float(np.concatenate(found).mean())

    def frame(self) -> npt.NDArray[np.uint8] | None:
        """FRAME_IMAGES images of the model's own, always from the same noise: uint8 [images, SIDE, SIDE].

        None for a model that draws none.
        """
        if not isinstance(self._model, GenerativeModel):
            return None
        images = self._draw().numpy()
        return np.asarray(np.rint(255 * images.clip(0.0, 1.0)), np.uint8).reshape(-1, SIDE, SIDE)

    def _sample(self) -> tf.Tensor:
        return self._model.sample(tf.constant(FRAME_IMAGES), tf.constant(NOISE))
