"""Draw what one trained model does: pictures as files, and the exhibit that the page lets people explore.

The model is known by its SavedModel's signatures alone; each is called a few times, on one batch. What cannot
be drawn is left out with its reason: a gallery never fails a run.
"""

import functools
import io
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.reporting import exhibit, figures
from components.reporting.figures import Array, Picture
from schemas import CLASSES, IMAGE, LABEL, PIXELS, SIDE, TEST_SPLIT, TRAINING_FRAMES, TRAINING_RECORD

INDEX = "gallery.json"
"""The artifact's table of contents: pictures in the order to show them, and what was left out and why."""
EXPLORER = "Interactive pictures"
"""What the exhibit is called where it is left out."""

TEST_IMAGES = 2_000
READ_AT_MOST = 20_000
SAMPLES = (10, 10)
GRID = 20
QUANTILES = (0.05, 0.95)
STEPS = 11
PAIRS = 5
WORST = (3, 8)
WEIGHT_INPUTS, WEIGHT_UNITS = 4, 8
SEED = 0
CODES = "codes"
"""Output of `evaluate` that only models with a codebook have."""
NOT_FINITE = "the model gives values that are not finite"
NORMAL = "standard normal"
"""Value of `latent_prior` in a training record, also if it has none."""


log = logging.getLogger(__name__)
T = TypeVar("T")


class GalleryArtifact(types.Artifact):
    """PNG and GIF pictures of one model, gallery.json, and the exhibit: exhibit.json with its sprites."""

    TYPE_NAME = "LatentlineGallery"


@component
def Gallery(  # type: ignore[no-untyped-def]
    model: InputArtifact[standard_artifacts.Model],
    run: InputArtifact[standard_artifacts.ModelRun],
    examples: InputArtifact[standard_artifacts.Examples],
    gallery: OutputArtifact[GalleryArtifact],
    production: InputArtifact[list[standard_artifacts.Model]] = None,
):
    """Draw a model.

    Inputs: a trained model, its training record, raw examples, and the model in production if there is one.
    Output: `gallery`; if nothing could be drawn, its index says why.
    """
    files = os.path.join(artifact_utils.get_split_uri([examples], TEST_SPLIT), "*")
    [baseline] = production or [None]
    known = path_utils.serving_model_path(baseline.uri) if baseline else None
    write_or_say(path_utils.serving_model_path(model.uri), run.uri, files, gallery.uri, known)


def write_or_say(model: str, run: str, files: str, folder: str, production: str | None = None) -> None:
    """Fill `folder` as `write` does; if that fails, with an index that says why."""
    try:
        write(model, run, files, folder, production)
    except Exception as error:  # of any kind: what only presents must not fail a run
        log.exception("nothing could be drawn")
        index = {"variant": "", "pictures": [], "left_out": {"Gallery": reason(error)}}
        with fileio.open(os.path.join(folder, INDEX), "w") as file:
            file.write(json.dumps(index, indent=1))


def write(model: str, run: str, files: str, folder: str, production: str | None = None) -> None:
    """Fill `folder` with the pictures and the exhibit of the SavedModel in folder `model`.

    run: the model_run's folder. files: glob of gzipped TFRecords of raw test examples. production: the folder
    of the SavedModel that is in production, for its reconstructions.
    """
    started = time.perf_counter()
    with fileio.open(os.path.join(run, TRAINING_RECORD)) as file:
        record = json.load(file)
    left_out: dict[str, str] = {}
    subject = Subject(tf.saved_model.load(model), test_set(files), record, frames(run), left_out)
    shown = []
    for picture in pictures(subject):
        with fileio.open(os.path.join(folder, picture.name), "wb") as file:
            file.write(picture.content)
        shown.append({"file": picture.name, "title": picture.title, "caption": picture.caption})
    facts, sprites = exhibit.merged(exhibits(subject, production))
    for sprite in sprites:
        with fileio.open(os.path.join(folder, sprite.name), "wb") as file:
            file.write(sprite.content)
    index = {
        "variant": record["variant"],
        "test_images": len(subject.test.labels),
        "pictures": shown,
        "left_out": left_out,
        "seconds": round(time.perf_counter() - started, 3),
    }
    for name, content in ((exhibit.FILE, facts), (INDEX, index)):
        with fileio.open(os.path.join(folder, name), "w") as file:
            file.write(json.dumps(content, indent=None if name == exhibit.FILE else 1))


