"""Data sets in the forms in which people have them are read alike, by a run and by `latentline import`."""

import contextlib
import gzip
import pathlib
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from components.ingest import convert, formats, idx, spans
from components.ingest.convert import ConversionError
from components.ingest.formats import Choices
from schemas import AREA, PAD, PIXELS, SIDE, TEST_SPLIT, TRAIN_SPLIT

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
    kind = formats.TYPES[code]
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


def by_columns(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    """Arrays in Fortran's order, in a compressed archive."""
    arrays: dict[str, Any] = {}
    for split, word in ((TRAIN_SPLIT, "train"), (TEST_SPLIT, "test")):
        arrays[f"{word}_images"] = np.asfortranarray(data[split].images)
        arrays[f"{word}_labels"] = data[split].labels
    np.savez_compressed(folder / "own.npz", **arrays)
    return folder


def whole_numbers(folder: pathlib.Path, data: dict[str, idx.Images]) -> pathlib.Path:
    """IDX files of 16-bit images in rows of PIXELS and of 32-bit labels, under MNIST's names."""
    for split, prefix in idx.PREFIXES.items():
        rows = data[split].images.reshape(-1, PIXELS)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(rows, 0x0B))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(data[split].labels, 0x0C))
    return folder


FORMS = (torchvision, keras, qmnist, emnist, kuzushiji, npy, png, by_columns, whole_numbers)


def taken(source: pathlib.Path) -> dict[str, list[formats.Part]]:
    return spans.files_taken(spans.delivered(str(source), [spans.PLAIN]))


def covered(source: pathlib.Path) -> tuple[str, list[str]]:
    """What a run's fingerprint of the source is, and the files that it covers."""
    digests = spans.digests(taken(source))
    return spans.fingerprint(str(source), digests), list(digests)


