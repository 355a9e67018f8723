"""Files of every kind reach a model as the images that they show; what is no image is refused by name."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.ingest import idx
from components.ingest.formats import Choices
from components.ingest.idx import IdxError
from pipeline import cli
from pipeline.evaluation.predict import PredictionError, predict
from schemas import CLASSES, IMAGE, PIXELS, SIDE

PLACE = (SIDE // 2, SIDE // 2)


class Reader(tf.Module):
    """A model whose label is the grey value in the middle of the image, and whose latents are its mean."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def answer(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]
        pixels = tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, PIXELS])
        label = tf.cast(pixels[:, PLACE[0] * SIDE + PLACE[1]], tf.int64)
        return {
            "label": label,
            "probabilities": tf.one_hot(label, CLASSES, 0.91, 0.01),
            "latents": tf.reduce_mean(tf.cast(pixels, tf.float32), axis=1, keepdims=True),
            "reconstruction": tf.reshape(pixels, [-1, SIDE, SIDE, 1]),
        }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("serving")
    reader = Reader()
    tf.saved_model.save(reader, str(folder / "9"), signatures={"serving_default": reader.answer})
    tf.saved_model.save(reader, str(folder / "10"), signatures={"serving_default": reader.answer})
    return str(folder)


def drawing(label: int) -> np.ndarray:
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[PLACE] = label
    return image


@pytest.fixture
def files(tmp_path: pathlib.Path) -> dict[str, str]:
    """The drawings of 3, 4 and 5 in every form."""
    images = np.stack([drawing(label) for label in (3, 4, 5)])
    found = {name: str(tmp_path / name) for name in ("a-idx3-ubyte", "b.npy", "c.npz", "d.png", "one.npy")}
    idx.write(found["a-idx3-ubyte"], images)
    idx.write(str(tmp_path / "a.gz"), images)
    np.save(found["b.npy"], images)
    np.savez(found["c.npz"], images=images)
    Image.fromarray(images[0]).convert("RGB").save(found["d.png"])
    np.save(found["one.npy"], images[2])
    return {**found, "a.gz": str(tmp_path / "a.gz")}


def labels(
    model: str, files: Sequence[str], choices: Choices | None = None, invert: bool = False
) -> list[int]:
    answers = predict(model, files, choices=choices or Choices(), invert=invert, report=lambda line: None)
    return [int(label) for label in answers.outputs["label"]]


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a.gz", "b.npy", "c.npz"])
def test_files_of_several_images_are_answered_in_their_order(
    model: str, files: dict[str, str], name: str
) -> None:
    assert labels(model, [files[name]]) == [3, 4, 5]


def test_one_image_is_read_from_a_picture_or_an_array_and_files_keep_their_order(
    model: str, files: dict[str, str]
) -> None:
    given = [files["one.npy"], files["d.png"], files["b.npy"]]
    answers = predict(model, given, choices=Choices(), invert=False, report=print)
    assert answers.outputs["label"].tolist() == [5, 3, 3, 4, 5]
    assert answers.names == [*given[:2], *(f"{files['b.npy']}[{number}]" for number in range(3))]


def test_a_jpeg_of_another_size_is_averaged_over_areas(model: str, tmp_path: pathlib.Path) -> None:
    large = np.kron(np.full((SIDE, SIDE), 7, np.uint8), np.ones((3, 3), np.uint8))
    Image.fromarray(large).save(tmp_path / "large.jpg", quality=100)
    with pytest.raises(IdxError, match="are 84x84 pixels, expected 28x28; give --resize pad or area"):
        labels(model, [str(tmp_path / "large.jpg")])
    assert labels(model, [str(tmp_path / "large.jpg")], Choices(resize="area")) == [7]


def test_a_bright_background_is_reported_and_can_be_inverted(model: str, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "paper.png")
    Image.fromarray(255 - drawing(6)).save(path)
    told: list[str] = []
    predict(model, [path], choices=Choices(), invert=False, report=told.append)
    assert [line.split(": ")[0] for line in told] == [f"! {path}"]
    assert "--invert" in told[0]
    told.clear()
    answers = predict(model, [path], choices=Choices(), invert=True, report=told.append)
    assert answers.outputs["label"].tolist() == [6]
    assert told == []


def test_an_image_without_a_drawing_is_reported(model: str, tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((SIDE, SIDE), np.uint8))
    told: list[str] = []
    predict(model, [str(tmp_path / "empty.npy")], choices=Choices(), invert=False, report=told.append)
    assert "same grey value everywhere" in told[0]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "nothing.png", "does not exist"),
        (b"", "empty.png", "expected a PNG or JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "cut.png", "expected a PNG or JPEG image"),
        (b"text", "notes.npy", "expected arrays of numbers saved by NumPy"),
        (b"text", "notes.txt", "it is not an IDX file"),
        (b"\0\0\x08\x01\0\0\0\x02ab", "labels-idx1-ubyte", "were the images and the labels swapped"),
        (b"\0\0\x08\x03" + bytes(12), "none-idx3-ubyte", "expected"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    model: str, tmp_path: pathlib.Path, content: bytes | None, name: str, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IdxError, match=message) as error:
        labels(model, [str(path)])
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_what_is_no_model_is_refused_by_name(
    place: str, tmp_path: pathlib.Path, files: dict[str, str]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictionError, match=f"{place} is not a SavedModel; give a folder"):
        labels(str(tmp_path / place), [files["d.png"]])


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_prints_a_line_per_image_and_writes_all_outputs(
    model: str, files: dict[str, str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.npz"
    assert run(model, files["b.npy"], "--output", str(output)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:4] for line in lines] == [[str(n), "probability", "0.910"] for n in (3, 4, 5)]
    saved = np.load(output)
    assert saved["reconstruction"].shape == (3, SIDE, SIDE, 1)
    assert saved["image"].tolist() == [line.split()[0] for line in lines]
    assert run(model, files["b.npy"], "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["label"], len(each["probabilities"])) for each in found] == [
        (n, CLASSES) for n in (3, 4, 5)
    ]


def test_the_command_s_exit_codes_say_whose_fault_it_is(
    model: str, files: dict[str, str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, str(tmp_path / "nothing.png")) == 1
    assert run(str(tmp_path / "nowhere"), files["d.png"]) == 2
    assert run(model, files["d.png"], "--output", str(tmp_path / "no" / "folder.npz")) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3
