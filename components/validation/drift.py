"""DriftValidator and DriftGate, which compare new data with the last accepted data and with serving data.

TFDV compares distributions by the comparators of the schema: labels by the largest difference between shares
of a class, numbers by the Jensen-Shannon divergence (base 2, 0 to 1) of their histograms.
"""

import collections
import copy
import logging
import math
import os
from collections.abc import Iterator, Sequence

import ml_metadata as mlmd
import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import message
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import types
from tfx.components.example_validator import executor as example_validator
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.io import fileio
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components import driver, identity
from components.ingest import idx, spans
from components.ingest.example_gen import DELIVERED
from components.ingest.examples import mean_intensity
from components.ingest.spans import SEPARATOR
from components.validation.statistics import label_counts, occurrences, split_statistics
from schemas import CLASSES, IMAGE, LABEL, MEAN_INTENSITY, PIXELS, TRAIN_SPLIT

STOP, WARN = "stop", "warn"
STATISTICS_ID = "statistics_id"
"""Custom property of AcceptedData: the id of the accepted statistics."""
SERVING_FINGERPRINT = "serving_fingerprint"
"""Execution property of DriftValidator: name and SHA-256 of each file of its serving data."""

FALSE_ALARMS = 0.002
"""Probability that labels of two samples of one distribution exceed the raised threshold, at most."""
CHANCE_CHI_SQUARED = 50.8
"""Quantile 0.9999 of chi squared with 19 degrees of freedom.

TFDV compares two histograms of 10 buckets each on the union of their boundaries, which has up to 20 buckets.
"""

COMPARATOR_REASONS = frozenset(
    number for name, number in anomalies_pb2.AnomalyInfo.Type.items() if name.startswith("COMPARATOR_")
)
DISTANCES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "largest difference between shares of a class",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon divergence",
}
FOUND = {"drift": "has drifted from the last accepted data", "skew": "differs from what clients send"}

log = logging.getLogger(__name__)


class DataDrift(ValueError):
    """The data of this run differs from the last accepted data or from what clients send."""


class ServingDataError(ValueError):
    """The serving data cannot be used; the message names the file."""


class AcceptedData(types.Artifact):
    """A record of statistics whose data DriftGate accepted; later data is compared with them."""

    TYPE_NAME = "LatentlineAcceptedData"


class EarlierStatistics(ResolverStrategy):
    """Resolves the statistics of the last accepted data, which the data of this run is compared with.

    With spans that is the newest earlier span that was accepted, as long as there is one that was not
    withdrawn; without, the data accepted last. Data that was stopped is not compared with, and a second
    identical run finds the same statistics and is cached; neither is another data set. Inputs: `examples` and
    `statistics` of this run, all `previous` statistics and all `accepted` records; the resolved `previous`
    may be empty.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Return the inputs with `previous` resolved; called by TFX."""
        [statistics] = input_dict["statistics"]
        [examples] = input_dict["examples"]
        delivered = examples.get_string_custom_property(DELIVERED)
        mine = examples.get_string_custom_property(identity.DATASET)
        names = identity.datasets_of(store, [each.id for each in input_dict["previous"]])
        previous = [each for each in input_dict["previous"] if names.get(each.id, mine) == mine]
        if delivered:
            earlier = earlier_statistics(
                statistics.span, previous, input_dict["accepted"], delivered.split(SEPARATOR)
            )
        else:
            earlier = last_accepted(statistics.id, previous, input_dict["accepted"])
        return {**input_dict, "previous": earlier}


def earlier_statistics(
    span: int,
    statistics: Sequence[types.Artifact],
    accepted: Sequence[types.Artifact],
    delivered: Sequence[str],
) -> list[types.Artifact]:
    """Return the accepted statistics of the newest span before `span` as a list of one, or an empty list.

    delivered: numbers of the spans whose folders exist; other spans count only if none of those does, since
    data is also removed because of its age.
    """
    through = {artifact.get_int_custom_property(STATISTICS_ID) for artifact in accepted}
    found = [artifact for artifact in statistics if artifact.id in through and artifact.span < span]
    there = [artifact for artifact in found if str(artifact.span) in delivered]
    return sorted(there or found, key=lambda artifact: (artifact.span, artifact.id))[-1:]


def last_accepted(
    current: int, statistics: Sequence[types.Artifact], accepted: Sequence[types.Artifact]
) -> list[types.Artifact]:
    """Return the statistics accepted last, other than the `current` ones, as a list of at most one."""
    by_id = {artifact.id: artifact for artifact in statistics if artifact.id != current}
    order = sorted(accepted, key=lambda record: record.id)
    known = [record.get_int_custom_property(STATISTICS_ID) for record in order]
    return [by_id[number] for number in known if number in by_id][-1:]


class Driver(driver.Driver):
    """Adds a fingerprint of the serving data to the key of TFX's cache."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Return the fingerprint as an execution property; called by TFX."""
        result = driver_output_pb2.DriverOutput()
        folder = execution_info.exec_properties["serving_data"]
        result.exec_properties[SERVING_FINGERPRINT].string_value = fingerprint(folder) if folder else ""
        return result


