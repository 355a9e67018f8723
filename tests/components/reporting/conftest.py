"""Variants as a report shows them, from a linear model over the digits of scikit-learn."""

import base64
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from components.evaluation.metrics import UNITS
from components.ingest import idx
from components.reporting import exhibit, page, report_page
from components.reporting.panels import Subject
from schemas import CLASSES, PIXELS, SIDE, TEST_SPLIT
from schemas.records import Gain, Metric, Row, Status, Training

TRAINING = Training(
    family="generative", dataset="mnist", protocol="threshold", profile="quick", seed=0, steps=3000,
    batch_size=32, parameters=69_989, examples=60_000, importance_samples=5, train_seconds=41.0,
    step_seconds=40.0, images_per_second=2_400.0, summary="A model.",
)  # fmt: skip
SPLITS = [
    {"split": "train", "examples": 60_000, "labels": {str(label): 6_000 for label in range(CLASSES)}},
    {"split": TEST_SPLIT, "examples": 10_000, "labels": {}},
]


def metric(name: str, value: float, half: float) -> Metric:
    return Metric(value, value - half, value + half, UNITS[name])


def gain(name: str, value: float, half: float) -> Gain:
    return Gain(value, value - half, value + half, UNITS[name], name, "/a/model/3", 17)


def row(variant: str, name: str = "elbo", value: float = -160.0, half: float = 0.6, **changes: Any) -> Row:
    """The row of a variant whose headline metric is `name`."""
    known = {field.name for field in dataclasses.fields(Training)}
    family = {"elbo": "generative", "accuracy": "classifier"}[name]
    training = {"family": family, **{key: value for key, value in changes.items() if key in known}}
    metrics = {name: metric(name, value, half)}
    if name == "elbo":
        metrics |= {"rate": metric("rate", 5.3, 0.02), "active_units": metric("active_units", 2, 0)}
    values = {
        "status": Status.PUSHED, "pushed_version": 17, "metrics": metrics,
        "floor": -205.0 if name == "elbo" else 0.5,
        **{key: value for key, value in changes.items() if key not in known},
    }  # fmt: skip
    return Row(variant=variant, training=dataclasses.replace(TRAINING, **training), **values)


class Linear:
    """A linear autoencoder and a nearest-mean classifier in NumPy, called as a SavedModel is."""

    def __init__(self, test: exhibit.Images, latent: int) -> None:
        flat = test.images.reshape(-1, PIXELS)
        self.mean = flat.mean(axis=0)
        self.basis = np.linalg.svd(flat - self.mean, full_matrices=False)[2][:latent].T
        self.images = {bytes(name): image for name, image in zip(test.examples, flat, strict=True)}
        self.centres = np.stack([flat[test.labels == label].mean(axis=0) for label in range(CLASSES)])

    def latents(self, examples: Any) -> Any:
        return (np.stack([self.images[bytes(name)] for name in examples]) - self.mean) @ self.basis

    def call(self, signature: str, output: str, **inputs: Any) -> Any:
        """One output of a signature."""
        if signature == "encode":
            return self.latents(inputs["examples"])
        if signature == "classify":
            flat = np.stack([self.images[bytes(name)] for name in inputs["examples"]])
            far = ((flat[:, None] - self.centres) ** 2).sum(axis=2)
            odds = np.exp(-far / 8)
            return odds / odds.sum(axis=1, keepdims=True)
        if signature == "sample":
            random = np.random.default_rng(int(inputs["seed"])).normal(
                size=[inputs["count"], self.basis.shape[1]]
            )
            return self.decoded(random)
        if signature == "decode":
            return self.decoded(inputs["latents"])
        assert signature == "reconstruct"
        return self.decoded(self.latents(inputs["examples"]))

    def decoded(self, latents: Any) -> Any:
        return np.clip(latents @ self.basis.T + self.mean, 0, 1).reshape(-1, SIDE, SIDE)


@pytest.fixture(scope="session")
def shown_images(digits: dict[str, idx.Images]) -> exhibit.Images:
    """The test split, with the number of an image in place of its serialized example."""
    split = digits[TEST_SPLIT]
    names = np.array([str(number).encode() for number in range(len(split.labels))], object)
    return exhibit.Images(names, split.images.reshape(-1, SIDE, SIDE) / 255.0, split.labels)


def curve(start: float, end: float) -> list[dict[str, Any]]:
    steps = np.linspace(10, 3000, 60)
    return [
        {"step": float(step), "values": {"loss": end + (start - end) * np.exp(-step / 300), "rate": 5.0}}
        for step in steps
    ]


@pytest.fixture(scope="session")
def subject(shown_images: exhibit.Images) -> Callable[..., Subject]:
    """A function from a row to the variant as the page takes it."""
    models: dict[int, Linear] = {}

    def made(entry: Row, latent: int = 2, pictures: bool = True) -> Subject:
        model = models.setdefault(latent, Linear(shown_images, latent))
        generative = entry.trained.family == "generative"
        parts = [exhibit.originals(shown_images)]
        if generative:
            frames = np.random.default_rng(0).integers(0, 256, [20, 25, SIDE, SIDE], np.uint8)
            parts += [
                exhibit.wall(model.call, shown_images, "wall"),
                exhibit.wall(model.call, shown_images, "production"),
                exhibit.samples(model.call, 0),
                exhibit.film(frames, list(range(1, 21))),
                exhibit.plane(model.call, shown_images, model.latents(shown_images.examples), latent == 2),
            ]
        else:
            probabilities = model.call("classify", "probabilities", examples=shown_images.examples)
            parts.append(exhibit.reading(probabilities, shown_images))
        facts, files = exhibit.merged(iter(parts if pictures else []))
        sprites = {
            each.name: f"data:image/png;base64,{base64.b64encode(each.content).decode()}" for each in files
        }
        name = "elbo" if generative else "accuracy"
        value = entry.metrics[name].value
        labels = {
            str(label): {name: metric(name, value * (1 + 0.01 * label), abs(0.02 * value))}
            for label in range(CLASSES)
        }
        record = {"curve": curve(900.0, 150.0) if generative else curve(2.3, 0.2)}
        shown = [{"title": "Samples", "file": f"pictures/{entry.variant}/samples.png", "caption": "Samples."}]
        index = {"pictures": shown if pictures else [], "left_out": {}}
        return Subject(entry, record, labels, labels if entry.gain else {}, index, facts, sprites)

    return made


@pytest.fixture(scope="session")
def about() -> page.About:
    """What is known of the run as a whole."""
    return page.About("2026-01-01 00:00 UTC", SPLITS, "", None, {"iwae": "generative"})


@pytest.fixture(scope="session")
def written(about: page.About) -> Callable[..., pathlib.Path]:
    """A function that writes a page into a folder."""

    def write(folder: pathlib.Path, subjects: Sequence[Subject], failed: Sequence[Row] = ()) -> pathlib.Path:
        path = folder / "index.html"
        path.write_text(report_page.render(page.view(subjects, failed, about)))
        return path

    return write
