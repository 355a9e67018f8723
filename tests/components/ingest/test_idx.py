import contextlib
import gzip
import os
import pathlib
import struct
import subprocess
import sys
import tracemalloc
import types
from collections.abc import Callable, Iterator

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import schemas
from components.ingest import idx

SIDE = schemas.SIDE
HEADER_BYTES = 16


def some_images(count: int = 3) -> idx.Bytes:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE), np.uint8)


def encoded(array: idx.Bytes) -> bytes:
    """The format by the book, without the module under test."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def image_header(count: int, rows: int = SIDE, columns: int = SIDE) -> bytes:
    return struct.pack(">4I", 0x00000803, count, rows, columns)


def stored(folder: pathlib.Path, content: bytes, name: str = "some-images-idx3-ubyte") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refusal(path: str, read: Callable[[str], object] = idx.read_images) -> str:
    """The message of the IdxError that reading raises, known to be one line that begins with the path."""
    with pytest.raises(idx.IdxError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert ", expected " in message
    assert "; " in message
    return message


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_images_are_read_whether_or_not_their_name_says_they_are_gzipped(
    tmp_path: pathlib.Path, packed: Callable[[bytes], bytes], name: str
) -> None:
    images = some_images()
    found = idx.read_images(stored(tmp_path, packed(encoded(images)), name))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)


def test_labels_are_read(tmp_path: pathlib.Path) -> None:
    labels = np.array([7, 0, 255], np.uint8)
    np.testing.assert_array_equal(idx.read_labels(stored(tmp_path, encoded(labels))), labels)


def test_gzip_files_of_several_members_are_read_whole(tmp_path: pathlib.Path) -> None:
    content = encoded(some_images())
    path = stored(tmp_path, gzip.compress(content[:100]) + gzip.compress(content[100:]))
    np.testing.assert_array_equal(idx.read_images(path), some_images())


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_what_is_written_is_read_back(tmp_path: pathlib.Path, ending: str) -> None:
    path = str(tmp_path / f"images{ending}")
    idx.write(path, some_images())
    np.testing.assert_array_equal(idx.read_images(path), some_images())
    assert os.listdir(tmp_path) == [f"images{ending}"]


def test_plain_files_are_written_by_the_book(tmp_path: pathlib.Path) -> None:
    idx.write(str(tmp_path / "images"), some_images())
    assert (tmp_path / "images").read_bytes() == encoded(some_images())


def test_gzipped_bytes_depend_on_neither_name_nor_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx.write(str(tmp_path / "one.gz"), some_images())
    monkeypatch.setattr("time.time", lambda: 4e8)
    idx.write(str(tmp_path / "another.gz"), some_images())
    content = (tmp_path / "one.gz").read_bytes()
    assert content == (tmp_path / "another.gz").read_bytes()
    assert content[4:8] == bytes(4)


def test_a_failed_write_leaves_the_older_file_and_nothing_else(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, b"older", "images")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(idx.IdxError, match="cannot be written .No space left on device"):
        idx.write(path, some_images())
    assert pathlib.Path(path).read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["images"]


@pytest.mark.parametrize(
    ("path", "array", "words"),
    [
        ("images", np.zeros((1, 2), np.float32), "cannot store float32"),
        ("images", np.array(1, np.uint8), "with 0 dimensions"),
        ("gs://bucket/images", np.zeros(1, np.uint8), "written locally"),
        ("missing/images", np.zeros(1, np.uint8), "No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    array: idx.Bytes,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(idx.IdxError, match=words):
        idx.write(path, array)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "ends inside its header, expected 4 more", id="empty"),
        pytest.param(image_header(1)[:9], "ends inside its header, expected 7 more", id="short header"),
        pytest.param(b"<html>", "begins with 0x3c68746d, expected 0x00000803", id="a web page"),
        pytest.param(
            b"\0\0\x0d\3" + image_header(1)[4:], r"type 0x0d .32-bit floats., expected 0x08", id="floats"
        ),
        pytest.param(encoded(np.zeros(1, np.uint8)), r"has 1 dimension.*expected 3.*swapped", id="labels"),
        pytest.param(
            image_header(1, SIDE + 1) + bytes(schemas.PIXELS),
            f"images of {SIDE + 1}x{SIDE} pixels",
            id="rows",
        ),
        pytest.param(
            image_header(1, SIDE, 2) + bytes(schemas.PIXELS), f"of {SIDE}x2 pixels, expected", id="columns"
        ),
        pytest.param(encoded(some_images())[:-1], f"ends after {3 * schemas.PIXELS - 1:,} bytes", id="cut"),
        pytest.param(encoded(some_images()) + b"\0", f"goes on after the {3 * schemas.PIXELS:,}", id="long"),
    ],
)
@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_a_file_that_is_not_what_it_promises_is_refused(
    tmp_path: pathlib.Path, content: bytes, words: str, packed: Callable[[bytes], bytes]
) -> None:
    path = stored(tmp_path, packed(content))
    with pytest.raises(idx.IdxError, match=words):
        idx.read_images(path)
    refusal(path)


def header(*sizes: int, order: str = ">") -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + struct.pack(f"{order}{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            header(2, SIDE, SIDE, 1),
            f"has 4 dimension.s. .2x{SIDE}x{SIDE}x1., .*reshape them to Nx{SIDE}x{SIDE}",
        ),
        (header(2, SIDE * SIDE), "has 2 dimension.s. .2x784., .*reshape them to Nx28x28"),
        (header(2), "were the images and the labels swapped"),
        (header(2, SIDE, SIDE, order="<"), "dimensions are little-endian, expected big-endian"),
        (header(2, 32, 32), "images of 32x32 pixels, expected 28x28; give --resize pad or area"),
    ],
)
def test_another_shape_is_refused_with_what_to_do(tmp_path: pathlib.Path, content: bytes, words: str) -> None:
    path = stored(tmp_path, content + bytes(2048))
    with pytest.raises(idx.IdxError, match=words):
        idx.read_images(path)


def test_labels_of_qmnist_are_refused_with_what_to_do(tmp_path: pathlib.Path) -> None:
    path = stored(tmp_path, header(3, 8) + bytes(24))
    assert "expected 1 for labels; keep one number per image" in refusal(path, idx.read_labels)


@pytest.mark.parametrize("place", ["https://host/mnist", "s3://bucket/mnist", "ftp://host/x"])
@pytest.mark.parametrize("read", [idx.split_files, idx.read_images, idx.stored_digest])
def test_a_url_that_cannot_be_read_names_the_schemes_that_can(
    place: str, read: Callable[[str], object]
) -> None:
    assert "expected a local folder or a URL with gs://, hdfs://, file://" in refusal(place, read)


@pytest.mark.parametrize("below", ["MNIST/raw", "raw", "mnist"])
def test_a_folder_above_the_files_is_refused_with_the_place_of_the_files(
    tmp_path: pathlib.Path, below: str
) -> None:
    (tmp_path / below).mkdir(parents=True)
    (tmp_path / below / "train-images-idx3-ubyte").touch()
    assert f"they are in {tmp_path / below}: give that folder" in refusal(str(tmp_path), idx.split_files)


def test_a_folder_of_other_data_is_refused_with_the_forms_that_are_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mnist.npz").touch()
    assert "`latentline import --help` lists what is read" in refusal(str(tmp_path), idx.split_files)


def test_images_given_for_labels_are_refused(tmp_path: pathlib.Path) -> None:
    path = stored(tmp_path, encoded(some_images()))
    assert f"has 3 dimension(s) (3x{SIDE}x{SIDE}), expected 1 for labels" in refusal(path, idx.read_labels)


@pytest.mark.parametrize("end", [3, 9, 40, -9, -4, -1])
def test_a_cut_gzip_file_is_refused(tmp_path: pathlib.Path, end: int) -> None:
    path = stored(tmp_path, gzip.compress(encoded(some_images()))[:end])
    assert "gzip data is cut or damaged" in refusal(path)


def test_a_wrong_gzip_checksum_is_refused(tmp_path: pathlib.Path) -> None:
    content = bytearray(gzip.compress(encoded(some_images())))
    content[-8] ^= 1
    assert "CRC check failed" in refusal(stored(tmp_path, bytes(content)))


def test_a_missing_file_is_refused(tmp_path: pathlib.Path) -> None:
    assert "cannot be read (No such file or directory)" in refusal(str(tmp_path / "absent"))


def test_a_folder_is_refused(tmp_path: pathlib.Path) -> None:
    assert "cannot be read (Is a directory)" in refusal(str(tmp_path))


def test_a_file_without_permission_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = stored(tmp_path, encoded(some_images()))
    monkeypatch.setattr("io.FileIO", denied)
    assert "cannot be read (Permission denied)" in refusal(path)


def test_a_path_with_a_line_break_is_shown_on_one_line(tmp_path: pathlib.Path) -> None:
    with pytest.raises(idx.IdxError) as caught:
        idx.read_images(f"{tmp_path}/a\nb")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_a_header_that_promises_terabytes_is_refused_in_little_memory(
    tmp_path: pathlib.Path, packed: Callable[[bytes], bytes]
) -> None:
    path = stored(tmp_path, packed(image_header(2**32 - 1) + bytes(1000)))
    assert peak_bytes(lambda: refusal(path)) < 4 * idx.CHUNK_BYTES
    assert f"promises {2**32 - 1:,} images" in refusal(path)


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_a_promise_within_the_limit_is_not_allocated_before_it_is_kept(
    tmp_path: pathlib.Path, packed: Callable[[bytes], bytes]
) -> None:
    path = stored(tmp_path, packed(image_header(idx.LIMIT_BYTES // schemas.PIXELS) + bytes(1000)))
    assert peak_bytes(lambda: refusal(path)) < 4 * idx.CHUNK_BYTES
    assert "ends after 1,000 bytes" in refusal(path)


def test_a_gzip_bomb_is_not_unpacked_beyond_its_promise(tmp_path: pathlib.Path) -> None:
    path = stored(tmp_path, gzip.compress(image_header(1) + bytes(32 * idx.CHUNK_BYTES)))
    assert peak_bytes(lambda: refusal(path)) < 4 * idx.CHUNK_BYTES
    assert "goes on after" in refusal(path)


def test_the_limit_is_on_bytes_of_values(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, encoded(some_images(3)))
    monkeypatch.setattr(idx, "LIMIT_BYTES", 3 * schemas.PIXELS)
    assert len(idx.read_images(path)) == 3
    monkeypatch.setattr(idx, "LIMIT_BYTES", 3 * schemas.PIXELS - 1)
    assert "expected at most" in refusal(path)


@hypothesis.given(content=st.binary(max_size=64), packed=st.sampled_from([bytes, gzip.compress]))
@hypothesis.settings(max_examples=150, deadline=None)
def test_random_bytes_raise_nothing_but_idx_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: Callable[[bytes], bytes]
) -> None:
    path = stored(tmp_path_factory.getbasetemp(), packed(content))
    for read in (idx.read_images, idx.read_labels):
        with contextlib.suppress(idx.IdxError):
            assert encoded(read(path)) == content


@hypothesis.given(place=st.integers(0, HEADER_BYTES - 1), value=st.integers(1, 255))
@hypothesis.settings(max_examples=150, deadline=None)
def test_every_change_of_the_header_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    content = bytearray(encoded(some_images()))
    content[place] ^= value
    refusal(stored(tmp_path_factory.getbasetemp(), bytes(content)))


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=150, deadline=None)
def test_a_changed_gzip_file_is_refused_or_read_unchanged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    labels = np.arange(40, dtype=np.uint8)
    content = bytearray(gzip.compress(encoded(labels), mtime=0))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = stored(tmp_path_factory.getbasetemp(), bytes(content))
    with contextlib.suppress(idx.IdxError):
        np.testing.assert_array_equal(idx.read_labels(path), labels)


def test_a_pair_is_read(tmp_path: pathlib.Path) -> None:
    labels = np.array([1, 2, 3], np.uint8)
    pair = idx.read_pair(
        stored(tmp_path, encoded(some_images())), stored(tmp_path, encoded(labels), "labels")
    )
    np.testing.assert_array_equal(pair.images, some_images())
    np.testing.assert_array_equal(pair.labels, labels)


@pytest.mark.parametrize(
    ("images", "labels", "words"), [(3, 2, "holds 3 images but .* 2 labels"), (0, 0, "holds no images")]
)
def test_a_pair_that_does_not_fit_or_is_empty_is_refused(
    tmp_path: pathlib.Path, images: int, labels: int, words: str
) -> None:
    images_path = stored(tmp_path, encoded(some_images(images)))
    labels_path = stored(tmp_path, encoded(np.zeros(labels, np.uint8)), "labels")
    with pytest.raises(idx.IdxError, match=words):
        idx.read_pair(images_path, labels_path)


def folder_with(folder: pathlib.Path, *names: str) -> str:
    for name in names:
        (folder / name).touch()
    return str(folder)


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["train-images-idx3-ubyte"], "train-images-idx3-ubyte"),
        (["train-images.idx3-ubyte"], "train-images.idx3-ubyte"),
        (["train-images-idx3-ubyte.gz"], "train-images-idx3-ubyte.gz"),
        (["train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"], "train-images-idx3-ubyte"),
        (["train-images-idx3-ubyte.gz", "train-images.idx3-ubyte"], "train-images.idx3-ubyte"),
        (["train-images-idx3-ubyte.gz.part", "train-images.idx3-ubyte.gz"], "train-images.idx3-ubyte.gz"),
    ],
)
def test_a_pair_is_found_in_every_spelling(tmp_path: pathlib.Path, names: list[str], images: str) -> None:
    folder = folder_with(tmp_path, *names, "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "README")
    assert idx.find_pair(folder, "train") == (f"{folder}/{images}", f"{folder}/train-labels-idx1-ubyte")


def test_a_folder_named_like_a_file_is_passed_over(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    folder = folder_with(tmp_path, "train-images.idx3-ubyte", "train-labels.idx1-ubyte")
    assert idx.find_pair(folder, "train").images == f"{folder}/train-images.idx3-ubyte"


def test_a_missing_file_of_a_pair_is_an_error_that_lists_the_folder(tmp_path: pathlib.Path) -> None:
    folder = folder_with(tmp_path, "train-images-idx3-ubyte", "notes.txt")
    with pytest.raises(
        idx.IdxError, match=r"no file matches train\*labels.*notes\.txt, train-images-idx3-ubyte;"
    ):
        idx.find_pair(folder, "train")


def test_the_list_of_a_large_folder_is_cut(tmp_path: pathlib.Path) -> None:
    folder = folder_with(tmp_path, *(f"{number:03}" for number in range(112)))
    with pytest.raises(idx.IdxError, match="010, 011 and 100 more;"):
        idx.find_pair(folder, "train")


def test_competing_files_are_an_error_that_lists_them(tmp_path: pathlib.Path) -> None:
    folder = folder_with(
        tmp_path, "train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-labels-idx1-ubyte"
    )
    with pytest.raises(
        idx.IdxError, match=r"2 files match .*train-images-idx3-ubyte, train-images.idx3-ubyte"
    ):
        idx.find_pair(folder, "train")


def test_the_files_of_every_split_are_found(tmp_path: pathlib.Path) -> None:
    names = [
        f"{prefix}-{kind}-ubyte" for prefix in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    folder = folder_with(tmp_path, *names)
    assert idx.split_files(folder) == {
        schemas.TRAIN_SPLIT: (f"{folder}/train-images-idx3-ubyte", f"{folder}/train-labels-idx1-ubyte"),
        schemas.TEST_SPLIT: (f"{folder}/t10k-images-idx3-ubyte", f"{folder}/t10k-labels-idx1-ubyte"),
    }


def test_an_empty_a_missing_and_no_folder_are_refused(tmp_path: pathlib.Path) -> None:
    assert "holds no files, expected the four IDX files" in refusal(str(tmp_path), idx.split_files)
    assert "No such file or directory" in refusal(str(tmp_path / "absent"), idx.split_files)
    assert "Not a directory" in refusal(folder_with(tmp_path, "file") + "/file", idx.split_files)


def test_chunks_are_the_uncompressed_bytes(tmp_path: pathlib.Path) -> None:
    content = os.urandom(idx.CHUNK_BYTES + 10)
    assert b"".join(idx.chunks(stored(tmp_path, gzip.compress(content, 1)))) == content


class Bucket:
    """A stand-in for TensorFlow with a file system behind gs://."""

    class OpError(Exception):
        def __init__(self, message: str) -> None:
            super().__init__(message)
            self.message = message

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.opened = 0
        self.io = types.SimpleNamespace(gfile=types.SimpleNamespace(GFile=self.open, listdir=self.list))
        self.errors = types.SimpleNamespace(OpError=self.OpError)

    def open(self, path: str, mode: str) -> "Bucket.File":
        assert mode == "rb"
        self.opened += 1
        return self.File(self, path)

    def list(self, folder: str) -> list[str]:
        if not any(name.startswith(folder) for name in self.files):
            raise self.OpError(f"{folder}\nnot found")
        return [*(name.rpartition("/")[2] for name in self.files), "train-images-idx3-ubyte/"]

    class File:
        """Fails on the first read, as the file of TensorFlow does, and not when it is made."""

        def __init__(self, bucket: "Bucket", path: str) -> None:
            self.bucket, self.path, self.place = bucket, path, 0

        def read(self, size: int) -> bytes:
            if self.path not in self.bucket.files:
                raise Bucket.OpError("Object\ndoes not exist")
            found = self.bucket.files[self.path][self.place : self.place + size]
            self.place += len(found)
            return found

        def close(self) -> None:
            self.bucket.opened -= 1


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    names = [f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]
    arrays = [some_images(), np.array([1, 2, 3], np.uint8)] * 2
    bucket = Bucket(
        {f"gs://b/data/{n}": gzip.compress(encoded(a)) for n, a in zip(names, arrays, strict=True)}
    )
    monkeypatch.setitem(sys.modules, "tensorflow", bucket)
    yield bucket
    assert bucket.opened == 0


