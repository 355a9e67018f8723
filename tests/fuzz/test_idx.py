"""Any bytes at all as IDX files: read as the format says or refused in one line, within bounded memory."""

import gzip
import math
import pathlib
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import schemas
from components.ingest import idx

pytestmark = pytest.mark.usefixtures("bounded_memory")
SIDE = schemas.SIDE
ODD = (0, 1, 2, 3, 27, 28, 29, 255, 256, 784, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers that headers may hold; among them those that promise terabytes."""


def one_line(error: Exception) -> str:
    """The error's message, which has to be one line."""
    assert str(error).isprintable(), repr(str(error))
    return str(error)


def vary(content: bytes, dice: random.Random) -> bytes:
    """One small thing is different; what the header says most often."""
    place = min(int(dice.expovariate(1 / 16)), len(content))
    odd = struct.pack(">I", dice.choice(ODD))
    kind = dice.randrange(5)
    if kind == 0:
        return content[:place] + dice.randbytes(1) + content[place + 1 :]
    if kind == 1:
        return content[: len(content) - place]
    if kind == 2:
        return content[:place] + odd + content[place:]
    if kind == 3:
        return content[: place // 4 * 4] + odd + content[place // 4 * 4 + 4 :]
    return content + dice.randbytes(place)


def refused(path: pathlib.Path, error: Exception, expected: np.ndarray | None) -> None:
    assert one_line(error).startswith(f"{path}: ")
    assert expected is None, error


def many(count: int) -> Any:
    """A property's two sizes: with every test run, and for make fuzz."""
    return pytest.mark.parametrize("examples", [200, pytest.param(count, marks=pytest.mark.fuzz)])


def by_the_book(content: bytes, rank: int) -> np.ndarray | None:
    """What the file holds; None where it is no IDX file of images or labels as they have to be."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return None
    size = 4 + 4 * rank
    if len(content) < size or content[:4] != bytes([0, 0, 8, rank]):
        return None
    shape = struct.unpack(f">{rank}I", content[4:size])
    if rank == 3 and shape[1:] != (SIDE, SIDE):
        return None
    if len(content) - size != math.prod(shape):
        return None
    return np.frombuffer(content[size:], np.uint8).reshape(shape)


@st.composite
def files(draw: st.DrawFn, rank: int) -> bytes:
    """A file that is nearly right, in one of the ways in which files are not, or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    count = draw(st.integers(0, 3))
    item = (SIDE, SIDE)[: rank - 1]
    content = struct.pack(f">HBB{rank}I", 0, 8, rank, count, *item)
    content += bytes(draw(st.integers(0, 255)) for _ in range(4)) * (count * math.prod(item) // 4)
    content += bytes(count * math.prod(item) % 4)
    if draw(st.booleans()):
        field = draw(st.integers(0, rank))
        content = (
            content[: 4 * field] + struct.pack(">I", draw(st.sampled_from(ODD))) + content[4 * field + 4 :]
        )
    if draw(st.booleans()):
        content = mutated(draw, content)
    if draw(st.integers(0, 3)) == 0:
        content = gzip.compress(content, compresslevel=1, mtime=0)
        if draw(st.booleans()):
            content = mutated(draw, content)
    return content


def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    place = draw(st.integers(0, len(content)))
    change = draw(st.sampled_from(["cut", "flip", "insert", "repeat", "append"]))
    if change == "cut":
        return content[:place]
    if change == "flip" and content:
        place = min(place, len(content) - 1)
        flipped = content[place] ^ (1 << draw(st.integers(0, 7)))
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    if change == "repeat":
        return content + content[:place]
    more = draw(st.binary(min_size=1, max_size=9))
    return content + more if change == "append" else content[:place] + more + content[place:]


def check(path: pathlib.Path, content: bytes, rank: int, read: Callable[[str], np.ndarray]) -> None:
    path.write_bytes(content)
    expected = by_the_book(content, rank)
    try:
        found = read(str(path))
    except idx.IdxError as error:
        refused(path, error, expected)
        return
    assert expected is not None, "read what is no IDX file"
    np.testing.assert_array_equal(found, expected)


@many(5_000)
def test_any_bytes_as_images_are_read_by_the_book_or_refused(
    hold: Any, tmp_path: pathlib.Path, examples: int
) -> None:
    hold(lambda content: check(tmp_path / "i", content, 3, idx.read_images), files(rank=3), examples, vary)


@many(6_000)
def test_any_bytes_as_labels_are_read_by_the_book_or_refused(
    hold: Any, tmp_path: pathlib.Path, examples: int
) -> None:
    hold(lambda content: check(tmp_path / "l", content, 1, idx.read_labels), files(rank=1), examples, vary)


@many(4_000)
def test_a_header_that_promises_terabytes_is_refused_before_anything_is_allocated(
    hold: Any, tmp_path: pathlib.Path, examples: int
) -> None:
    def promise(header: tuple[list[int], bytes, bool]) -> None:
        sizes, body, zipped = header
        content = struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes) + body
        (tmp_path / "promise").write_bytes(gzip.compress(content, 1) if zipped else content)
        for read in (idx.read_images, idx.read_labels):
            tracemalloc.start()
            try:
                with pytest.raises(idx.IdxError):
                    read(str(tmp_path / "promise"))
                assert tracemalloc.get_traced_memory()[1] < 2 * idx.CHUNK_BYTES
            finally:
                tracemalloc.stop()

    huge = st.integers(2**20, 2**32 - 1)
    sizes = st.one_of(
        st.tuples(huge, st.just(SIDE), st.just(SIDE)), st.lists(huge, min_size=1, max_size=3), st.tuples(huge)
    )
    hold(promise, st.tuples(sizes.map(list), st.binary(max_size=40), st.booleans()), examples)


@many(2_000)
def test_folders_with_any_names_give_a_pair_or_are_refused(
    hold: Any, tmp_path: pathlib.Path, examples: int
) -> None:
    parts = st.sampled_from(
        [
            "train",
            "t10k",
            "-images",
            "-labels",
            "-idx3",
            "-idx1",
            "-ubyte",
            ".gz",
            "[",
            "*",
            "?",
            " ",
            "\n",
            "é",
        ]
    )
    names = st.sets(st.lists(parts, min_size=1, max_size=6).map("".join), max_size=6)

    def find(chosen: set[str]) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in chosen:
            (folder / name).touch()
        try:
            pair = idx.find_pair(str(folder), "train")
            assert {pathlib.Path(path).name for path in pair} <= chosen
        except idx.IdxError as error:
            one_line(error)
        finally:
            for name in chosen:
                (folder / name).unlink()
            folder.rmdir()

    hold(find, names, examples)
