"""What a run takes of a folder, what its fingerprint covers, and what is named because it is not taken."""

import gzip
import os
import pathlib
import tempfile
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from components.ingest import formats, idx, spans
from schemas import SIDE, TRAIN_SPLIT

PATTERNS = ("b [v2]", "a*b", "a?b", "back\\slash", "sp ace", "new\nline", "{x,y}", "~tilde")
"""Names of folders, most of which mean something else as a pattern."""
SPELLINGS: dict[str, Callable[[str, str, int], str]] = {
    "dashes": lambda prefix, kind, rank: f"{prefix}-{kind}-idx{rank}-ubyte",
    "underscores": lambda prefix, kind, rank: f"{prefix}_{kind}_idx{rank}_ubyte",
    "dots": lambda prefix, kind, rank: f"{prefix}-{kind}.idx{rank}-ubyte",
    "gzipped": lambda prefix, kind, rank: f"{prefix}-{kind}-idx{rank}-ubyte.gz",
    "brackets": lambda prefix, kind, rank: f"{prefix} [1] {kind} idx{rank} ubyte",
}


def deliver(folder: pathlib.Path, spelling: str = "dashes", first: int = 0) -> None:
    """Four IDX files with names in one of the SPELLINGS; labels run from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, size in (("train", 3), ("t10k", 2)):
        labels = np.arange(first, first + size, dtype=np.uint8)
        images = np.broadcast_to(labels[:, None, None], [size, SIDE, SIDE]).astype(np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            idx.write(str(folder / SPELLINGS[spelling](prefix, kind, idx.KINDS[kind])), array)


def covered(base: pathlib.Path, count: int) -> tuple[str, list[str]]:
    """The fingerprint of a run on `count` spans, or on the folder itself if 0, and the paths read."""
    chosen = spans.newest_spans(str(base), count) if count else [spans.PLAIN]
    digests = spans.digests(spans.files_taken(spans.delivered(str(base), chosen)))
    return spans.fingerprint(str(base), digests), list(digests)


def prepared(base: pathlib.Path, spelling: str, count: int) -> None:
    for folder in [base / f"span-{number}" for number in range(1, count + 1)] or [base]:
        deliver(folder, spelling)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", PATTERNS)
def test_replacing_any_byte_of_any_file_that_is_read_changes_the_fingerprint(
    name: str, spelling: str, count: int, tmp_path: pathlib.Path
) -> None:
    base = tmp_path / name
    prepared(base, spelling, count)
    before, paths = covered(base, count)
    assert len(before.splitlines()) == len(paths) == (6 if count else 4)

    @hypothesis.given(data=st.data())
    @hypothesis.settings(max_examples=8, deadline=None, database=None)
    def replaced(data: st.DataObject) -> None:
        path = pathlib.Path(data.draw(st.sampled_from(paths)))
        content, stamp = path.read_bytes(), path.stat()
        place = data.draw(st.integers(0, len(content) - 1))
        changed = bytearray(content)
        changed[place] ^= data.draw(st.integers(1, 255))
        try:
            path.write_bytes(changed)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            assert covered(base, count)[0] != before
        finally:
            path.write_bytes(content)
        assert covered(base, count)[0] == before

    replaced()


@pytest.mark.parametrize("count", [0, 2])
def test_the_reader_hashes_what_the_fingerprint_hashed(count: int, tmp_path: pathlib.Path) -> None:
    prepared(tmp_path, "gzipped" if count else "dashes", count)
    chosen = spans.newest_spans(str(tmp_path), count) if count else [spans.PLAIN]
    taken = spans.files_taken(spans.delivered(str(tmp_path), chosen))
    read: dict[str, str] = {}
    for parts in taken.values():
        for part in parts:
            list(formats.blocks(part, formats.Choices(), read))
    assert read == spans.digests(taken)


def test_a_switched_link_and_new_labels_within_the_same_second_are_seen(tmp_path: pathlib.Path) -> None:
    for name, first in (("monday", 0), ("tuesday", 4)):
        deliver(tmp_path / name, first=first)
        for path in (tmp_path / name).iterdir():
            os.utime(path, (1e9, 1e9))
    link = tmp_path / "current"
    link.symlink_to("monday")
    before = covered(link, 0)[0]
    link.unlink()
    link.symlink_to("tuesday")
    assert covered(link, 0)[0] != before


def test_a_file_that_changes_after_its_fingerprint_was_taken_is_named(tmp_path: pathlib.Path) -> None:
    deliver(tmp_path)
    before = covered(tmp_path, 0)[0]
    idx.write(str(tmp_path / "train-labels-idx1-ubyte"), np.array([7, 7, 7], np.uint8))
    read: dict[str, str] = {}
    for part in formats.find(str(tmp_path)).values():
        list(formats.blocks(part, formats.Choices(), read))
    with pytest.raises(idx.IdxError, match=r"changed while it was read \(train-labels-idx1-ubyte\)"):
        spans.check_unchanged(str(tmp_path), before, read)


def test_dated_spans_are_ordered_by_their_days(tmp_path: pathlib.Path) -> None:
    for name in ("span-2026-09-30", "span-2026-11-02", "span-2026-10-31", "span-1"):
        deliver(tmp_path / name)
    found = spans.newest_spans(str(tmp_path), 3)
    assert [span.folder for span in found] == ["span-2026-11-02", "span-2026-10-31", "span-2026-09-30"]
    assert found[0].number == 20_759  # days since 1970-01-01, as in TFX
    assert len(spans.newest_spans(str(tmp_path), 9)) == 4


def test_dates_and_numbers_without_a_common_order_are_refused(tmp_path: pathlib.Path) -> None:
    for name in ("span-2026-11-25", "span-20261124"):
        deliver(tmp_path / name)
    with pytest.raises(spans.SpanError, match="span-20261124 and span-2026-11-25 have no common order"):
        spans.newest_spans(str(tmp_path), 1)


@pytest.mark.parametrize(
    "name",
    [
        "span-2026-11-31", "span-2026-13-01", "span-2026-1-1", "span_3", "Span-3", "span-3-old", "span",
        "2026-11-25", "train-images-idx3-ubyte.gz", "mnist.npz",
    ],
)  # fmt: skip
def test_what_looks_like_a_span_and_is_not_taken_is_named(
    name: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path / "span-1")
    if "." in name:
        (tmp_path / name).write_bytes(b"x")
    else:
        deliver(tmp_path / name)
    (tmp_path / "README").write_text("no data")
    (tmp_path / "checksums").mkdir()
    assert [span.folder for span in spans.newest_spans(str(tmp_path), 1)] == ["span-1"]
    [message] = caplog.messages
    assert f"{name} is not taken, expected folders span-N or span-YYYY-MM-DD" in message


@pytest.mark.parametrize(
    "name",
    ["span-3", "emnist-letters-train-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz.part", "mnist.npz"],
)
def test_what_looks_like_data_beside_the_four_files_and_is_not_taken_is_named(
    name: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path)
    if name.startswith("span"):
        deliver(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "LICENSE").write_text("no data")
    (tmp_path / ".partial.gz").write_bytes(b"hidden")
    spans.warn_of_others([formats.find(str(tmp_path))])
    [message] = caplog.messages
    assert f"{name} is not taken, only t10k-images-idx3-ubyte" in message


def test_a_folder_of_four_files_alone_warns_of_nothing(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path)
    spans.warn_of_others([formats.find(str(tmp_path))])
    assert caplog.messages == []


def test_a_version_with_another_name_is_named(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path / "span-1" / "version-1")
    deliver(tmp_path / "span-1" / "version-2b")
    spans.newest_spans(str(tmp_path), 1)
    assert "version-2b is not taken, expected folders version-N" in caplog.text


@pytest.mark.parametrize("kind", idx.KINDS)
def test_a_plain_file_beside_a_gzipped_one_of_other_content_is_refused_and_of_the_same_is_read(
    kind: str, tmp_path: pathlib.Path
) -> None:
    deliver(tmp_path)
    name = f"train-{kind}-idx{idx.KINDS[kind]}-ubyte"
    content = (tmp_path / name).read_bytes()
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress(content))
    taken = formats.find(str(tmp_path))
    assert formats.count(taken[TRAIN_SPLIT]) == 3
    assert {str(tmp_path / name), str(zipped)} <= set(formats.paths(taken[TRAIN_SPLIT]))
    for other in (content[:-1] + bytes([content[-1] ^ 1]), content + b"\0", content[:-1], b""):
        zipped.write_bytes(gzip.compress(other))
        with pytest.raises(idx.IdxError, match=f"{name} and {name}.gz differ in content"):
            formats.find(str(tmp_path))


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR names no folder with MNIST")
def test_the_fingerprint_of_mnist_covers_its_four_files() -> None:
    assert len(covered(pathlib.Path(os.environ["MNIST_DIR"]), 0)[1]) == 4


def test_names_with_line_breaks_keep_a_file_on_one_line_of_the_fingerprint() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder) / "x"
        deliver(base / "span-1")
        for path in list((base / "span-1").iterdir()):
            path.rename(path.with_name(path.name.replace("-", "\n")))
        assert len(covered(base, 1)[0].splitlines()) == 4
