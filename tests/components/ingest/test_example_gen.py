import contextlib
import os
import pathlib
import shutil
from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline

from components.ingest import example_gen, formats, idx, shard_index, spans
from components.ingest.examples import serialize, serialize_all
from components.ingest.idx import Images
from pipeline.config.errors import RunFailed
from pipeline.execution.local import LocalRunner
from schemas import IMAGE, LABEL, PIXELS, SIDE, TEST_SPLIT, TRAIN_SPLIT


def read_back(folder: pathlib.Path) -> Images:
    files = sorted(str(path) for path in folder.glob("*.gz"))
    spec = {IMAGE: tf.io.FixedLenFeature([], tf.string), LABEL: tf.io.FixedLenFeature([], tf.int64)}
    records = [record for file in files for record in tf.data.TFRecordDataset(file, "GZIP")]
    parsed = tf.io.parse_example(records, spec)
    images = tf.reshape(tf.io.decode_raw(parsed[IMAGE], tf.uint8), [-1, SIDE, SIDE])
    return Images(images.numpy(), parsed[LABEL].numpy())


def write(pair: Images, folder: pathlib.Path, size: int = 100) -> None:
    """Write a split that comes in blocks of `size`."""
    starts = range(0, len(pair.labels), size)
    blocks = [
        Images(pair.images[first : first + size], pair.labels[first : first + size]) for first in starts
    ]
    example_gen.write_split(blocks, len(pair.labels), str(folder))


def test_a_split_is_written_whole_and_in_order(tmp_path: pathlib.Path, digits: dict[str, Images]) -> None:
    write(digits[TRAIN_SPLIT], tmp_path)
    back = read_back(tmp_path)
    np.testing.assert_array_equal(back.images, digits[TRAIN_SPLIT].images)
    np.testing.assert_array_equal(back.labels, digits[TRAIN_SPLIT].labels)


def test_a_split_smaller_than_its_shards_is_written_too(tmp_path: pathlib.Path) -> None:
    one = idx.Images(np.ones([1, SIDE, SIDE], np.uint8), np.array([3], np.uint8))
    write(one, tmp_path)
    np.testing.assert_array_equal(read_back(tmp_path).labels, [3])


@pytest.mark.parametrize(
    ("count", "cores", "files"),
    [(1, 8, 1), (70_000, 2, 2), (70_000, 8, 8), (70_000, 64, 18), (3_000_000, 2, 43), (8_000_000, 8, 113)],
)
def test_a_split_has_a_shard_per_core_where_that_pays_and_no_shard_above_64_megabytes(
    count: int, cores: int, files: int
) -> None:
    assert example_gen.shards(count, cores) == files
    assert count / files * example_gen.RECORD_BYTES <= 64e6
    assert len(serialize(bytes(PIXELS), 255)) < example_gen.RECORD_BYTES


@hypothesis.given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), parts=st.integers(1, 5), data=st.data()
)
@hypothesis.settings(max_examples=30, deadline=None, database=None)
def test_blocks_are_regrouped_into_equal_parts_in_their_order(
    sizes: list[int], parts: int, data: st.DataObject
) -> None:
    hypothesis.assume(sum(sizes) >= parts)
    labels = np.arange(sum(sizes), dtype=np.uint8)
    ends = np.cumsum(sizes)[:-1]
    blocks = [Images(np.zeros([len(own), SIDE, SIDE], np.uint8), own) for own in np.split(labels, ends)]
    found = list(example_gen.regrouped(blocks, len(labels), parts))
    joined = [np.concatenate([block.labels for block in own]) for own in found]
    np.testing.assert_array_equal(np.concatenate(joined), labels)
    assert len(joined) == parts
    assert max(map(len, joined)) - min(map(len, joined)) <= 1


def test_records_that_are_filled_in_together_are_those_of_one_at_a_time() -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, [512, SIDE, SIDE], np.uint8)
    images[:3], images[3, 0, 0] = 0, 255
    labels = draw.permutation(np.arange(512) % 256).astype(np.uint8)
    for chosen in (slice(None), labels < 128, labels >= 128, slice(0, 0)):
        found = list(serialize_all(images[chosen], labels[chosen]))
        pairs = zip(images[chosen], labels[chosen], strict=True)
        assert found == [serialize(image.tobytes(), int(label)) for image, label in pairs]


def test_the_same_images_give_the_same_bytes(tmp_path: pathlib.Path, digits: dict[str, Images]) -> None:
    for name in ("a", "b"):
        write(digits[TRAIN_SPLIT], tmp_path / name)
    first, second = ([p.read_bytes() for p in sorted((tmp_path / n).iterdir())] for n in ("a", "b"))
    assert first == second


