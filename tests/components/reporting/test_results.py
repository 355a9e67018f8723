import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_model_analysis.proto import metrics_for_slice_pb2, validation_result_pb2
from tfx.types import standard_artifacts

from components.evaluation import gated
from components.gate.record import decide
from components.gate.verdict import Difference
from components.reporting import results
from schemas import IMAGE, LABEL, TEST_SPLIT, TRAIN_SPLIT


def stored(path: pathlib.Path, *messages: Any) -> str:
    """The messages as TFMA stores them; the evaluation's folder."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message.SerializeToString())
    return str(path.parent)


def measured(label: int | None, **values: float) -> metrics_for_slice_pb2.MetricsForSlice:
    found = metrics_for_slice_pb2.MetricsForSlice()
    if label is not None:
        found.slice_key.single_slice_keys.add(column=LABEL, int64_value=label)
    for name, value in values.items():
        for model, shift in (("candidate", 0.0), ("baseline", 100.0)):
            item = found.metric_keys_and_values.add()
            item.key.name, item.key.model_name = name, model
            item.value.double_value.value = value + shift
            item.confidence_interval.standard_error.double_value.value = 0.5
            item.confidence_interval.lower_bound.double_value.value = value - 1
            item.confidence_interval.upper_bound.double_value.value = value + 1
    return found


def test_metrics_are_the_candidates_overall_and_by_label_in_order(
    tmp_path: pathlib.Path,
) -> None:
    slices = [measured(7, elbo=-7.0), measured(None, elbo=-5.0, unknown=3.0), measured(1, elbo=-1.0)]
    folder = stored(tmp_path / tfma.METRICS_KEY, *slices)
    found = results.sliced_metrics(folder)
    assert list(found) == [results.OVERALL, "1", "7"]
    assert found["7"] == {"elbo": {"value": -7.0, "lower": -8.0, "upper": -6.0, "unit": "nats per image"}}
    assert results.overall_metrics(folder) == found[results.OVERALL]


def test_the_ends_of_an_interval_are_metrics_of_the_same_slice_and_model(tmp_path: pathlib.Path) -> None:
    found = measured(None, elbo=-5.0, elbo_lower=-5.5, elbo_upper=-4.75)
    for item in found.metric_keys_and_values:
        item.ClearField("confidence_interval")
    folder = stored(tmp_path / tfma.METRICS_KEY, found)
    for model, shift in ((results.CANDIDATE, 0.0), (results.BASELINE, 100.0)):
        [elbo] = results.sliced_metrics(folder, model)[results.OVERALL].values()
        assert (elbo["lower"], elbo["value"], elbo["upper"]) == (-5.5 + shift, -5.0 + shift, -4.75 + shift)


def test_a_metric_without_an_interval_has_one_of_no_width(tmp_path: pathlib.Path) -> None:
    bare = metrics_for_slice_pb2.MetricsForSlice()
    item = bare.metric_keys_and_values.add()
    item.key.name = "active_units"
    item.value.double_value.value = 2.0
    [found] = results.overall_metrics(stored(tmp_path / tfma.METRICS_KEY, bare)).values()
    assert (found["lower"], found["value"], found["upper"]) == (2.0, 2.0, 2.0)


def test_the_differences_from_the_baseline_are_no_metrics(tmp_path: pathlib.Path) -> None:
    found = measured(None, elbo=-5.0)
    item = found.metric_keys_and_values.add()
    item.key.name, item.key.model_name, item.key.is_diff = "elbo", "candidate", True
    item.value.double_value.value = 99.0
    folder = stored(tmp_path / tfma.METRICS_KEY, found)
    assert results.overall_metrics(folder)["elbo"]["value"] == -5.0


@pytest.mark.parametrize(
    ("value", "floor", "words"),
    [
        (-300.0, -205.0, "elbo -300 is below the floor -205"),
        (float("nan"), -205.0, "elbo not a number is below the floor -205"),
    ],
)
def test_a_missed_floor_is_named(value: float, floor: float, words: str, tmp_path: pathlib.Path) -> None:
    result = validation_result_pb2.ValidationResult(validation_ok=False)
    failure = result.metric_validations_per_slice.add().failures.add()
    failure.metric_key.name = "elbo"
    failure.metric_value.double_value.value = value
    failure.metric_threshold.value_threshold.lower_bound.value = floor
    stored(tmp_path / tfma.METRICS_KEY, measured(None, elbo=value))
    assert results.why_not(stored(tmp_path / tfma.VALIDATIONS_KEY, result), "cvae") == words


def refused(folder: pathlib.Path, end: str, value: float, limit: float, gain: dict[str, float]) -> str:
    """What is said where the threshold on accuracy's `end` was missed; gain: of each end."""
    found = measured(None, accuracy=0.9)
    for name, each in gain.items():
        item = found.metric_keys_and_values.add()
        item.key.name, item.key.model_name, item.key.is_diff = f"accuracy_{name}", "candidate", True
        item.value.double_value.value = each
    stored(folder / tfma.METRICS_KEY, found)
    result = validation_result_pb2.ValidationResult(validation_ok=False)
    failure = result.metric_validations_per_slice.add().failures.add()
    failure.metric_key.name = f"accuracy_{end}"
    failure.metric_value.double_value.value = value
    failure.metric_threshold.change_threshold.absolute.value = limit
    return results.why_not(stored(folder / tfma.VALIDATIONS_KEY, result), "mlp")