@component
def DriftValidator(  # type: ignore[no-untyped-def]
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
    serving_data: Parameter[str],
    serving_fingerprint: Parameter[str] = "",
    previous: InputArtifact[list[standard_artifacts.ExampleStatistics]] = None,
):
    """Compare each split with the same split of accepted data, and the training split with serving data.

    Inputs: statistics and schema of this run, and earlier statistics if there are any. `serving_data` is a
    folder of TFRecord files of tf.Examples as clients sent them, or empty; the driver sets
    `serving_fingerprint`. Output: `anomalies`, which holds
    drift and skew only, in TFDV's format.
    """
    rules = io_utils.SchemaReader().read(os.path.join(schema.uri, "schema.pbtxt"))
    [before] = previous or [None]
    served = serving_statistics(serving_data, rules) if serving_data else None
    if serving_data and fingerprint(serving_data) != serving_fingerprint:
        raise ServingDataError(
            f"{idx.shown(serving_data)}: changed while it was read, expected files that are complete "
            "before a run begins; run again when they are"
        )
    splits = artifact_utils.decode_split_names(statistics.split_names)
    anomalies.split_names = artifact_utils.encode_split_names(splits)
    anomalies.span = statistics.span
    for split in splits:
        found = compare(
            split_statistics(statistics, split),
            rules,
            previous=split_statistics(before, split) if before is not None else None,
            serving=served if split == TRAIN_SPLIT else None,
        )
        folder = artifact_utils.get_split_uri([anomalies], split)
        path = os.path.join(folder, example_validator.DEFAULT_FILE_NAME)
        fileio.makedirs(folder)
        io_utils.write_bytes_file(path, found.SerializeToString(deterministic=True))


DriftValidator.DRIVER_CLASS = Driver


@component
def DriftGate(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    accepted: OutputArtifact[AcceptedData],
    action: Parameter[str],
) -> None:
    """Accept the data, or fail with DataDrift if DriftValidator found drift or skew and `action` is STOP."""
    check(anomalies, action)
    accepted.set_int_custom_property(STATISTICS_ID, statistics.id)


def check(anomalies: standard_artifacts.ExampleAnomalies | str, action: str) -> None:
    """Raise DataDrift if drift or skew was found and `action` is STOP; with WARN, log a warning."""
    found = "; ".join(descriptions(anomalies))
    if found and action == STOP:
        raise DataDrift(f"{found}. Look at the data; accept it with --drift {WARN}, or remove it")
    if found:
        log.warning("accepted because drift is set to %s: %s", WARN, found)


def descriptions(anomalies: standard_artifacts.ExampleAnomalies | str) -> list[str]:
    """Return one sentence per finding of DriftValidator, from its artifact or the folder of the artifact."""
    folder = anomalies if isinstance(anomalies, str) else anomalies.uri
    found = []
    for name in sorted(name.rstrip("/") for name in fileio.listdir(folder)):
        split = name.removeprefix("Split-")
        if split == name:
            continue
        path = os.path.join(folder, name, example_validator.DEFAULT_FILE_NAME)
        proto = anomalies_pb2.Anomalies()
        proto.ParseFromString(io_utils.read_bytes_file(path))
        found += [f"{feature} of the {split} split {text}" for feature, text in _sentences(proto)]
    return found


def _sentences(proto: anomalies_pb2.Anomalies) -> Iterator[tuple[str, str]]:
    """Yield the feature of each anomaly and the rest of its sentence."""
    measured = set()
    for info in sorted(proto.drift_skew_info, key=lambda info: str(info.path.step)):
        feature = ".".join(info.path.step)
        for kind, verdict in FOUND.items():
            for each in getattr(info, f"{kind}_measurements"):
                if each.value > each.threshold:
                    measured.add(feature)
                    distance = DISTANCES[each.type]
                    yield (
                        feature,
                        f"{verdict}: {distance} {each.value:.3g}, limit {each.threshold:.3g}",
                    )
    for feature, anomaly in sorted(proto.anomaly_info.items()):
        if feature not in measured:
            yield feature, anomaly.description


def compare(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    *,
    previous: statistics_pb2.DatasetFeatureStatisticsList | None = None,
    serving: statistics_pb2.DatasetFeatureStatisticsList | None = None,
) -> anomalies_pb2.Anomalies:
    """Return the drift from `previous` and the skew against `serving`, by the comparators of the schema.

    ExampleValidator checks everything else in the schema; it is left out here. No threshold is below what
    chance produces with so few examples (raise_to_chance). Serving data may lack labels.
    """
    if previous is None and serving is None:
        return anomalies_pb2.Anomalies()
    rules = copy.deepcopy(schema)
    for feature in rules.feature:
        for name, other in (("drift_comparator", previous), ("skew_comparator", serving)):
            if feature.HasField(name) and other is not None:
                sizes = [occurrences(each, feature.name) for each in (statistics, other)]
                if all(sizes):
                    first, second = sizes
                    shares = class_shares(statistics, other)
                    raise_to_chance(getattr(feature, name), first, second, shares)
                elif name == "skew_comparator":
                    feature.ClearField(name)
    found = tfdv.validate_statistics(
        statistics, rules, previous_statistics=previous, serving_statistics=serving
    )
    for name, anomaly in list(found.anomaly_info.items()):
        reasons = [reason for reason in anomaly.reason if reason.type in COMPARATOR_REASONS]
        if not reasons:
            del found.anomaly_info[name]
    return found