def deliver(folder: pathlib.Path, first: int = 0, count: int = 6) -> None:
    """Four IDX files whose labels run from `first` on: `count` training images, two test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, size in (("train", count), ("t10k", 2)):
        labels = np.arange(first, first + size, dtype=np.uint8)
        images = np.broadcast_to(labels[:, None, None], [size, SIDE, SIDE]).astype(np.uint8)
        idx.write(str(folder / f"{prefix}-images-idx3-ubyte"), images)
        idx.write(str(folder / f"{prefix}-labels-idx1-ubyte"), labels)


def folders(base: pathlib.Path, count: int) -> list[str]:
    return [span.folder for span in spans.newest_spans(str(base), count)]


def test_the_newest_spans_are_taken_newest_first_by_number_not_by_name(tmp_path: pathlib.Path) -> None:
    for number in (2, 9, 10):
        deliver(tmp_path / f"span-{number}")
    assert folders(tmp_path, 2) == ["span-10", "span-9"]
    assert folders(tmp_path, 5) == ["span-10", "span-9", "span-2"]


def test_the_newest_version_of_a_span_is_taken(tmp_path: pathlib.Path) -> None:
    deliver(tmp_path / "span-1")
    for version in (2, 11):
        deliver(tmp_path / "span-2" / f"version-{version}")
    [newest, older] = spans.newest_spans(str(tmp_path), 2)
    assert newest == (2, 11, "span-2/version-11")
    assert older == (1, None, "span-1")


def test_an_empty_span_is_passed_over_with_a_line_that_says_so(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path / "span-8")
    (tmp_path / "span-9").mkdir()
    (tmp_path / "span-9" / ".train-images.part").write_bytes(b"x")
    assert folders(tmp_path, 1) == ["span-8"]
    assert caplog.messages == ["span-9 holds no files yet; the newest complete span is span-8"]


def test_an_empty_version_is_passed_over_with_a_line_that_says_so(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path / "span-1" / "version-1")
    (tmp_path / "span-1" / "version-2").mkdir()
    assert folders(tmp_path, 1) == ["span-1/version-1"]
    assert "span-1/version-2 holds no files yet" in caplog.text


def test_a_half_delivered_span_is_an_error_that_names_span_and_file(tmp_path: pathlib.Path) -> None:
    deliver(tmp_path / "span-1")
    deliver(tmp_path / "span-2")
    (tmp_path / "span-2" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(spans.SpanError) as caught:
        folders(tmp_path, 1)
    message = str(caught.value)
    assert message.startswith("span-2 is not complete")
    assert "t10k*labels*idx1*" in message
    assert "deliver the rest, or remove span-2" in message


@pytest.mark.parametrize(
    ("folders_made", "words"),
    [
        ((), "holds no folder span-1"),
        (("span-1", "span-2"), "of span-2, span-1 none holds files"),
        (("span-3", "span-03"), "span-03 and span-3 both are span 3, expected one"),
    ],
)
def test_a_folder_without_one_clear_newest_span_is_refused(
    folders_made: tuple[str, ...], words: str, tmp_path: pathlib.Path
) -> None:
    for name in folders_made:
        (tmp_path / name).mkdir()
    with pytest.raises(spans.SpanError, match=words):
        folders(tmp_path, 1)


def test_a_span_with_files_beside_versions_is_refused(tmp_path: pathlib.Path) -> None:
    deliver(tmp_path / "span-1")
    deliver(tmp_path / "span-1" / "version-1")
    with pytest.raises(spans.SpanError, match="expected one or the other"):
        folders(tmp_path, 1)


def test_a_folder_that_is_not_there_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(spans.SpanError, match="cannot be listed"):
        folders(tmp_path / "nowhere", 1)


class Line:
    """A pipeline of IdxExampleGen alone, and what its runs left in the metadata store."""

    def __init__(self, home: pathlib.Path, data: pathlib.Path) -> None:
        self.home, self.data = home, data
        self.said: list[str] = []

    def run(self, spans: int) -> bool:
        """Run; whether the result came from the cache."""
        example_gen_node = example_gen.IdxExampleGen(str(self.data), spans)
        self.said.clear()
        LocalRunner(self.said.append).run(
            Pipeline(
                pipeline_name="line",
                pipeline_root=str(self.home),
                components=[example_gen_node],
                enable_cache=True,
                metadata_connection_config=self.connection(),
            )
        )
        return self.said[-1].startswith("nothing to do")

    def connection(self) -> Any:
        return metadata.sqlite_metadata_connection_config(str(self.home / "metadata.db"))

    def examples(self) -> Any:
        """The newest artifact."""
        with metadata.Metadata(self.connection()) as handle:
            return handle.store.get_artifacts_by_type("Examples")[-1]

    def labels(self, split: str) -> list[int]:
        return sorted(read_back(pathlib.Path(self.examples().uri) / f"Split-{split}").labels.tolist())


@pytest.fixture
def line(tmp_path: pathlib.Path) -> Line:
    for number, first in ((1, 10), (2, 20), (3, 30)):
        deliver(tmp_path / "data" / f"span-{number}", first)
    return Line(tmp_path / "home", tmp_path / "data")


def test_a_window_trains_on_its_spans_together_and_tests_on_the_newest_alone(line: Line) -> None:
    assert not line.run(2)
    assert line.labels(TRAIN_SPLIT) == [*range(20, 26), *range(30, 36)]
    assert line.labels(TEST_SPLIT) == [30, 31]
    properties = line.examples().custom_properties
    assert properties["span"].int_value == 3
    assert properties["window"].string_value == "span-3, span-2"
    assert line.examples().properties["span"].int_value == 3


def test_what_nobody_touched_is_cached_and_a_withdrawn_span_is_not_missed(line: Line) -> None:
    assert not line.run(1)
    assert line.run(1)
    shutil.move(line.data / "span-3", line.data.parent / "away")
    assert not line.run(1)
    assert line.labels(TRAIN_SPLIT) == list(range(20, 26))
    shutil.move(line.data.parent / "away", line.data / "span-3")
    assert line.run(1)


def test_an_older_span_matters_only_inside_the_window(line: Line) -> None:
    assert not line.run(2)
    deliver(line.data / "span-1", 50, count=7)
    assert line.run(2)
    deliver(line.data / "span-2", 60, count=7)
    assert not line.run(2)


def test_a_new_version_is_new_data(line: Line) -> None:
    for version, first in ((1, 40), (2, 50)):
        deliver(line.data / "span-4" / f"version-{version}", first)
        assert not line.run(1)
        assert line.labels(TEST_SPLIT) == [first, first + 1]
        assert line.examples().custom_properties["version"].int_value == version


def test_a_user_hears_of_an_empty_span_and_of_a_broken_one_in_one_line(line: Line) -> None:
    (line.data / "span-4").mkdir()
    line.run(1)
    assert line.said[0] == "! span-4 holds no files yet; the newest complete span is span-3"
    (line.data / "span-4" / "train-images-idx3-ubyte").write_bytes(b"half")
    with pytest.raises(RunFailed) as caught:
        line.run(1)
    [message] = str(caught.value).splitlines()
    assert message.startswith("IdxExampleGen failed: span-4 is not complete")


def test_a_corrupt_file_is_named_with_its_span(line: Line) -> None:
    images = line.data / "span-3" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(RunFailed, match=r"span-3/train-images-idx3-ubyte: ends after 84 bytes") as caught:
        line.run(1)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("name", ["b [v2]", "a*?", "back\\slash", "sp ace", "new\nline"])
def test_labels_that_are_replaced_are_new_data_whatever_the_folder_is_called(
    name: str, count: int, tmp_path: pathlib.Path
) -> None:
    data = tmp_path / name
    folder = data / "span-1" if count else data
    deliver(folder)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-", "_")))
    line = Line(tmp_path / "home", data)
    assert not line.run(count)
    assert line.run(count)
    labels = folder / "t10k_labels_idx1_ubyte"
    stamp = labels.stat()
    idx.write(str(labels), np.array([8, 9], np.uint8))
    os.utime(labels, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert labels.stat().st_size == stamp.st_size
    assert not line.run(count)
    assert line.labels(TEST_SPLIT) == [8, 9]
    assert len(line.examples().custom_properties["input_fingerprint"].string_value.splitlines()) == 4


def test_replacing_any_byte_of_any_file_is_never_answered_from_the_cache(tmp_path: pathlib.Path) -> None:
    deliver(tmp_path / "data")
    line = Line(tmp_path / "home", tmp_path / "data")
    assert not line.run(0)

    @hypothesis.given(drawn=st.data())
    @hypothesis.settings(max_examples=8, deadline=None, database=None)
    def replaced(drawn: st.DataObject) -> None:
        path = drawn.draw(st.sampled_from(sorted((tmp_path / "data").iterdir())))
        content, stamp = path.read_bytes(), path.stat()
        changed = bytearray(content)
        changed[drawn.draw(st.integers(0, len(content) - 1))] ^= drawn.draw(st.integers(1, 255))
        path.write_bytes(changed)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        with contextlib.suppress(RunFailed):  # the byte was in a header
            cached = line.run(0)
            seen.setdefault(bytes(changed), []).append(cached)
            assert cached == (len(seen[bytes(changed)]) > 1)
        path.write_bytes(content)

    seen: dict[bytes, list[bool]] = {}
    replaced()
    assert line.run(0)


def test_without_spans_the_folder_itself_is_taken(tmp_path: pathlib.Path) -> None:
    deliver(tmp_path / "data")
    line = Line(tmp_path / "home", tmp_path / "data")
    assert not line.run(0)
    assert line.run(0)
    assert line.labels(TEST_SPLIT) == [0, 1]
    assert "window" not in line.examples().custom_properties


def shards_of(line: Line) -> dict[str, os.stat_result]:
    folder = pathlib.Path(line.examples().uri)
    return {
        str(path.relative_to(folder)): path.stat()
        for path in folder.rglob("*.gz")
        if TRAIN_SPLIT in str(path)
    }


def reused(line: Line) -> int:
    """How many training shards of the newest output are files of an earlier one."""
    return sum(stat.st_nlink > 1 for stat in shards_of(line).values())


def test_a_window_ingests_its_new_span_alone_and_takes_the_others_from_the_output_before(line: Line) -> None:
    assert not line.run(3)
    assert reused(line) == 0
    deliver(line.data / "span-4", 40)
    assert not line.run(3)
    assert reused(line) == 2
    assert line.labels(TRAIN_SPLIT) == [*range(20, 26), *range(30, 36), *range(40, 46)]
    assert line.labels(TEST_SPLIT) == [40, 41]
    shutil.rmtree(line.home / "IdxExampleGen" / "examples" / "1")  # as prune does
    deliver(line.data / "span-5", 50)
    assert not line.run(3)
    assert reused(line) == 2
    assert line.labels(TRAIN_SPLIT) == [*range(30, 36), *range(40, 46), *range(50, 56)]


def test_a_window_taken_from_earlier_outputs_is_the_one_that_is_ingested_anew(
    line: Line, tmp_path: pathlib.Path
) -> None:
    line.run(2)
    deliver(line.data / "span-4", 40)
    line.run(2)
    assert reused(line) == 1
    anew = Line(tmp_path / "other", line.data)
    anew.run(2)
    assert reused(anew) == 0
    one, other = (
        {
            path.relative_to(each.examples().uri): path.read_bytes()
            for path in pathlib.Path(each.examples().uri).rglob("*")
            if path.is_file()
        }
        for each in (line, anew)
    )
    assert one == other


@pytest.mark.parametrize("damage", ["cut", "other bytes", "gone", "index cut", "index of another kind"])
def test_a_damaged_earlier_output_is_ingested_again(line: Line, damage: str) -> None:
    line.run(3)
    folder = pathlib.Path(line.examples().uri)
    shard = sorted((folder / f"Split-{TRAIN_SPLIT}").iterdir())[0]
    content = shard.read_bytes()
    index = folder / shard_index.INDEX
    if damage == "cut":
        shard.write_bytes(content[:-1])
    elif damage == "other bytes":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        shard.unlink()
    elif damage == "index cut":
        index.write_bytes(index.read_bytes()[:-9])
    else:
        index.write_text('{"a": 1}')
    deliver(line.data / "span-4", 40)
    assert not line.run(3)
    assert reused(line) == (0 if damage.startswith("index") else 1)
    assert line.labels(TRAIN_SPLIT) == [*range(20, 26), *range(30, 36), *range(40, 46)]


def test_a_span_that_was_delivered_again_is_ingested_again(line: Line) -> None:
    line.run(3)
    deliver(line.data / "span-2", 60)
    assert not line.run(3)
    assert reused(line) == 2
    assert line.labels(TRAIN_SPLIT) == [*range(10, 16), *range(30, 36), *range(60, 66)]


def test_two_deliveries_of_the_same_images_both_count(line: Line) -> None:
    line.run(3)
    deliver(line.data / "span-4", 30)
    assert not line.run(2)
    assert line.labels(TRAIN_SPLIT) == sorted([*range(30, 36)] * 2)


def test_what_decides_the_content_of_shards_is_in_their_key() -> None:
    part = formats.Arrays(formats.Values("/d/train-images"), formats.Values("/d/train-labels"))
    digests = {"/d/train-images": "1", "/d/train-labels": "2"}
    facts: dict[str, Any] = {
        "split": "train", "files": shard_index.identity(part, digests), "reading": formats.Reading(),
        "code": "c",
    }  # fmt: skip
    turned = part._replace(images=part.images._replace(turned=True))
    pictures = [formats.Pictures((("/p/1.png", label),)) for label in (1, 2)]
    others: list[dict[str, Any]] = [
        {"split": "eval"},
        {"code": "d"},
        {"reading": formats.Reading(resize="pad")},
        {"reading": formats.Reading(pixels="binary")},
        {"files": shard_index.identity(part, {**digests, "/d/train-labels": "3"})},
        {"files": shard_index.identity(turned, digests)},
        *({"files": shard_index.identity(each, {"/p/1.png": "1"})} for each in pictures),
    ]
    keys = {shard_index.key(**facts), *(shard_index.key(**{**facts, **other}) for other in others)}
    assert len(keys) == 1 + len(others)