def reason(error: BaseException) -> str:
    """Return why something could not be drawn, as one line."""
    words = " ".join(str(error).split())[:200]
    return f"it could not be drawn ({type(error).__name__}{': ' if words else ''}{words})"


class Subject(NamedTuple):
    """A model and what is needed to draw it."""

    model: Any
    test: exhibit.Images
    record: dict[str, Any]
    frames: tuple[Array, list[int]] | None
    left_out: dict[str, str]  # picture -> why it cannot be made

    def call(self, signature: str, output: str, **inputs: Any) -> Array:
        """Return one output of a signature as a NumPy array."""
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        result: Array = self.model.signatures[signature](**tensors)[output].numpy()
        return result

    def has(self, signature: str) -> bool:
        """Return whether the model offers the signature."""
        return signature in self.model.signatures


def test_set(files: str) -> exhibit.Images:
    """Return up to TEST_IMAGES examples, spread evenly over the first READ_AT_MOST of the files."""
    names = sorted(tf.io.gfile.glob(files))
    batches = tf.data.TFRecordDataset(names, "GZIP").take(READ_AT_MOST).batch(READ_AT_MOST)
    records = np.concatenate([*batches.as_numpy_iterator()])
    chosen = records[np.linspace(0, len(records) - 1, min(TEST_IMAGES, len(records))).round().astype(int)]
    spec = {IMAGE: tf.io.FixedLenFeature([], tf.string), LABEL: tf.io.FixedLenFeature([], tf.int64)}
    features = tf.io.parse_example(chosen, spec)
    pixels = tf.io.decode_raw(features[IMAGE], tf.uint8).numpy()
    return exhibit.Images(chosen, pixels.reshape(-1, SIDE, SIDE) / 255.0, features[LABEL].numpy())


def frames(run: str) -> tuple[Array, list[int]] | None:
    """Return the samples that the trainer drew, uint8 [T, n * n, SIDE, SIDE], and their T steps.

    None if it drew none.
    """
    path = os.path.join(run, TRAINING_FRAMES)
    if not fileio.exists(path):
        return None
    with fileio.open(path, "rb") as file:
        stored = np.load(io.BytesIO(file.read()))
    return stored["frames"], [int(step) for step in stored["steps"]]


def pictures(subject: Subject) -> Iterator[Picture]:
    """Draw every picture that the model's signatures allow, in the order to show them."""
    record = subject.record
    for title, possible, draw in (
        ("Originals and reconstructions", subject.has("reconstruct"), one(reconstructions)),
        ("Samples", subject.has("sample"), one(samples)),
        ("Latent space", subject.has("encode"), latent_space),
        ("Confusion matrix", subject.has("classify"), classification),
        ("Generated weights", subject.has("generated_weights"), one(generated_weights)),
        ("Samples while training", subject.frames is not None, one(training_film)),
        ("Training", bool(record.get("curve")), one(training_curves)),
    ):
        if possible:
            yield from attempted(subject, title, functools.partial(draw, subject))


def exhibits(subject: Subject, production: str | None) -> Iterator["Part"]:
    """Return the parts of the exhibit that the model's signatures allow."""
    for make in (
        functools.partial(originals, subject),
        functools.partial(rebuilt, subject),
        functools.partial(rebuilt_in_production, subject, production),
        functools.partial(sampled, subject),
        functools.partial(explored, subject),
        functools.partial(read, subject),
    ):
        yield from attempted(subject, EXPLORER, make)