def test_a_loss_against_production_is_named(tmp_path: pathlib.Path) -> None:
    gain = {"gain": -0.03, "gain_lower": -0.04, "gain_upper": -0.02}
    assert refused(tmp_path, "gain_upper", -0.02, 0.0, gain) == (
        "accuracy is worse than the model in production by at least 0.02: -0.030 [-0.040, -0.020]"
    )
    assert results.production_gain(str(tmp_path)) == {
        "metric": "accuracy", "unit": "fraction", "value": -0.03, "lower": -0.04, "upper": -0.02,
    }  # fmt: skip


def test_a_loss_that_the_gate_refuses_is_named(tmp_path: pathlib.Path) -> None:
    stored(tmp_path / tfma.VALIDATIONS_KEY, validation_result_pb2.ValidationResult(validation_ok=True))
    stored(tmp_path / tfma.METRICS_KEY, measured(None, accuracy=0.9))
    loss = Difference(np.asarray(-0.03), np.asarray(0.005**2), np.asarray(np.inf))
    record = decide(None, {}, {"accuracy": loss}, {}, {})
    (tmp_path / gated.FILE).write_text(record.to_json())
    assert results.why_not(str(tmp_path), "mlp").startswith(
        "accuracy -3.0 points (test ±1.0 points, training noise not measured): worse than the model in "
        "production by more than chance explains; a loss of "
    )


def test_a_gain_too_good_to_be_true_says_what_to_look_at_and_what_to_do(tmp_path: pathlib.Path) -> None:
    gain = {"gain": 0.81, "gain_lower": 0.79, "gain_upper": 0.83}
    assert refused(tmp_path, "gain_lower", 0.79, 0.2, gain) == (
        "too good to be true: +0.810 [+0.790, +0.830] accuracy against the model in production, expected at "
        "most +0.2; look at the span's labels, then `latentline promote mlp`"
    )


def test_a_gain_that_is_not_a_number_is_named(tmp_path: pathlib.Path) -> None:
    nan = float("nan")
    gain = dict.fromkeys(("gain", "gain_lower", "gain_upper"), nan)
    assert "accuracy_gain_upper is nan" in refused(tmp_path, "gain_upper", nan, 0.0, gain)


def test_without_a_model_in_production_there_is_no_gain(tmp_path: pathlib.Path) -> None:
    assert results.production_gain(stored(tmp_path / tfma.METRICS_KEY, measured(None, elbo=-5.0))) is None


def test_the_data_is_described_split_by_split(tmp_path: pathlib.Path) -> None:
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(tmp_path)
    statistics.split_names = f'["{TRAIN_SPLIT}", "{TEST_SPLIT}"]'
    for split, count in ((TRAIN_SPLIT, 30), (TEST_SPLIT, 10)):
        described = statistics_pb2.DatasetFeatureStatisticsList()
        data = described.datasets.add(num_examples=count)
        image = data.features.add(type=statistics_pb2.FeatureNameStatistics.BYTES)
        image.path.step.append(IMAGE)
        image.bytes_stats.common_stats.num_missing = 2
        image.bytes_stats.min_num_bytes = image.bytes_stats.max_num_bytes = 784
        label = data.features.add(type=statistics_pb2.FeatureNameStatistics.INT)
        label.path.step.append(LABEL)
        for value, frequency in (("7", count - 5), ("1", 5)):
            label.string_stats.top_values.add(value=value, frequency=frequency)
        folder = tmp_path / f"Split-{split}"
        folder.mkdir()
        (folder / "FeatureStats.pb").write_bytes(described.SerializeToString())
    found = results.data_statistics(statistics)
    assert [(split["split"], split["examples"]) for split in found] == [("train", 30), ("eval", 10)]
    assert found[0]["labels"] == {"1": 5, "7": 25}
    image, label = found[1]["features"]
    assert image == {"name": IMAGE, "type": "bytes", "missing": 2, "bytes": "784"}
    assert label == {"name": LABEL, "type": "int", "missing": 0}
