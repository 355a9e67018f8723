import os
import pathlib
from typing import Any

import ml_metadata as mlmd
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from components.ingest import idx, sources
from components.ingest.example_gen import DELIVERED
from components.ingest.examples import mean_intensity, serialize
from components.ingest.idx import Images
from components.validation import drift
from components.validation.statistics import split_statistics
from schemas import IMAGE, LABEL, MEAN_INTENSITY, PIXELS, SCHEMA_FILE, SIDE, TRAIN_SPLIT


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    return tfdv.load_schema_text(str(SCHEMA_FILE))


@pytest.fixture(scope="module")
def many() -> Images:
    """All of scikit-learn's training digits, in an order without meaning."""
    images, labels = sources.digits()[TRAIN_SPLIT]
    order = np.random.default_rng(0).permutation(len(labels))
    return Images(images[order], labels[order])


def part(data: Images, chosen: Any) -> Images:
    return Images(data.images[chosen], data.labels[chosen])


def statistics(data: Images, schema: schema_pb2.Schema) -> Any:
    columns = {
        LABEL: pa.array([[int(label)] for label in data.labels], pa.list_(pa.int64())),
        MEAN_INTENSITY: pa.array(
            [[mean_intensity(image.tobytes())] for image in data.images], pa.list_(pa.float32())
        ),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=schema))


def stored(anomalies: Any, folder: pathlib.Path, split: str = TRAIN_SPLIT) -> str:
    """As DriftValidator stores them; the artifact's folder."""
    path = folder / f"Split-{split}" / "SchemaDiff.pb"
    path.parent.mkdir(parents=True)
    path.write_bytes(anomalies.SerializeToString())
    return str(folder)


def drifted(now: Images, before: Images, schema: schema_pb2.Schema, folder: pathlib.Path) -> list[str]:
    found = drift.compare(statistics(now, schema), schema, previous=statistics(before, schema))
    return drift.descriptions(stored(found, folder))


def brighter(data: Images) -> Images:
    doubled = np.minimum(data.images.astype(int) * 2, 255)
    return Images(doubled.astype(np.uint8), data.labels)


def inverted(data: Images) -> Images:
    return Images(~data.images, data.labels)


