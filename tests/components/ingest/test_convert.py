"""Data sets in the forms in which people have them become four IDX files with the same images and labels."""

import gzip
import pathlib
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.ingest import convert, idx
from components.ingest.convert import AREA, PAD, Choices, ConversionError
from schemas import PIXELS, SIDE, TEST_SPLIT, TRAIN_SPLIT

ROOT = pathlib.Path(convert.__file__).parents[2]
SPLITS = {TRAIN_SPLIT: 7, TEST_SPLIT: 4}


@pytest.fixture(scope="module")
def data() -> dict[str, idx.Images]:
    draw = np.random.default_rng(0)
    return {
        split: idx.Images(
            draw.integers(0, 256, [count, SIDE, SIDE], np.uint8), np.arange(count, dtype=np.uint8)
        )
        for split, count in SPLITS.items()
    }


def idx_bytes(array: Any, code: int) -> bytes:
    kind = convert.TYPES[code]
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.astype(kind).tobytes()


def torchvision(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, prefix in idx.PREFIXES.items():
        for kind, array in zip(idx.KINDS, data[split], strict=True):
            idx.write(str(raw / f"{prefix}-{kind}-idx{idx.KINDS[kind]}-ubyte"), array)
            idx.write(str(raw / f"{prefix}-{kind}-idx{idx.KINDS[kind]}-ubyte.gz"), array)
    return folder


def keras(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    (x_train, y_train), (x_test, y_test) = data[TRAIN_SPLIT], data[TEST_SPLIT]
    np.savez(folder / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return folder / "mnist.npz"


def qmnist(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    for split, word in ((TRAIN_SPLIT, "train"), (TEST_SPLIT, "test")):
        rows = np.zeros([SPLITS[split], 8], int)
        rows[:, 0], rows[:, 2] = data[split].labels, 1000
        idx.write(str(folder / f"qmnist-{word}-images-idx3-ubyte.gz"), data[split].images)
        (folder / f"qmnist-{word}-labels-idx2-int.gz").write_bytes(gzip.compress(idx_bytes(rows, 0x0C)))
    return folder


def emnist(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    for split, word in ((TRAIN_SPLIT, "train"), (TEST_SPLIT, "test")):
        turned = np.ascontiguousarray(data[split].images.transpose(0, 2, 1))
        idx.write(str(folder / f"emnist-letters-{word}-images-idx3-ubyte.gz"), turned)
        idx.write(str(folder / f"emnist-letters-{word}-labels-idx1-ubyte.gz"), data[split].labels)
    return folder


def kuzushiji(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    for split, word in ((TRAIN_SPLIT, "train"), (TEST_SPLIT, "test")):
        np.savez(folder / f"k49-{word}-imgs.npz", data[split].images)
        np.savez(folder / f"k49-{word}-labels.npz", data[split].labels)
    return folder


def npy(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    """Images in rows of PIXELS whole numbers, with a last axis of 1 for the test images."""
    np.save(folder / "x_train.npy", data[TRAIN_SPLIT].images.reshape(-1, PIXELS).astype(int))
    np.save(folder / "x_test.npy", data[TEST_SPLIT].images[..., None].astype(np.float32))
    np.save(folder / "y_train.npy", data[TRAIN_SPLIT].labels[:, None].astype(int))
    np.save(folder / "y_test.npy", data[TEST_SPLIT].labels.astype(float))
    return folder


def png(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    for split, word in ((TRAIN_SPLIT, "train"), (TEST_SPLIT, "test")):
        for image, label in zip(*data[split], strict=True):
            (folder / word / str(label)).mkdir(parents=True)
            Image.fromarray(image).save(folder / word / str(label) / "image.png")
    return folder


FORMS = (torchvision, keras, qmnist, emnist, kuzushiji, npy, png)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_and_labels(
    form: Any, data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "s [1]").mkdir()
    source, target = form(tmp_path / "s [1]", data), tmp_path / "new" / "folder"
    said: list[str] = []
    convert.convert(str(source), str(target), Choices(), said.append)
    for split, pair in idx.split_files(str(target)).items():
        found = idx.read_pair(*pair)
        np.testing.assert_array_equal(found.images, data[split].images)
        np.testing.assert_array_equal(found.labels, data[split].labels)
    assert len(list(target.iterdir())) == 4
    assert any("transposed: they are turned" in line for line in said) == (form is emnist)
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_float_idx_is_scaled_when_told_and_refused_when_not(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    for split, prefix in idx.PREFIXES.items():
        scaled = data[split].images / 255
        (tmp_path / f"{prefix}-images-idx3-float").write_bytes(idx_bytes(scaled, 0x0D))
        idx.write(str(tmp_path / f"{prefix}-labels-idx1-ubyte"), data[split].labels)
    with pytest.raises(ConversionError, match="are fractions from 0 to 1, .*give --scale"):
        convert.read(str(tmp_path), Choices(), print)
    found = convert.read(str(tmp_path), Choices(scale=True), print)
    for split in SPLITS:
        np.testing.assert_array_equal(found[split].images, data[split].images)


def test_images_of_another_size_are_resized_only_when_told() -> None:
    small = np.full([2, 20, 24], 200, np.uint8)
    with pytest.raises(ConversionError, match="are 20x24 pixels, expected 28x28; give --resize pad or area"):
        convert.to_images(small, Choices(), "train images")
    padded = convert.to_images(small, Choices(resize=PAD), "train images")
    assert padded.shape == (2, SIDE, SIDE)
    assert padded[:, 4:24, 2:26].min() == 200
    assert padded.sum() == small.sum()
    large = np.zeros([1, 2 * SIDE, 2 * SIDE], np.uint8)
    large[0, ::2, ::2] = 200
    np.testing.assert_array_equal(
        convert.to_images(large, Choices(resize=AREA), ""), np.full([1, SIDE, SIDE], 50)
    )
    with pytest.raises(ConversionError, match="expected at most 28x28 for --resize pad; give --resize area"):
        convert.to_images(large, Choices(resize=PAD), "train images")


def test_classes_by_name_are_numbered_in_their_order_and_listed(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    for word in ("train", "test"):
        for name in ("shoe", "bag"):
            (tmp_path / word / name).mkdir(parents=True)
            Image.fromarray(data[TRAIN_SPLIT].images[0]).save(tmp_path / word / name / "1.png")
    said: list[str] = []
    found = convert.read(str(tmp_path), Choices(), said.append)
    assert found[TEST_SPLIT].labels.tolist() == [0, 1]
    assert said == ["classes by name: bag is 0, shoe is 1"]


def test_of_several_sets_in_one_folder_one_is_chosen_by_name(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    qmnist(emnist(tmp_path, data), data)
    with pytest.raises(
        ConversionError, match="all are (train|eval) images, expected one file of each; .*--name"
    ):
        convert.read(str(tmp_path), Choices(), print)
    found = convert.read(str(tmp_path), Choices(name="emnist-letters"), lambda line: None)
    np.testing.assert_array_equal(found[TRAIN_SPLIT].images, data[TRAIN_SPLIT].images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x, y[:-1]), "7 images and 6 labels"),
        (
            lambda x, y: (x[..., None].repeat(3, -1), y),
            "have the shape 7x28x28x3, expected N x rows x columns",
        ),
        (lambda x, y: (x.astype(int) + 1, y), "are int64 from .* to 256, expected grey values from 0 to 255"),
        (lambda x, y: (x, y.astype(int) - 1), "expected one whole number from 0 to 255 per image"),
        (lambda x, y: (x, np.eye(7)), "are float64 of shape 7x7, expected one whole number"),
        (lambda x, y: (x / 255, y), "are fractions from 0"),
        (lambda x, y: (np.array([{}] * 7), y), "cannot be read .*expected arrays of numbers saved by NumPy"),
    ],
)
def test_what_cannot_be_converted_is_named_and_writes_nothing(
    change: Any, words: str, data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    images, labels = data[TRAIN_SPLIT]
    images = np.maximum(images, 255 * (np.arange(SIDE) == 0)).astype(np.uint8)
    npy(tmp_path, data)
    for name, array in zip(("x_train", "y_train"), change(images, labels), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(ConversionError, match=words) as caught:
        convert.convert(str(tmp_path), str(tmp_path / "new"), Choices(), print)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "does not exist"),
        ("https://host/mnist.npz", "is a URL, expected a local path"),
        ("empty", "has no images and no labels of the train split"),
        ("README.md", "is a single file, expected an .npz archive"),
    ],
)
def test_a_source_without_data_is_named(source: str, words: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("no data")
    place = source if "://" in source else str(tmp_path / source)
    with pytest.raises(ConversionError, match=words):
        convert.convert(place, str(tmp_path / "new"), Choices(), print)


def test_a_folder_that_holds_something_is_not_written_to(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    source = keras(tmp_path, data)
    with pytest.raises(ConversionError, match="exists and is not empty, expected a new folder"):
        convert.convert(str(source), str(tmp_path), Choices(), print)


def test_the_command_says_what_it_wrote_and_what_the_schema_will_refuse(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    more = {split: idx.Images(pair.images, pair.labels + np.uint8(40)) for split, pair in data.items()}
    command = [sys.executable, "-m", "pipeline", "import", str(keras(tmp_path, more)), str(tmp_path / "new")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "train: 7 images, labels 40 to 46" in done.stdout
    assert "! labels reach 46, but the schema declares 0 to 9; a run will refuse them" in done.stdout
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("latentline: error: ")