@pytest.mark.parametrize("folder", ["gs://b/data", "gs://b/data/"])
def test_a_remote_folder_is_read_like_a_local_one(bucket: Bucket, folder: str) -> None:
    files = idx.split_files(folder)
    assert files[schemas.TRAIN_SPLIT].images == "gs://b/data/train-images-idx3-ubyte.gz"
    np.testing.assert_array_equal(idx.read_pair(*files[schemas.TEST_SPLIT]).images, some_images())


def test_remote_failures_are_refusals_of_one_line(bucket: Bucket) -> None:
    assert "(Object does not exist)" in refusal("gs://b/absent")
    assert "cannot be listed (gs://c not found)" in refusal("gs://c", idx.split_files)


def test_a_remote_folder_of_folders_holds_no_files(bucket: Bucket) -> None:
    bucket.io.gfile.listdir = lambda _: ["data/"]
    assert "holds no files" in refusal("gs://b", idx.split_files)


def test_importing_does_not_import_tensorflow() -> None:
    code = (
        "import sys, components.ingest.idx, components.ingest.sources; sys.exit('tensorflow' in sys.modules)"
    )
    root = pathlib.Path(idx.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_mnist_is_read() -> None:
    files = idx.split_files(os.environ["MNIST_DIR"])
    train, test = (idx.read_pair(*files[split]) for split in (schemas.TRAIN_SPLIT, schemas.TEST_SPLIT))
    assert train.images.shape == (60_000, SIDE, SIDE)
    assert test.images.shape == (10_000, SIDE, SIDE)
    assert list(train.labels[:5]) == [5, 0, 4, 1, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