def class_shares(*both: statistics_pb2.DatasetFeatureStatisticsList) -> list[float]:
    """Return the share of each class in both samples together; equal ones if labels were not counted."""
    together: collections.Counter[int] = collections.Counter()
    for each in both:
        together.update(label_counts(each))
    return [count / together.total() for count in together.values()] or [1 / CLASSES] * CLASSES


def raise_to_chance(
    comparator: schema_pb2.FeatureComparator, first: int, second: int, shares: Sequence[float]
) -> None:
    """Raise the thresholds to what chance explains between samples of `first` and `second` examples.

    shares: of the classes. In two samples of one distribution, the share p of a class differs with variance
    v = p (1 - p) (1/n + 1/m). Bernstein's inequality bounds the probability that any of k classes differs by
    t or more by 2 k exp(-t^2 / (2 v + 2 t / (3 min(n, m)))); t is chosen so that this is FALSE_ALARMS. And
    4 ln 2 times the harmonic mean of n and m times the divergence of two histograms is approximately chi
    squared (the G-test).
    """
    variance = max(share * (1 - share) for share in shares) * (1 / first + 1 / second)
    log_odds = math.log(2 * len(shares) / FALSE_ALARMS)
    half = log_odds / (3 * min(first, second))
    harmonic = 2 * first * second / (first + second)
    for distance, chance in (
        ("infinity_norm", half + math.sqrt(half**2 + 2 * log_odds * variance)),
        ("jensen_shannon_divergence", CHANCE_CHI_SQUARED / (4 * math.log(2) * harmonic)),
    ):
        if comparator.HasField(distance):
            limit = getattr(comparator, distance)
            limit.threshold = min(max(limit.threshold, chance), 1.0)


def serving_statistics(folder: str, schema: schema_pb2.Schema) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Compute statistics of the mean intensity and of labels, if any were sent. Raises ServingDataError."""
    intensities, labels = [], []
    for image, label in served(folder):
        intensities.append([mean_intensity(image)])
        labels.append(label)
    columns = {MEAN_INTENSITY: pa.array(intensities, pa.list_(pa.float32()))}
    if any(labels):
        columns[LABEL] = pa.array([label or None for label in labels], pa.list_(pa.int64()))
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=schema))


def serving_files(folder: str) -> list[str]:
    """Return the paths of the files of serving data, hidden ones left out. Raises ServingDataError."""
    try:
        names = idx.file_names(folder)
    except idx.IdxError as error:
        raise ServingDataError(f"serving data: {error}") from None
    return [os.path.join(folder, name) for name in names if not name.startswith(".")]


def fingerprint(folder: str) -> str:
    """Return one line per file of a folder of serving data: its name and SHA-256. Raises ServingDataError."""
    try:
        return spans.fingerprint(folder, {path: idx.stored_digest(path) for path in serving_files(folder)})
    except idx.IdxError as error:
        raise ServingDataError(f"serving data: {error}") from None


def served(folder: str) -> Iterator[tuple[bytes, list[int]]]:
    """Yield image and labels (one or none) of each tf.Example in the TFRecord files of `folder`."""
    count = 0
    for path in serving_files(folder):
        kind = "GZIP" if path.endswith(".gz") else ""
        try:
            for record in tf.data.TFRecordDataset(path, kind).as_numpy_iterator():
                count += 1
                yield _sent(record, path)
        except tf.errors.OpError as error:
            raise ServingDataError(
                f"{idx.shown(path)}: cannot be read ({' '.join(error.message.split())}), expected TFRecords "
                "of serialized tf.Examples; remove the file"
            ) from None
    if not count:
        raise ServingDataError(
            f"{idx.shown(folder)}: holds no examples, expected TFRecord files of tf.Examples as clients sent "
            "them; give another folder as serving data, or none"
        )


def _sent(record: bytes, path: str) -> tuple[bytes, list[int]]:
    expected = f"expected a tf.Example with {PIXELS} bytes of {IMAGE!r}; remove the file"
    try:
        features = tf.train.Example.FromString(record).features.feature
    except message.DecodeError:
        raise ServingDataError(
            f"{idx.shown(path)}: holds a record that is not a tf.Example, {expected}"
        ) from None
    images = features[IMAGE].bytes_list.value
    if len(images) != 1 or len(images[0]) != PIXELS:
        sizes = " and ".join(f"{len(image)}" for image in images) or "no"
        raise ServingDataError(f"{idx.shown(path)}: holds an example with {sizes} bytes of image, {expected}")
    return images[0], list(features[LABEL].int64_list.value[:1])
