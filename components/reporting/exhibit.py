"""The part of a gallery that the page lets people explore: sprites of small images, and numbers about them.

Everything here is drawn from the signatures of a SavedModel; what a model does not offer is absent.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from components.reporting import figures, sprites
from components.reporting.figures import Array
from schemas import CLASSES, SIDE

FILE = "exhibit.json"
"""The exhibit's data, in a gallery and beside it its sprites."""
SIDE_OF_GRID = 20
"""Images per side of a latent plane, and per row of the sprites of test images."""
SHARED = ("digits.png", "points.png")
"""Sprites of test images, the same in every gallery of the same data."""
POINTS = SIDE_OF_GRID**2
"""Test images that the page shows in a latent plane, with their reconstructions."""
STRIP = 8
"""Images of a strip: samples, or the costliest mistakes."""
MOMENTS = 12
"""Moments of training at which the page shows samples."""
FILM_SAMPLES = 10
MARGIN = 0.02
"""Prior quantile at the left and lower edge of a plane of two latent units; the other edges mirror it."""
DEVIATIONS = 2.2
"""Standard deviations from the middle to the edge of a plane of two principal components."""

Call = Callable[..., Array]
"""(signature, output, **inputs) -> one output of a signature, as gallery.Subject.call."""


class Sprite(NamedTuple):
    """A PNG that is ready to be stored."""

    name: str
    content: bytes


class Images(NamedTuple):
    """Test images: serialized, decoded [N, SIDE, SIDE] with ink from 0 to 1, and their labels [N]."""

    examples: Array
    images: Array
    labels: Array

    def take(self, chosen: Array) -> "Images":
        """Return the images with these indices."""
        return Images(self.examples[chosen], self.images[chosen], self.labels[chosen])


def first_of_each(labels: Array) -> Array:
    """Return the index of the first image of each label, labels ascending."""
    return np.array([np.flatnonzero(labels == label)[0] for label in np.unique(labels)], int)