@pytest.mark.parametrize("size", [60, 150, 700])
def test_random_halves_do_not_drift(
    size: int, many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    assert drifted(part(many, slice(size)), part(many, slice(size, 2 * size)), schema, tmp_path) == []


def test_inverted_images_drift_in_mean_intensity_alone(
    many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    [sentence] = drifted(inverted(part(many, slice(700))), part(many, slice(700, None)), schema, tmp_path)
    assert sentence == (
        "mean_intensity of the train split has drifted from the last accepted data: "
        "Jensen-Shannon divergence 1, limit 0.06"
    )


def test_a_class_that_went_missing_drifts_in_label(
    many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    first, second = part(many, slice(700)), part(many, slice(700, None))
    without = part(first, first.labels != 4)
    share = np.mean(second.labels == 4)
    [sentence] = drifted(without, second, schema, tmp_path)
    assert sentence.startswith(
        "label of the train split has drifted from the last accepted data: largest difference"
    )
    assert f"class {share:.3g}" in sentence


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR names no folder with MNIST")
def test_of_mnist_splits_of_6000_pass_and_what_was_changed_is_found(
    schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    mnist = idx.read_pair(*idx.find_pair(os.environ["MNIST_DIR"], "train"))
    slices = [part(mnist, slice(first, first + 6_000)) for first in range(0, 60_000, 6_000)]
    for index in range(1, len(slices)):
        assert drifted(slices[index], slices[index - 1], schema, tmp_path / str(index)) == []
    before = slices[0]
    assert drifted(brighter(slices[1]), before, schema, tmp_path / "brighter")
    assert drifted(inverted(slices[1]), before, schema, tmp_path / "inverted")
    for label in range(10):
        without = part(slices[1], slices[1].labels != label)
        assert drifted(without, before, schema, tmp_path / f"without {label}"), label


def test_without_anything_to_compare_with_nothing_is_found(many: Images, schema: schema_pb2.Schema) -> None:
    assert not drift.compare(statistics(many, schema), schema).anomaly_info


def test_what_breaks_the_schema_is_left_to_the_other_gate(
    many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    odd = Images(many.images, np.where(np.arange(len(many.labels)) < 3, 11, many.labels))
    assert drifted(odd, many, schema, tmp_path) == []


def test_the_schema_is_not_changed_by_a_comparison(many: Images, schema: schema_pb2.Schema) -> None:
    before = schema.SerializeToString()
    few = statistics(part(many, slice(30)), schema)
    drift.compare(few, schema, previous=few)
    assert schema.SerializeToString() == before


def test_a_threshold_is_raised_to_what_chance_makes_of_few_examples_and_not_lowered() -> None:
    """Against simulated draws: so many classes' shares, and a histogram's divergence, of two like samples."""
    generator = np.random.default_rng(1)
    comparator = schema_pb2.FeatureComparator()
    comparator.infinity_norm.threshold = comparator.jensen_shannon_divergence.threshold = 0.001
    drift.raise_to_chance(comparator, 200, 300, [0.1] * 10)
    shares = generator.multinomial(200, [0.1] * 10, 4_000) / 200
    others = generator.multinomial(300, [0.1] * 10, 4_000) / 300
    largest = np.abs(shares - others).max(1)
    assert np.mean(largest > comparator.infinity_norm.threshold) < 0.003
    assert np.quantile(largest, 0.99) > 0.5 * comparator.infinity_norm.threshold
    middle = (shares + others) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = sum(np.nansum(s * np.log2(s / middle), 1) for s in (shares, others)) / 2
    assert np.mean(divergence > comparator.jensen_shannon_divergence.threshold) < 0.003
    assert np.quantile(divergence, 0.99) > 0.25 * comparator.jensen_shannon_divergence.threshold
    comparator.infinity_norm.threshold = 0.9
    drift.raise_to_chance(comparator, 200, 300, [0.1] * 10)
    assert comparator.infinity_norm.threshold == 0.9


def false_alarms(sizes: tuple[int, int], shares: list[float], draws: int = 20_000) -> float:
    """How often two samples of one distribution of labels differ by more than the raised threshold."""
    generator = np.random.default_rng(2)
    first, second = (generator.multinomial(size, shares, draws) for size in sizes)
    comparator = schema_pb2.FeatureComparator()
    comparator.infinity_norm.threshold = 0.06
    drift.raise_to_chance(comparator, *sizes, shares)
    largest = np.abs(first / sizes[0] - second / sizes[1]).max(1)
    return float(np.mean(largest > comparator.infinity_norm.threshold))


@pytest.mark.parametrize("sizes", [(50, 50), (50, 10_000), (100, 100), (100, 60_000), (1_000, 1_000)])
@pytest.mark.parametrize(
    "shares", [[0.1] * 10, [0.5, 0.5], [1 / 47] * 47, [0.8] + [0.05] * 4], ids=["10", "2", "47", "uneven"]
)
def test_labels_of_like_samples_give_a_false_alarm_in_less_than_0_2_percent(
    sizes: tuple[int, int], shares: list[float]
) -> None:
    assert false_alarms(sizes, shares) < 0.002


def test_small_spans_of_one_distribution_are_let_through_and_what_changed_is_caught(
    schema: schema_pb2.Schema, many: Images
) -> None:
    """Spans of 100 training and 50 test images: all pairs of 24, then changes that must be found."""
    generator = np.random.default_rng(3)
    drawn = {
        size: [part(many, generator.choice(len(many.labels), size, replace=False)) for _ in range(24)]
        for size in (100, 50)
    }
    alarms, pairs = 0, 0
    for samples in drawn.values():
        described = [statistics(sample, schema) for sample in samples]
        for one in range(24):
            for other in range(one):
                found = drift.compare(described[one], schema, previous=described[other])
                alarms, pairs = alarms + bool(found.anomaly_info), pairs + 1
    assert pairs == 552
    assert alarms < 0.005 * pairs  # half of the 1 % that two splits may have together
    for size, samples in drawn.items():
        before = statistics(samples[0], schema)
        caught = {
            "inverted": inverted(samples[1]),
            "a third as bright": Images((samples[1].images // 3).astype(np.uint8), samples[1].labels),
            "one label": Images(samples[1].images, np.full_like(samples[1].labels, 3)),
        }
        for what, changed in caught.items():
            assert drift.compare(statistics(changed, schema), schema, previous=before).anomaly_info, (
                size,
                what,
            )


def write_served(path: pathlib.Path, records: list[bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP" if path.suffix == ".gz" else "")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            writer.write(record)


def sent(image: bytes) -> bytes:
    """What a client sends: an image alone."""
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    return example.SerializeToString()


def skewed(data: Images, folder: pathlib.Path, schema: schema_pb2.Schema, to: pathlib.Path) -> list[str]:
    served = drift.serving_statistics(str(folder), schema)
    return drift.descriptions(stored(drift.compare(statistics(data, schema), schema, serving=served), to))


@pytest.mark.parametrize("name", ["sent.tfrecord", "sent.tfrecord.gz"])
def test_images_as_clients_send_them_are_compared_without_labels_and_mean_intensity(
    name: str, many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    train, other = part(many, slice(700)), part(many, slice(700, None))
    write_served(tmp_path / "like" / name, [sent(image.tobytes()) for image in other.images])
    assert skewed(train, tmp_path / "like", schema, tmp_path / "1") == []
    write_served(tmp_path / "unlike" / name, [sent((255 - image).tobytes()) for image in other.images])
    [sentence] = skewed(train, tmp_path / "unlike", schema, tmp_path / "2")
    assert sentence.startswith(
        "mean_intensity of the train split differs from what clients send: Jensen-Shannon divergence 1"
    )


def test_labels_that_clients_send_are_compared_too(
    many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    train = part(many, slice(700))
    records = [serialize(image.tobytes(), 3) for image in many.images[700:]]
    write_served(tmp_path / "served" / "a", records)
    sentences = skewed(train, tmp_path / "served", schema, tmp_path / "out")
    assert [sentence.split()[0] for sentence in sentences] == ["label"]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "holds no examples, expected TFRecord files"),
        (b"\xff\xff", "holds a record that is not a tf.Example"),
        (sent(b"short"), f"an example with 5 bytes of image, expected a tf.Example with {PIXELS} bytes"),
        (tf.train.Example().SerializeToString(), "an example with no bytes of image"),
    ],
)
def test_serving_data_that_cannot_be_used_is_named(
    record: bytes | None, words: str, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "served").mkdir()
    if record is not None:
        write_served(tmp_path / "served" / "a", [record])
    with pytest.raises(drift.ServingDataError, match=words):
        drift.serving_statistics(str(tmp_path / "served"), schema)


def test_a_damaged_file_of_serving_data_is_named(schema: schema_pb2.Schema, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(b"this is not a file of records")
    with pytest.raises(drift.ServingDataError, match="a: cannot be read .*, expected TFRecords"):
        drift.serving_statistics(str(tmp_path), schema)


def test_mean_intensity_is_the_mean_grey_value_and_part_of_an_example() -> None:
    image = np.arange(PIXELS, dtype=np.uint8).reshape(SIDE, SIDE)
    features = tf.train.Example.FromString(serialize(image.tobytes(), 3)).features.feature
    assert features[MEAN_INTENSITY].float_list.value[0] == pytest.approx(image.mean() / 255)
    assert mean_intensity(b"\xff" * PIXELS) == 1


def test_statistics_of_version_0_1_are_compared_under_the_present_names(
    many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    """A night of 0.1 stored the mean intensity as `ink`; a night that is inverted must still be found."""
    before = statistics(part(many, slice(700)), schema)
    for feature in before.datasets[0].features:
        feature.path.step[:] = ["ink" if step == MEAN_INTENSITY else step for step in feature.path.step]
    assert "ink" in {feature.path.step[0] for feature in before.datasets[0].features}
    night = standard_artifacts.ExampleStatistics()
    night.uri, night.split_names = str(tmp_path), f'["{TRAIN_SPLIT}"]'
    (tmp_path / f"Split-{TRAIN_SPLIT}").mkdir()
    (tmp_path / f"Split-{TRAIN_SPLIT}" / "FeatureStats.pb").write_bytes(before.SerializeToString())
    previous = split_statistics(night, TRAIN_SPLIT)
    new = part(many, slice(700, None))
    assert not drift.compare(statistics(new, schema), schema, previous=previous).anomaly_info
    found = drift.compare(statistics(inverted(new), schema), schema, previous=previous).anomaly_info
    assert list(found) == [MEAN_INTENSITY]


def artifact(kind: Any, number: int, **properties: int) -> Any:
    made = kind()
    made.id = number
    for name, value in properties.items():
        if name == "span":
            made.span = value
        else:
            made.set_int_custom_property(name, value)
    return made


def empty_store() -> Any:
    return mlmd.MetadataStore(mlmd_pb2.ConnectionConfig(fake_database=mlmd_pb2.FakeDatabaseConfig()))


def found_earlier(
    span: int, spans: dict[int, int], accepted: list[int], delivered: str = "1, 2, 3, 4"
) -> list[int]:
    """Ids resolved for a run on `span`; spans: id of statistics -> span; accepted: ids let through."""
    examples = standard_artifacts.Examples()
    examples.set_string_custom_property(DELIVERED, delivered)
    statistics = [artifact(standard_artifacts.ExampleStatistics, i, span=s) for i, s in spans.items()]
    through = [artifact(drift.AcceptedData, 90 + i, statistics_id=i) for i in accepted]
    inputs = {
        "examples": [examples],
        "statistics": [artifact(standard_artifacts.ExampleStatistics, 80, span=span)],
        "previous": statistics,
        "accepted": through,
    }
    resolved = drift.EarlierStatistics().resolve_artifacts(empty_store(), inputs)
    return [each.id for each in resolved["previous"]]


def test_a_span_is_compared_with_the_newest_earlier_one_that_was_let_through() -> None:
    assert found_earlier(4, {1: 1, 2: 2, 3: 3}, accepted=[1, 2]) == [2]


def test_a_second_run_of_the_same_span_finds_what_the_first_did() -> None:
    assert found_earlier(2, {1: 1, 2: 2}, accepted=[1, 2]) == [1]
    assert found_earlier(1, {1: 1, 2: 2}, accepted=[1, 2]) == []


def test_a_span_that_was_withdrawn_is_no_measure_unless_all_earlier_folders_are_gone() -> None:
    assert found_earlier(4, {1: 1, 2: 2, 3: 3}, accepted=[1, 2, 3], delivered="1, 2, 4") == [2]
    assert found_earlier(4, {1: 1, 2: 2, 3: 3}, accepted=[1, 2, 3], delivered="4") == [3]


def test_of_a_span_delivered_twice_the_later_statistics_count() -> None:
    assert found_earlier(3, {1: 2, 5: 2, 3: 1}, accepted=[1, 5, 3]) == [5]


def found_last(current: int, statistics: list[int], accepted: list[int]) -> list[int]:
    """Ids resolved without spans for statistics `current`; accepted: ids in the order of their acceptance."""
    inputs = {
        "examples": [standard_artifacts.Examples()],
        "statistics": [artifact(standard_artifacts.ExampleStatistics, current)],
        "previous": [artifact(standard_artifacts.ExampleStatistics, number) for number in statistics],
        "accepted": [
            artifact(drift.AcceptedData, 90 + place, statistics_id=number)
            for place, number in enumerate(accepted)
        ],
    }
    resolved = drift.EarlierStatistics().resolve_artifacts(empty_store(), inputs)
    return [each.id for each in resolved["previous"]]


@pytest.mark.parametrize(
    ("current", "statistics", "accepted", "expected"),
    [
        (1, [1], [], []),
        (1, [1], [1], []),
        (2, [1, 2], [1], [1]),
        (2, [1, 2], [1, 2], [1]),
        (3, [1, 2, 3], [1], [1]),
        (1, [1, 2], [1, 2], [2]),
        (3, [1, 2, 3], [1, 2, 1], [1]),
        (4, [2, 4], [1, 2, 3], [2]),
    ],
    ids=[
        "nothing before", "only itself", "one before", "a second identical run",
        "stopped data does not count", "older data again", "accepted again", "pruned does not count",
    ],
)  # fmt: skip
def test_without_spans_data_is_compared_with_the_data_accepted_last(
    current: int, statistics: list[int], accepted: list[int], expected: list[int]
) -> None:
    assert found_last(current, statistics, accepted) == expected


@pytest.mark.parametrize("name", ["b [v2]", "a*b", "new\nline", "back\\slash"])
def test_serving_data_is_read_and_fingerprinted_whatever_its_folder_is_called(
    name: str, many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / name
    write_served(folder / "[1].tfrecord", [sent(many.images[0].tobytes())])
    (folder / ".copying").write_bytes(b"hidden")
    before = drift.fingerprint(str(folder))
    assert len(before.splitlines()) == 1
    assert drift.serving_statistics(str(folder), schema).datasets[0].num_examples == 1
    path, stamp = folder / "[1].tfrecord", (folder / "[1].tfrecord").stat()
    write_served(path, [sent(many.images[1].tobytes())])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert drift.fingerprint(str(folder)) != before


def test_serving_data_in_no_folder_is_named(schema: schema_pb2.Schema, tmp_path: pathlib.Path) -> None:
    with pytest.raises(drift.ServingDataError, match="serving data: .*nowhere: cannot be listed"):
        drift.serving_statistics(str(tmp_path / "nowhere"), schema)


def test_drift_stops_a_run_or_is_told_and_let_through(
    many: Images, schema: schema_pb2.Schema, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = drift.compare(statistics(inverted(many), schema), schema, previous=statistics(many, schema))
    folder = stored(bad, tmp_path / "bad")
    with pytest.raises(
        drift.DataDrift, match=r"mean_intensity of the train split.*accept it with --drift warn"
    ):
        drift.check(folder, drift.STOP)
    drift.check(folder, drift.WARN)
    assert "accepted because drift is set to warn: mean_intensity of the train split" in caplog.text
    caplog.clear()
    drift.check(stored(drift.compare(statistics(many, schema), schema), tmp_path / "good"), drift.STOP)
    assert not caplog.messages