@pytest.mark.parametrize("block", [3, formats.BLOCK])
@pytest.mark.parametrize("form", FORMS)
def test_a_run_reads_every_form_directly_and_hashes_the_bytes_that_it_reads(
    form: Any,
    block: int,
    data: dict[str, idx.Images],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "BLOCK", block)
    source = form(tmp_path, data)
    read: dict[str, str] = {}
    for split, [part] in taken(source).items():
        assert formats.count(part) == SPLITS[split]
        blocks = list(formats.blocks(part, Choices(), read))
        assert len(blocks) == -(-SPLITS[split] // block)
        found = formats.joined(iter(blocks))
        np.testing.assert_array_equal(found.images, data[split].images)
        np.testing.assert_array_equal(found.labels, data[split].labels)
    assert read == spans.digests(taken(source))
    spans.check_unchanged(str(source), covered(source)[0], read)
    below = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(read) == below, "a file that is read is not covered"


@pytest.mark.parametrize("form", FORMS)
def test_replacing_any_byte_of_any_file_of_any_form_changes_the_fingerprint_or_is_refused(
    form: Any, data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    source = form(tmp_path, data)
    before, paths = covered(source)

    @hypothesis.given(drawn=st.data())
    @hypothesis.settings(max_examples=10, deadline=None, database=None)
    def replaced(drawn: st.DataObject) -> None:
        path = pathlib.Path(drawn.draw(st.sampled_from(paths)))
        content = path.read_bytes()
        changed = bytearray(content)
        changed[drawn.draw(st.integers(0, len(content) - 1))] ^= drawn.draw(st.integers(1, 255))
        path.write_bytes(changed)
        with contextlib.suppress(idx.IdxError):
            assert covered(source)[0] != before
        path.write_bytes(content)

    replaced()
    assert covered(source)[0] == before


def test_pictures_that_are_added_moved_or_renamed_change_the_fingerprint(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    source = png(tmp_path, data)
    seen = {covered(source)[0]}
    assert "train/3/*.png (1 images) sha256:" in next(iter(seen))
    shutil.copy(source / "train" / "3" / "image.png", source / "train" / "3" / "another.png")
    seen.add(covered(source)[0])
    (source / "train" / "3" / "another.png").rename(source / "train" / "4" / "another.png")
    seen.add(covered(source)[0])
    (source / "train" / "6").rename(source / "train" / "7")
    seen.add(covered(source)[0])
    assert len(seen) == 4


def test_a_file_that_changes_between_its_two_splits_is_not_taken_for_the_file_of_the_fingerprint(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    source = keras(tmp_path, data)
    before = covered(source)[0]
    read: dict[str, str] = {}
    parts = formats.find(str(source))
    list(formats.blocks(parts[TRAIN_SPLIT], Choices(), read))
    keras(tmp_path, {**data, TEST_SPLIT: data[TEST_SPLIT]._replace(labels=data[TEST_SPLIT].labels[::-1])})
    list(formats.blocks(parts[TEST_SPLIT], Choices(), read))
    with pytest.raises(idx.IdxError, match="changed while it was read"):
        spans.check_unchanged(str(source), before, read)


def test_of_several_data_sets_below_a_folder_none_is_chosen_and_of_one_its_place_is_reported(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    torchvision(tmp_path, data)
    said: list[str] = []
    formats.find(str(tmp_path), report=said.append)
    assert said == [f"reading {tmp_path / 'MNIST' / 'raw'}"]
    (tmp_path / "Fashion" / "raw").mkdir(parents=True)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        shutil.copy(path, tmp_path / "Fashion" / "raw")
    with pytest.raises(idx.IdxError, match="holds several data sets .Fashion/raw, MNIST/raw., expected one"):
        formats.find(str(tmp_path))


def test_deliveries_are_not_taken_for_a_data_set_in_a_folder(
    data: dict[str, idx.Images], tmp_path: pathlib.Path
) -> None:
    torchvision(tmp_path / "span-1", data)
    with pytest.raises(idx.IdxError, match="holds no files, expected the four IDX files"):
        formats.find(str(tmp_path))


def add_archive(folder: pathlib.Path) -> None:
    np.savez(folder / "a.npz", x_train=np.zeros(1))
    np.savez(folder / "b.npz", x_train=np.zeros(1))


def add_pictures(*names: str) -> Callable[[pathlib.Path], None]:
    def add(folder: pathlib.Path) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)
            Image.fromarray(np.zeros([SIDE, SIDE], np.uint8)).save(folder / name / "1.png")

    return add


@pytest.mark.parametrize(
    ("prepare", "subset", "words"),
    [
        (add_archive, "", "holds 2 archives .a.npz, b.npz., expected one; give the path of one"),
        (
            add_archive,
            "a",
            "has no labels of the train split and no images .*, only x_train, expected",
        ),
        (add_archive, "c", "no file of a data set begins with c, expected .*correct --subset"),
        (add_pictures("test/1", "eval/1", "train/1"), "", "eval and test both are the eval split"),
        (add_pictures("train/1"), "", "has no images of the eval split, expected images and labels"),
        (add_pictures("train/1", "train/01", "test/1"), "", "are called 01, 1, expected different numbers"),
        (add_pictures("train/1", "test/300"), "", "are called 1, 300, expected .*0 to 255"),
    ],
)
def test_what_is_ambiguous_or_missing_is_named(
    prepare: Any, subset: str, words: str, tmp_path: pathlib.Path
) -> None:
    prepare(tmp_path)
    with pytest.raises(idx.IdxError, match=words) as caught:
        formats.find(str(tmp_path), subset)
    assert "\n" not in str(caught.value)


def test_what_is_no_picture_is_named(data: dict[str, idx.Images], tmp_path: pathlib.Path) -> None:
    png(tmp_path, data)
    (tmp_path / "train" / "2" / "scan.jpg").touch()
    (tmp_path / "train" / "empty").mkdir()
    said: list[str] = []
    formats.find(str(tmp_path), report=said.append)
    assert len(said) == 1
    assert said[0].endswith("only folders of .png files are: train/2/scan.jpg, train/empty")


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
    with pytest.raises(idx.IdxError, match="are 20x24 pixels, expected 28x28; give --resize pad or area"):
        formats.to_images(small, Choices(), "train images")
    padded = formats.to_images(small, Choices(resize=PAD), "train images")
    assert padded.shape == (2, SIDE, SIDE)
    assert padded[:, 4:24, 2:26].min() == 200
    assert padded.sum() == small.sum()
    large = np.zeros([1, 2 * SIDE, 2 * SIDE], np.uint8)
    large[0, ::2, ::2] = 200
    np.testing.assert_array_equal(
        formats.to_images(large, Choices(resize=AREA), ""), np.full([1, SIDE, SIDE], 50)
    )
    with pytest.raises(idx.IdxError, match="expected at most 28x28 for --resize pad; give --resize area"):
        formats.to_images(large, Choices(resize=PAD), "train images")


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
        ConversionError, match="all are (train|eval) images, expected one file of each; .*--subset"
    ):
        convert.read(str(tmp_path), Choices(), print)
    found = convert.read(str(tmp_path), Choices(subset="emnist-letters"), lambda line: None)
    np.testing.assert_array_equal(found[TRAIN_SPLIT].images, data[TRAIN_SPLIT].images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x, y[:-1]), "holds 7 images but .* 6 labels"),
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
        ("empty", "holds no files, expected the four IDX files"),
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
