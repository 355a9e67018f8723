"""Call an exported model on image files, for `latentline predict`."""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.ingest.formats import Choices, images_in
from components.ingest.idx import Bytes
from pipeline.evaluation.saved_model import newest_version

SIGNATURE = "serving_default"
ROWS = 500
"""Images in one call of the model."""
BRIGHT = 127
"""Images whose edge pixels are brighter on average are taken for dark strokes on a bright background."""

RECONSTRUCTION = "reconstruction"
"""Output that is a picture, which only `save` writes."""

Outputs = dict[str, npt.NDArray[Any]]


class PredictionError(ValueError):
    """A model cannot be called; the message says why and what to do."""


class Answers(NamedTuple):
    """What a model answers for the images of some files.

    Attributes:
      names: of the images, [N]: the file, with the number of the image where a file holds several.
      outputs: of the model's signature `serving_default`, by name, each [N, ...].
    """

    names: list[str]
    outputs: Outputs


def predict(
    model: str,
    files: Sequence[str],
    *,
    choices: Choices,
    invert: bool,
    report: Callable[[str], None],
) -> Answers:
    """Return a model's answers for all images of the files.

    model: a SavedModel's folder, or a folder of numbered versions, of which the newest is taken. choices: how
    images of another form are converted. invert: whether dark strokes on a bright background become the
    reverse, which is what models are trained on. report: gets a line per file that looks as if it needed it.
    Raises PredictionError and components.ingest.idx.IdxError.
    """
    names, parts = [], []
    for file in files:
        images = images_in(str(pathlib.Path(file).expanduser()), choices)
        images = np.uint8(255) - images if invert else images
        for line in odd(file, images):
            report(line)
        names += [file] if len(images) == 1 else [f"{file}[{number}]" for number in range(len(images))]
        parts.append(images)
    return Answers(names, answered(newest_version(model), np.concatenate(parts)))


def odd(file: str, images: Bytes) -> Iterator[str]:
    """Yield what looks wrong with the images of a file, as lines for the user."""
    edges = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    if edges.mean() > BRIGHT:
        yield f"! {file}: its background is bright, but MNIST has light strokes on black; try --invert"
    if (images.min(axis=(1, 2)) == images.max(axis=(1, 2))).any():
        yield f"! {file}: an image has the same grey value everywhere; is its drawing transparent?"


def answered(folder: str, images: Bytes) -> Outputs:
    """Return what the model in `folder` answers for images [N, SIDE, SIDE]. Raises PredictionError."""
    import tensorflow as tf

    from components.ingest.examples import serialize
    from pipeline.evaluation import saved_model

    loaded = saved_model.load(folder, PredictionError)
    if SIGNATURE not in loaded.signatures:
        raise PredictionError(f"{folder} has no signature {SIGNATURE}; give a model that latentline exported")
    examples = [serialize(image.tobytes(), 0) for image in images]
    parts = [
        loaded.signatures[SIGNATURE](examples=tf.constant(examples[first : first + ROWS]))
        for first in range(0, len(examples), ROWS)
    ]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def text(answers: Answers) -> str:
    """Return a line per image: the label and its probability, the latent vector, or both."""
    width = max(map(len, answers.names))
    return "\n".join(
        f"{name:<{width}}  {_line({key: value[place] for key, value in answers.outputs.items()})}"
        for place, name in enumerate(answers.names)
    )


def json_lines(answers: Answers) -> str:
    """Return a JSON object per image and line: `image`, and every output but pictures."""
    return "\n".join(
        json.dumps(
            {
                "image": name,
                **{
                    key: value[place].tolist()
                    for key, value in answers.outputs.items()
                    if key != RECONSTRUCTION
                },
            }
        )
        for place, name in enumerate(answers.names)
    )


def save(answers: Answers, path: str) -> None:
    """Write the images' names and all outputs to an .npz archive. Raises PredictionError."""
    try:
        with open(pathlib.Path(path).expanduser(), "wb") as file:
            arrays: Mapping[str, Any] = {"image": np.array(answers.names), **answers.outputs}
            np.savez(file, **arrays)
    except OSError as error:
        raise PredictionError(f"cannot write {path} ({error.strerror}); give another --output") from error


def _line(outputs: Mapping[str, Any]) -> str:
    found = []
    if "label" in outputs:
        label = int(outputs["label"])
        found.append(f"{label}  probability {outputs['probabilities'][label]:.3f}")
    if "latents" in outputs:
        found.append(f"latents {' '.join(f'{value:.3f}' for value in outputs['latents'].ravel())}")
    return "  ".join(found)