def spread(count: int, most: int) -> Array:
    """Return `most` indices, or as many as there are, spread evenly over `count` images."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def reconstructed(call: Call, images: Images) -> Array:
    """Return what the model decodes for each image, [N, SIDE, SIDE]."""
    return call("reconstruct", "reconstruction", examples=images.examples).reshape(-1, SIDE, SIDE)


def originals(test: Images) -> tuple[dict[str, Any], list[Sprite]]:
    """Return the images that every gallery of the same data shows, the same for each variant."""
    digits, points = first_of_each(test.labels), spread(len(test.labels), POINTS)
    facts = {
        "digits": [int(label) for label in test.labels[digits]],
        "points": [int(label) for label in test.labels[points]],
    }
    return facts, [
        Sprite(SHARED[0], sprites.sprite(test.images[digits][None])),
        Sprite(SHARED[1], sprites.sprite(sprites.grid(test.images[points], SIDE_OF_GRID))),
    ]


def wall(call: Call, test: Images, name: str) -> tuple[dict[str, Any], list[Sprite]]:
    """Return the first image of each label as the model reconstructs it, under the name of the sprite."""
    made = reconstructed(call, test.take(first_of_each(test.labels)))
    return {name: f"{name}.png"}, [Sprite(f"{name}.png", sprites.sprite(made[None]))]


def samples(call: Call, seed: int) -> tuple[dict[str, Any], list[Sprite]]:
    """Return a strip of samples."""
    made = call("sample", "images", seed=np.int32(seed), count=np.int32(STRIP)).reshape(1, STRIP, SIDE, SIDE)
    return {"samples": "samples_strip.png"}, [Sprite("samples_strip.png", sprites.sprite(made))]


def film(frames: Array, steps: list[int]) -> tuple[dict[str, Any], list[Sprite]]:
    """Return the same samples at several moments of training; frames uint8 [T, N, SIDE, SIDE]."""
    chosen = spread(len(frames), MOMENTS)
    shown = frames[chosen][:, :FILM_SAMPLES].astype(np.float32) / 255
    facts = {"film": "film.png", "steps": [steps[i] for i in chosen], "film_columns": shown.shape[1]}
    return facts, [Sprite("film.png", sprites.sprite(shown))]


def plane(call: Call, test: Images, latents: Array, normal: bool) -> tuple[dict[str, Any], list[Sprite]]:
    """Return a plane through latent space, decoded, with test images where the encoder puts them.

    latents: posterior means [N, D], D >= 2, of all test images. normal: whether the prior is a standard
    normal. Two latent units are shown by their prior quantiles; others by their two principal components
    through the mean.
    """
    shown = spread(len(latents), POINTS)
    if latents.shape[1] == 2 and normal:
        quantiles = np.linspace(MARGIN, 1 - MARGIN, SIDE_OF_GRID)
        steps = np.array([statistics.NormalDist().inv_cdf(quantile) for quantile in quantiles])
        directions, centre = np.eye(2), np.zeros(2)
        cumulative = np.vectorize(statistics.NormalDist().cdf)
        positions = (cumulative(latents[shown]) - MARGIN) / (1 - 2 * MARGIN)
    else:
        centre = latents.mean(axis=0)
        _, singular, rotation = np.linalg.svd(latents - centre, full_matrices=False)
        deviations = singular[:2] / np.sqrt(max(len(latents) - 1, 1))
        directions = rotation[:2] * deviations[:, None]
        steps = np.linspace(-DEVIATIONS, DEVIATIONS, SIDE_OF_GRID)
        scores = (latents[shown] - centre) @ rotation[:2].T / np.maximum(deviations, 1e-12)
        positions = (scores / DEVIATIONS + 1) / 2
    down, across = np.meshgrid(steps[::-1], steps, indexing="ij")
    decoded = centre + across.reshape(-1, 1) * directions[0] + down.reshape(-1, 1) * directions[1]
    made = call("decode", "images", latents=decoded.astype(np.float32))
    facts = {
        "plane": "plane.png",
        "rebuilt": "rebuilt.png",
        "quantiles": bool(latents.shape[1] == 2 and normal),
        "dimensions": int(latents.shape[1]),
        "positions": [[round(float(x), 3), round(float(y), 3)] for x, y in positions],
    }
    rebuilt = sprites.grid(reconstructed(call, test.take(shown)), SIDE_OF_GRID)
    return facts, [
        Sprite("plane.png", sprites.sprite(made.reshape(SIDE_OF_GRID, SIDE_OF_GRID, SIDE, SIDE))),
        Sprite("rebuilt.png", sprites.sprite(rebuilt)),
    ]


def reading(probabilities: Array, test: Images) -> tuple[dict[str, Any], list[Sprite]]:
    """Return what a classifier reads: its confusions, calibration, costliest mistakes, and each shown image.

    probabilities: [N, CLASSES], of all test images.
    """
    labels, guesses = test.labels, probabilities.argmax(axis=1)
    table = np.zeros([CLASSES, CLASSES], int)
    np.add.at(table, (labels, guesses), 1)
    confidence, right = probabilities.max(axis=1), guesses == labels
    shown = spread(len(labels), POINTS)
    facts = {
        "confusion": table.tolist(),
        "calibration": [
            [round(value, 4) for value in (b.confidence, b.accuracy, b.lower, b.upper)] + [b.images]
            for b in figures.calibration_bins(confidence, right)
        ],
        "calibration_error": round(figures.calibration_error(confidence, right), 4),
        "read": [[int(guesses[i]), round(float(confidence[i]), 3)] for i in shown],
    }
    wrong = np.flatnonzero(~right)
    if not len(wrong):
        return facts, []
    cost = -np.log(np.maximum(probabilities[wrong, labels[wrong]], 1e-30))
    worst = wrong[np.argsort(-cost, kind="stable")[:STRIP]]
    facts |= {
        "mistakes": "mistakes_strip.png",
        "mistaken": [
            [int(labels[i]), int(guesses[i]), round(float(probabilities[i, labels[i]]), 4)] for i in worst
        ],
    }
    return facts, [Sprite("mistakes_strip.png", sprites.sprite(test.images[worst][None]))]


def merged(parts: Iterator[tuple[Mapping[str, Any], list[Sprite]]]) -> tuple[dict[str, Any], list[Sprite]]:
    """Return the parts of an exhibit as one."""
    facts: dict[str, Any] = {}
    files: list[Sprite] = []
    for values, found in parts:
        facts |= values
        files += found
    return facts, files
