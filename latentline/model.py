"""A trained model as a Python object over arrays of grey values."""

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.serving import versions
from pipeline.home.layout import Home
from schemas import PIXELS, SIDE

BATCH = 500
"""Images, or images times samples, in one call of the model."""

Images = npt.NDArray[np.uint8]
"""Grey values, 0 (background) to 255, [N, SIDE, SIDE]."""


class ModelError(ValueError):
    """A model cannot do what was asked; the message says what was found and what is expected."""


class Classification(NamedTuple):
    """What a model makes of images.

    Attributes:
      labels: the most probable class of each image, int64 [N].
      probabilities: of all classes, float32 [N, CLASSES].
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


def load(place: str | os.PathLike[str], name: str = "", *, version: int | None = None) -> "Model":
    """Return a model: `load(home, "cvae")` of a home, or `load(folder)` of a SavedModel's folder.

    name: of a variant, whose newest pushed version is taken, or the one with the number `version`. Without a
    name, `place` is a folder that holds saved_model.pb, or a folder of numbered versions.
    Loading runs TensorFlow code that the model's folder holds: load only models that you trust.
    Raises ModelError where there is no such model.
    """
    place = pathlib.Path(place).expanduser()
    folder = Home.of(place).versions(name) if name else place
    if (folder / "saved_model.pb").is_file():
        return Model(folder)
    found = versions.published(str(folder))
    if not found:
        known = ", ".join(versions.by_variant(str(Home.of(place).serving))) if name else ""
        hint = (
            f"; this home has models of {known}"
            if known
            else "; give a home and a variant, or a model's folder"
        )
        raise ModelError(f"there is no model in {folder}{hint}")
    if version is not None and version not in found:
        raise ModelError(f"{folder} has no version {version}; it has {', '.join(map(str, found))}")
    return Model(folder / str(found[-1] if version is None else version))


class Model:
    """A trained model.

    Images are arrays of grey values, uint8 [N, SIDE, SIDE]; the model prepares them as in training. A method
    that the model's family does not have raises ModelError.

    Attributes:
      folder: of the SavedModel.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        from pipeline.evaluation import saved_model

        self.folder = folder
        self._loaded: Any = saved_model.load(str(folder), ModelError)

    def __repr__(self) -> str:
        return f"latentline.Model({str(self.folder)!r})"

    @property
    def generative(self) -> bool:
        """Whether the model encodes, decodes, samples and has likelihoods."""
        return "decode" in self._loaded.signatures

    @property
    def classifies(self) -> bool:
        """Whether the model classifies."""
        return "classify" in self._loaded.signatures

    def encode(self, images: Images) -> npt.NDArray[np.float32]:
        """Return the posterior means of images, float32 [N, D]."""
        return self._of_images("encode", images)["latents"]

    def decode(self, latents: npt.ArrayLike) -> Images:
        """Return the mean images of latent vectors [N, D], as grey values."""
        signature = self._signature("decode")
        width = signature.structured_input_signature[1]["latents"].shape[1]
        values = np.asarray(latents, np.float32)
        if values.ndim != 2 or values.shape[1] != width:
            raise ModelError(f"latents must be an array [N, {width}], got shape {list(values.shape)}")
        return _grey(self._called(signature, len(values), lambda part: {"latents": values[part]})["images"])

    def reconstruct(self, images: Images) -> Images:
        """Return the images decoded from the posterior means of images, as grey values."""
        return _grey(self._of_images("reconstruct", images)["reconstruction"])

    def sample(self, count: int, seed: int = 0) -> Images:
        """Return `count` mean images of the model's generative process, as grey values."""
        if count < 0:
            raise ModelError(f"count must be at least 0, got {count}")
        made = self._signature("sample")(seed=_tensor(np.int32(seed)), count=_tensor(np.int32(count)))
        return _grey(made["images"].numpy())

    def classify(self, images: Images) -> Classification:
        """Return labels and class probabilities of images."""
        found = self._of_images("classify", images)
        return Classification(found["label"], found["probabilities"])

    def log_likelihood(self, images: Images, samples: int = 100, seed: int = 0) -> npt.NDArray[np.float64]:
        """Return an estimate of log p(x) of each image in nats, [N], by importance sampling.

        The estimate is log (1/S) sum_s p(x, z_s) / q(z_s | x) with S = samples, z_s ~ q(z | x) (Burda et al.
        2016). On average it falls short of log p(x), less so with more samples.
        """
        from pipeline.evaluation import likelihood

        if samples < 1:
            raise ModelError(f"samples must be at least 1, got {samples}")
        rows = _examples(images)
        if not rows:
            return np.zeros(0)
        self._signature(likelihood.SIGNATURE)
        kept: list[likelihood.Estimates] = []
        weigh = likelihood.weights_of(self._loaded)
        likelihood.estimate(weigh, rows, samples=samples, seed=seed, keep=kept.append)
        return kept[-1].bounds

    def _of_images(self, name: str, images: Images) -> dict[str, Any]:
        rows = _examples(images)
        return self._called(self._signature(name), len(rows), lambda part: {"examples": rows[part]})

    def _called(
        self, signature: Any, count: int, inputs: Callable[[slice], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the outputs of a signature for `count` rows, in batches."""
        if not count:
            raise ModelError("there is nothing to compute: give at least one row")
        answers = []
        for part in _parts(count):
            tensors = {name: _tensor(value) for name, value in inputs(part).items()}
            answers.append({name: value.numpy() for name, value in signature(**tensors).items()})
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _signature(self, name: str) -> Any:
        if name not in self._loaded.signatures:
            kind = "a generative model" if self.generative else "a classifier"
            raise ModelError(f"{self.folder} is {kind}, which has no {name}")
        return self._loaded.signatures[name]


def _examples(images: Images) -> list[bytes]:
    from components.ingest.examples import serialize

    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1:] != (SIDE, SIDE):
        raise ModelError(
            f"images must be a uint8 array [N, {SIDE}, {SIDE}] of grey values 0 to 255, got "
            f"{array.dtype} {list(array.shape)}"
        )
    return [serialize(image.tobytes(), 0) for image in array.reshape(-1, PIXELS)]


def _parts(count: int) -> Iterator[slice]:
    return (slice(first, first + BATCH) for first in range(0, count, BATCH))


def _grey(means: Any) -> Images:
    """Return means in [0, 1], [N, SIDE, SIDE, 1], as grey values."""
    return np.asarray(np.rint(255 * means.clip(0.0, 1.0)), np.uint8).reshape(-1, SIDE, SIDE)


def _tensor(value: Any) -> Any:
    import tensorflow as tf

    return tf.constant(value)
