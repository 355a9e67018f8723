import io
import json
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from components.ingest import idx
from components.ingest.example_gen import write_split
from components.reporting import exhibit, figures, gallery
from schemas import CLASSES, IMAGE, LABEL, PIXELS, SIDE, TEST_SPLIT, TRAINING_FRAMES, TRAINING_RECORD

EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")
SPEC = {IMAGE: tf.io.FixedLenFeature([], tf.string), LABEL: tf.io.FixedLenFeature([], tf.int64)}


def pixels(examples: tf.Tensor) -> tf.Tensor:
    """[B, PIXELS], ink from 0 to 1."""
    raw = tf.io.decode_raw(tf.io.parse_example(examples, SPEC)[IMAGE], tf.uint8)
    return tf.reshape(tf.cast(raw, tf.float32) / 255, [-1, PIXELS])


def images(flat: tf.Tensor) -> tf.Tensor:
    return tf.reshape(flat, [-1, SIDE, SIDE, 1])


class Principal(tf.Module):
    """A linear autoencoder of `latent` dimensions, with a generative model's signatures."""

    def __init__(self, latent: int, codes: bool = False) -> None:
        super().__init__()
        self.latent, self.codes = latent, codes
        self.basis = tf.Variable(tf.random.stateless_normal([PIXELS, latent], [1, 2]) / PIXELS**0.5)

    def encode(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"latents": tf.matmul(pixels(examples), self.basis)}

    def decode(self, latents: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": images(tf.sigmoid(tf.matmul(latents, self.basis, transpose_b=True)))}

    def reconstruct(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"reconstruction": self.decode(self.encode(examples)["latents"])["images"]}

    def sample(self, seed: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.decode(tf.random.stateless_normal([count, self.latent], tf.stack([seed, 0])))

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {"elbo": -tf.reduce_sum(pixels(examples), axis=1)}
        return {**found, "codes": pixels(examples)} if self.codes else found

    def signatures(self) -> dict[str, Any]:
        scalar = {name: tf.TensorSpec([], tf.int32, name=name) for name in ("seed", "count")}
        latents = tf.TensorSpec([None, self.latent], name="latents")
        return {
            "encode": tf.function(self.encode, input_signature=[EXAMPLES]),
            "decode": tf.function(self.decode, input_signature=[latents]),
            "reconstruct": tf.function(self.reconstruct, input_signature=[EXAMPLES]),
            "sample": tf.function(self.sample, input_signature=[scalar["seed"], scalar["count"]]),
            "evaluate": tf.function(self.evaluate, input_signature=[EXAMPLES]),
        }


class Oracle(tf.Module):
    """A classifier that reads the label and is wrong about the label `blind` alone."""

    def __init__(self, blind: int | None) -> None:
        super().__init__()
        self.blind = -1 if blind is None else blind

    def classify(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        labels = tf.io.parse_example(examples, SPEC)[LABEL]
        guesses = tf.where(labels == self.blind, (labels + 1) % CLASSES, labels)
        probabilities = 0.9 * tf.one_hot(guesses, CLASSES) + 0.1 / CLASSES
        return {"probabilities": probabilities, "label": guesses}

    def generated_weights(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"kernel": pixels(examples)[:, :, None] * tf.linspace(-1.0, 1.0, 12)}

    def signatures(self) -> dict[str, Any]:
        return {
            name: tf.function(getattr(self, name), input_signature=[EXAMPLES])
            for name in ("classify", "generated_weights")
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, idx.Images]) -> str:
    folder = tmp_path_factory.mktemp("examples")
    write_split([digits[TEST_SPLIT]], len(digits[TEST_SPLIT].labels), str(folder))
    return f"{folder}/*"


def made(module: Any, files: str, place: pathlib.Path, **record: Any) -> dict[str, Any]:
    """The gallery's index, after every picture it lists has been opened."""
    model, run, folder = (str(place / name) for name in ("model", "run", "gallery"))
    tf.saved_model.save(module, model, signatures=module.signatures())
    for path in (place / "run", place / "gallery"):
        path.mkdir(exist_ok=True)
    values = {"loss": 200.0, "accuracy": 0.5}
    curve = [{"step": step, "values": values} for step in (20, 60, 200)]
    stored = {"variant": "tested", "curve": curve, "held_out": curve[1:], **record}
    (place / "run" / TRAINING_RECORD).write_text(json.dumps(stored))
    gallery.write(model, run, files, folder)
    index: dict[str, Any] = json.loads((place / "gallery" / gallery.INDEX).read_text())
    for picture in index["pictures"]:
        with Image.open(place / "gallery" / picture["file"]) as opened:
            opened.load()
        assert picture["title"]
        assert picture["caption"].endswith(".")
    return index


def names(index: dict[str, Any]) -> list[str]:
    return [picture["file"] for picture in index["pictures"]]


def caption(index: dict[str, Any], file: str) -> str:
    return str(next(picture["caption"] for picture in index["pictures"] if picture["file"] == file))


def test_a_generative_model_gets_every_picture(files: str, tmp_path: pathlib.Path) -> None:
    index = made(Principal(2), files, tmp_path)
    kinds = ("reconstructions", "samples", "manifold", "interpolation", "latents", "curves")
    assert names(index) == [f"{kind}.png" for kind in kinds]
    assert index["left_out"] == {}
    assert "active" not in caption(index, "manifold.png")


def test_a_wide_latent_space_is_shown_by_its_two_most_active_units(
    files: str, tmp_path: pathlib.Path
) -> None:
    model = Principal(5)
    scale = tf.constant([0.1, 3.0, 0.1, 0.1, 2.0])
    model.basis.assign(model.basis * scale)
    index = made(model, files, tmp_path)
    assert "two most active of 5 latent units, 2 and 5" in caption(index, "manifold.png")
    assert "from 5 dimensions" in caption(index, "latents.png")


def test_codes_are_not_mistaken_for_coordinates(files: str, tmp_path: pathlib.Path) -> None:
    index = made(Principal(2, codes=True), files, tmp_path)
    assert names(index) == ["reconstructions.png", "samples.png", "curves.png"]
    assert set(index["left_out"]) == {"Latent manifold", "Interpolation", "Latent space"}
    assert "codebook" in index["left_out"]["Latent manifold"]


def test_another_prior_has_no_manifold_of_normal_quantiles(files: str, tmp_path: pathlib.Path) -> None:
    index = made(Principal(3), files, tmp_path, latent_prior="hierarchical")
    assert "manifold.png" not in names(index)
    assert "interpolation.png" in names(index)
    assert "not a standard normal" in index["left_out"]["Latent manifold"]


def test_one_latent_dimension_and_values_that_are_not_numbers_are_said(
    files: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "narrow").mkdir()
    narrow = made(Principal(1), files, tmp_path / "narrow")
    assert narrow["left_out"] == {"Latent manifold": "the latent space has one dimension"}
    broken = Principal(2)
    broken.basis.assign(broken.basis * float("nan"))
    (tmp_path / "broken").mkdir()
    assert "not finite" in made(broken, files, tmp_path / "broken")["left_out"]["Latent space"]


def test_a_classifier_is_shown_where_it_errs(
    files: str, digits: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    index = made(Oracle(blind=3), files, tmp_path)
    assert names(index) == ["confusion.png", "reliability.png", "mistakes.png", "weights.png", "curves.png"]
    labels = digits[TEST_SPLIT].labels
    share = 100 * np.mean(labels != 3)
    assert f"{share:.2f} % of them are on the diagonal" in caption(index, "confusion.png")
    assert f"of {np.sum(labels == 3)} mistakes in {len(labels)}" in caption(index, "mistakes.png")
    error = abs(np.mean(labels != 3) - 0.91)
    assert f"error {100 * error:.1f} percentage points" in caption(index, "reliability.png")


def test_a_classifier_without_mistakes_has_none_to_show(files: str, tmp_path: pathlib.Path) -> None:
    index = made(Oracle(blind=None), files, tmp_path)
    assert "mistakes.png" not in names(index)
    assert "there is none" in index["left_out"]["Worst mistakes"]


def test_frames_of_training_become_a_film(files: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "run").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, [5, 25, SIDE, SIDE], np.uint8)
    np.savez_compressed(tmp_path / "run" / TRAINING_FRAMES, frames=frames, steps=np.arange(1, 6) * 100)
    index = made(Principal(2), files, tmp_path)
    assert "25 samples at 5 moments of training, up to step 500" in caption(index, "training.gif")
    assert getattr(Image.open(tmp_path / "gallery" / "training.gif"), "n_frames", 1) == 5


def test_held_out_curves_are_named_where_they_were_measured(files: str, tmp_path: pathlib.Path) -> None:
    assert "does not see" in caption(made(Principal(2), files, tmp_path), "curves.png")
    (tmp_path / "without").mkdir()
    assert "does not see" not in caption(
        made(Principal(2), files, tmp_path / "without", held_out=[]), "curves.png"
    )


def test_the_test_set_is_sampled_from_its_whole_length(
    monkeypatch: pytest.MonkeyPatch, files: str, digits: dict[str, idx.Images]
) -> None:
    monkeypatch.setattr(gallery, "TEST_IMAGES", 3)
    found = gallery.test_set(files)
    whole = digits[TEST_SPLIT]
    chosen = [0, round((len(whole.labels) - 1) / 2), len(whole.labels) - 1]
    assert found.labels.tolist() == whole.labels[chosen].tolist()
    assert found.images == pytest.approx(whole.images[chosen] / 255)


def test_the_first_of_each_label_leaves_out_labels_with_too_few() -> None:
    labels: npt.NDArray[np.int64] = np.array([2, 1, 1, 2, 5, 1])
    assert gallery.first_of_each(labels, 2).tolist() == [[1, 0], [2, 3]]
    assert gallery.first_of_each(labels, 1).tolist() == [[1, 0, 4]]


@pytest.mark.parametrize(
    ("share", "shown"), [(0.00002, "0.002 %"), (0.031, "3 %"), (0.0949, "9 %"), (0.41, "41 %")]
)
def test_probabilities_are_short(share: float, shown: str) -> None:
    assert gallery.per_cent(share) == shown


def test_frames_are_optional(tmp_path: pathlib.Path) -> None:
    assert gallery.frames(str(tmp_path)) is None
    content = io.BytesIO()
    np.savez(content, frames=np.zeros([2, 4, SIDE, SIDE], np.uint8), steps=[7, 9])
    (tmp_path / TRAINING_FRAMES).write_bytes(content.getvalue())
    found = gallery.frames(str(tmp_path))
    assert found is not None
    assert found[1] == [7, 9]


def test_a_picture_that_cannot_be_drawn_costs_no_other(
    files: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(subject: gallery.Subject) -> figures.Picture:
        raise RuntimeError("no\nink")

    monkeypatch.setattr(gallery, "samples", broken)
    index = made(Principal(2), files, tmp_path)
    assert "samples.png" not in names(index)
    assert "reconstructions.png" in names(index)
    assert index["left_out"]["Samples"] == "it could not be drawn (RuntimeError: no ink)"


@pytest.mark.parametrize("count", [1, 3, 40])
def test_few_images_and_a_single_class_are_drawn_as_far_as_they_can_be(
    count: int, digits: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    split = digits[TEST_SPLIT]
    chosen = np.flatnonzero(split.labels == 3)[:count]
    write_split([idx.Images(split.images[chosen], split.labels[chosen])], len(chosen), str(tmp_path))
    for name, model in (("generative", Principal(2)), ("classifier", Oracle(blind=3))):
        (tmp_path / name).mkdir()
        index = made(model, f"{tmp_path}/*.gz", tmp_path / name)
        assert names(index)


def test_the_exhibit_has_this_model_production_and_a_plane(files: str, tmp_path: pathlib.Path) -> None:
    made(Principal(2), files, tmp_path)
    folder = tmp_path / "gallery"
    facts = json.loads((folder / exhibit.FILE).read_text())
    assert {"digits", "points", "wall", "samples", "plane", "positions"} <= set(facts)
    assert "production" not in facts
    gallery.write(str(tmp_path / "model"), str(tmp_path / "run"), files, str(folder), str(tmp_path / "model"))
    facts = json.loads((folder / exhibit.FILE).read_text())
    assert (folder / facts["production"]).read_bytes() == (folder / facts["wall"]).read_bytes()


def test_a_gallery_without_a_model_says_why_and_does_not_fail(files: str, tmp_path: pathlib.Path) -> None:
    gallery.write_or_say(str(tmp_path / "nothing"), str(tmp_path / "nothing"), files, str(tmp_path))
    index = json.loads((tmp_path / gallery.INDEX).read_text())
    assert index["pictures"] == []
    assert "could not be drawn" in index["left_out"]["Gallery"]