def attempted(subject: Subject, title: str, make: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yield what `make` yields; if it fails, note the reason under `title` instead."""
    try:
        yield from make()
    except Exception as error:  # of any kind: one picture must not cost the others
        log.exception("%s: %s", subject.record.get("variant"), title)
        subject.left_out[title] = reason(error)


def one(draw: Callable[[Subject], Picture]) -> Callable[[Subject], Iterator[Picture]]:
    """Return `draw` as a function that yields its one picture."""

    def drawn(subject: Subject) -> Iterator[Picture]:
        yield draw(subject)

    return drawn


Part = tuple[dict[str, Any], list[exhibit.Sprite]]


def originals(subject: Subject) -> Iterator[Part]:
    """Yield the test images that every variant shows."""
    yield exhibit.originals(subject.test)


def rebuilt(subject: Subject) -> Iterator[Part]:
    """Yield the wall of reconstructions."""
    if subject.has("reconstruct"):
        yield exhibit.wall(subject.call, subject.test, "wall")


def rebuilt_in_production(subject: Subject, production: str | None) -> Iterator[Part]:
    """Yield the wall of the model in production."""
    if production is not None and subject.has("reconstruct"):
        other = subject._replace(model=tf.saved_model.load(production))
        yield exhibit.wall(other.call, subject.test, "production")


def sampled(subject: Subject) -> Iterator[Part]:
    """Yield samples, and those of training."""
    if subject.has("sample"):
        yield exhibit.samples(subject.call, SEED)
    if subject.frames is not None:
        yield exhibit.film(*subject.frames)


def explored(subject: Subject) -> Iterator[Part]:
    """Yield a plane through latent space, if latents are vectors that can be decoded."""
    if not subject.has("encode") or CODES in subject.model.signatures["evaluate"].structured_outputs:
        return
    latents = subject.call("encode", "latents", examples=subject.test.examples)
    latents = latents.reshape(len(latents), -1).astype(np.float64)
    if latents.shape[1] < 2 or not np.isfinite(latents).all() or not_plain(subject, latents.shape[1]):
        return
    yield exhibit.plane(subject.call, subject.test, latents, standard_normal(subject))


def read(subject: Subject) -> Iterator[Part]:
    """Yield what a classifier reads."""
    if not subject.has("classify"):
        return
    probabilities = subject.call("classify", "probabilities", examples=subject.test.examples)
    if np.isfinite(probabilities).all():
        yield exhibit.reading(probabilities, subject.test)


def first_of_each(labels: Array, count: int) -> Array:
    """Return indices [count, L] of the first `count` examples of each label that has as many, sorted."""
    found = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    return np.array([indices for indices in found if len(indices) == count], int).reshape(-1, count).T


def reconstructions(subject: Subject) -> Picture:
    """Draw two test images of each label, each above its reconstruction."""
    chosen = first_of_each(subject.test.labels, 2)
    made = subject.call("reconstruct", "reconstruction", examples=subject.test.examples[chosen.ravel()])
    made = made.reshape(*chosen.shape, SIDE, SIDE)
    rows = [subject.test.images[chosen[0]], made[0], subject.test.images[chosen[1]], made[1]]
    content = figures.tiles(
        np.stack(rows),
        columns=[str(label) for label in subject.test.labels[chosen[0]]],
        rows=["original", "model", "original", "model"],
        x_label="label",
    )
    caption = (
        "Test images as they are in the data, each above what the model decodes from its posterior mean."
    )
    return Picture("reconstructions.png", "Originals and reconstructions", caption, content)


def samples(subject: Subject) -> Picture:
    """Draw images from the model's own generative process."""
    count = SAMPLES[0] * SAMPLES[1]
    made = subject.call("sample", "images", seed=np.int32(SEED), count=np.int32(count))
    content = figures.tiles(made.reshape(*SAMPLES, SIDE, SIDE), inches=0.42)
    caption = f"{count} samples from the model's own generative process (mean pixels), none picked out."
    return Picture("samples.png", "Samples", caption, content)


def latent_space(subject: Subject) -> Iterator[Picture]:
    """Draw the test set in latent space; for plain vectors also the manifold and interpolations."""
    latents = subject.call("encode", "latents", examples=subject.test.examples)
    latents = latents.reshape(len(latents), -1).astype(np.float64)
    nothing = ""
    if CODES in subject.model.signatures["evaluate"].structured_outputs:
        nothing = "the latents are codes of a codebook, whose numbers are names and no coordinates"
    elif not np.isfinite(latents).all():
        nothing = NOT_FINITE
    if nothing:
        subject.left_out.update(dict.fromkeys(("Latent manifold", "Interpolation", "Latent space"), nothing))
        return
    why_not = not_plain(subject, latents.shape[1])
    if why_not:
        subject.left_out.update(dict.fromkeys(("Latent manifold", "Interpolation"), why_not))
    else:
        if latents.shape[1] < 2:
            subject.left_out["Latent manifold"] = "the latent space has one dimension"
        elif not standard_normal(subject):
            subject.left_out["Latent manifold"] = "the prior of the decoded vector is not a standard normal"
        else:
            most_active = np.argsort(-latents.var(axis=0), kind="stable")[:2]
            yield latent_manifold(subject, np.sort(most_active), latents.shape[1])
        yield interpolation(subject, latents)
    if latents.shape[1] >= 2:
        yield latent_scatter(subject, latents)


def not_plain(subject: Subject, dimensions: int) -> str:
    """Return why latents cannot be chosen freely and decoded; empty if they can."""
    if not subject.has("decode"):
        return "the model has no signature decode"
    inputs = subject.model.signatures["decode"].structured_input_signature[1]
    if set(inputs) != {"latents"}:
        return f"decode takes {', '.join(sorted(inputs))}, more than a latent vector"
    spec = inputs["latents"]
    if not spec.dtype.is_floating or spec.shape.rank != 2 or spec.shape[1] != dimensions:
        return f"decode takes {spec.dtype.name} {spec.shape}, not vectors as encode makes them"
    return ""


def standard_normal(subject: Subject) -> bool:
    """Return whether the decoded vector has a standard normal prior.

    The training record may state another one; a model that also classifies has the class among its latents.
    """
    return subject.record.get("latent_prior", NORMAL) == NORMAL and not subject.has("classify")


def latent_manifold(subject: Subject, axes: Array, dimensions: int) -> Picture:
    """Draw a decoded grid of prior quantiles of two latent units, with the others at the prior's mean."""
    quantiles = np.linspace(*QUANTILES, GRID)
    places = [statistics.NormalDist().inv_cdf(quantile) for quantile in quantiles]
    down, across = np.meshgrid(places, places, indexing="ij")
    grid = np.zeros([GRID * GRID, dimensions], np.float32)
    grid[:, axes[0]], grid[:, axes[1]] = across.ravel(), down.ravel()
    made = subject.call("decode", "images", latents=grid).reshape(GRID, GRID, SIDE, SIDE)
    content = figures.manifold(
        made, quantiles, *(f"prior quantile of latent unit {unit + 1}" for unit in axes)
    )
    caption = f"Decoded from a {GRID}x{GRID} grid of prior quantiles {QUANTILES[0]} to {QUANTILES[1]}"
    if dimensions > 2:
        caption += (
            f" of the two most active of {dimensions} latent units, {axes[0] + 1} and {axes[1] + 1}; "
            "the others are at the prior's mean"
        )
    return Picture("manifold.png", "Latent manifold", f"{caption}.", content)


def interpolation(subject: Subject, latents: Array) -> Picture:
    """Draw images decoded on straight lines between the posterior means of pairs of test images."""
    first = first_of_each(subject.test.labels, 1)[0]
    pairs = [(first[i], first[i + 1]) for i in range(0, len(first) - 1, 2)][:PAIRS]
    starts, ends = (latents[[pair[side] for pair in pairs]] for side in (0, 1))
    way = np.linspace(0, 1, STEPS)
    path = starts[:, None] + way[:, None] * (ends - starts)[:, None]  # [P, STEPS, D]
    flat = path.reshape(-1, latents.shape[1]).astype(np.float32)
    made = subject.call("decode", "images", latents=flat).reshape(len(pairs), STEPS, SIDE, SIDE)
    ends_shown = [subject.test.images[[pair[side] for pair in pairs]][:, None] for side in (0, 1)]
    content = figures.tiles(
        np.concatenate([ends_shown[0], made, ends_shown[1]], axis=1),
        columns=["test\nimage", *(f"{fraction:.1f}" for fraction in way), "test\nimage"],
        rows=[f"{subject.test.labels[a]} to {subject.test.labels[b]}" for a, b in pairs],
        x_label="fraction of the way between the two posterior means",
        inches=0.42,
    )
    caption = (
        "Straight lines between the posterior means of two test images, decoded; the images at the ends."
    )
    return Picture("interpolation.png", "Interpolation", caption, content)


def latent_scatter(subject: Subject, latents: Array) -> Picture:
    """Draw posterior means of the test set: as they are if two-dimensional, else principal components."""
    count = len(latents)
    caption = f"Posterior means of {count:,} test images; each numeral is an image's label."
    if latents.shape[1] == 2:
        names = ["latent unit 1", "latent unit 2"]
        points = latents
    else:
        centred = latents - latents.mean(axis=0)
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        share = 100 * singular**2 / max(float(np.sum(singular**2)), 1e-12)
        points = centred @ directions[:2].T
        names = [f"principal component {i + 1} ({share[i]:.0f} % of variance)" for i in (0, 1)]
        caption += f" Projected from {latents.shape[1]} dimensions onto the two of largest variance."
    content = figures.scatter(points, subject.test.labels, *names)
    return Picture("latents.png", "Latent space", caption, content)


def classification(subject: Subject) -> Iterator[Picture]:
    """Draw where the classifier is wrong, and how its confidence compares with its accuracy."""
    probabilities = subject.call("classify", "probabilities", examples=subject.test.examples)
    if not np.isfinite(probabilities).all():
        subject.left_out["Confusion matrix"] = NOT_FINITE
        return
    labels, guesses = subject.test.labels, probabilities.argmax(axis=1)
    count = len(labels)
    table = np.zeros([CLASSES, CLASSES], int)
    np.add.at(table, (labels, guesses), 1)
    caption = f"{count:,} test images; {100 * np.mean(guesses == labels):.2f} % of them are on the diagonal."
    yield Picture("confusion.png", "Confusion matrix", caption, figures.confusion(table))

    confidence, right = probabilities.max(axis=1), guesses == labels
    error = figures.calibration_error(confidence, right)
    caption = f"Expected calibration error {100 * error:.1f} percentage points, from {count:,} test images."
    yield Picture("reliability.png", "Reliability", caption, figures.reliability(confidence, right))

    wrong = np.flatnonzero(~right)
    if not len(wrong):
        subject.left_out["Worst mistakes"] = f"there is none among {count:,} test images"
        return
    cost = -np.log(np.maximum(probabilities[wrong, labels[wrong]], 1e-30))
    worst = wrong[np.argsort(-cost, kind="stable")[: WORST[0] * WORST[1]]]
    titles = [f"{labels[i]} as {guesses[i]}, {per_cent(probabilities[i, labels[i]])}" for i in worst]
    content = figures.titled(subject.test.images[worst], titles, WORST[1])
    caption = (
        f"The {len(worst)} of {len(wrong)} mistakes in {count:,} test images that cost most: the true label, "
        "what it was taken for, and the probability that the true label got."
    )
    yield Picture("mistakes.png", "Worst mistakes", caption, content)


def per_cent(share: float) -> str:
    """Format a share as 0.002 %, 3 % or 41 %."""
    return f"{100 * share:.1g} %" if share < 0.095 else f"{100 * share:.0f} %"


def generated_weights(subject: Subject) -> Picture:
    """Draw the first-layer weights that a hypernetwork generates for several images, as images."""
    chosen = first_of_each(subject.test.labels, 1)[0][:WEIGHT_INPUTS]
    kernels = subject.call("generated_weights", "kernel", examples=subject.test.examples[chosen])
    kernels = kernels.reshape(len(chosen), PIXELS, -1)[:, :, :WEIGHT_UNITS]
    maps = np.moveaxis(kernels, 1, 2).reshape(len(chosen), -1, SIDE, SIDE)
    content = figures.tiles(
        maps,
        columns=[str(unit + 1) for unit in range(maps.shape[1])],
        rows=[f"for a {subject.test.labels[i]}" for i in chosen],
        x_label="hidden unit of the generated network",
        weights=True,
        inches=0.6,
    )
    varied = float(kernels.std(axis=0).mean() / max(float(kernels.std()), 1e-12))
    caption = (
        "The weights from the pixels to the first hidden units, generated for one test image a row. Between "
        f"images a weight varies by {100 * varied:.1f} % of the spread of all weights."
    )
    return Picture("weights.png", "Generated weights", caption, content)


def training_film(subject: Subject) -> Picture:
    """Draw the same samples at several moments of training, as a GIF."""
    assert subject.frames is not None
    images, steps = subject.frames
    caption = (
        f"The same {images.shape[1]} samples at {len(steps)} moments of training, up to step {steps[-1]:,}."
    )
    return Picture("training.gif", "Samples while training", caption, figures.animation(images, steps))


def training_curves(subject: Subject) -> Picture:
    """Draw every term over training, and on held-out images if the trainer measured it."""
    panels: dict[str, list[figures.Curve]] = {}
    for key, held_out in (("curve", False), ("held_out", True)):
        points = subject.record.get(key) or []
        for term in points[0]["values"] if points else ():
            unit = "fraction" if term.endswith("accuracy") else "nats per image"
            there = [point for point in points if term in point["values"]]
            steps = np.array([point["step"] for point in there], float)
            values = np.array([point["values"][term] for point in there], float)
            panels.setdefault(unit, []).append(figures.Curve(term, held_out, steps, values))
    caption = "Means over stretches of training steps"
    if subject.record.get("held_out"):
        caption += "; dashed: on images that training does not see"
    return Picture("curves.png", "Training", f"{caption}.", figures.curves(panels))
