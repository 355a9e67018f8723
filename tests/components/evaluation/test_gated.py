"""The gated Evaluator, with real SavedModels of one variable and TFMA's own evaluation."""

import pathlib
from typing import Any

import ml_metadata as mlmd
import numpy as np
import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from small import Toy
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.evaluation import gated, nights, paired, scores
from components.evaluation.eval_config import Demands, eval_config
from components.evaluation.gated import GateSettings
from components.evaluation.metrics import MEANS
from components.evaluation.nights import CANDIDATE, GATE, EarlierNight
from components.gate.noise import Declared
from components.gate.record import Alarm, Anchor, Past, Record
from components.identity import DATASET
from components.serving import versions
from schemas import CLASSES, LABEL, TEST_SPLIT

ERA = {"variant": "toy", "profile": "quick"}
SETTINGS = GateSettings(("accuracy",), ERA, {"accuracy": Declared(0.01, seeds=20)})


class Folder:
    """Artifacts in a temporary folder, numbered."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root, self.count = root, 0

    def artifact(self, kind: type) -> Any:
        self.count += 1
        made = kind()
        made.id, made.uri = self.count, str(self.root / str(self.count))
        pathlib.Path(made.uri).mkdir()
        return made

    def model(self, wrong: int) -> Any:
        made, toy = self.artifact(standard_artifacts.Model), Toy(wrong)
        folder = f"{made.uri}/Format-Serving"
        tf.saved_model.save(toy, folder, signatures={paired.SIGNATURE: toy.evaluate})
        return made

    def examples(self, labels: list[int]) -> Any:
        made = self.artifact(standard_artifacts.Examples)
        made.split_names = f'["{TEST_SPLIT}"]'
        folder = pathlib.Path(made.uri, f"Split-{TEST_SPLIT}")
        folder.mkdir()
        with tf.io.TFRecordWriter(str(folder / "data-00000-of-00001.gz"), "GZIP") as writer:
            for number, label in enumerate(labels):
                example = tf.train.Example()
                example.features.feature["number"].int64_list.value.append(number)
                example.features.feature[LABEL].int64_list.value.append(label)
                writer.write(example.SerializeToString())
        return made

    def night(self, examples: Any, candidate: Any, settings: GateSettings = SETTINGS, **inputs: Any) -> Any:
        """Run the Executor; the evaluation and whether the candidate was blessed."""
        evaluation = self.artifact(standard_artifacts.ModelEvaluation)
        blessing = self.artifact(standard_artifacts.ModelBlessing)
        config = eval_config("classifier", Demands(floor=0.1), "code")
        gated.Executor(base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=[])).Do(
            {
                "examples": [examples],
                "model": [candidate],
                **{key: value if isinstance(value, list) else [value] for key, value in inputs.items()},
            },
            {"evaluation": [evaluation], "blessing": [blessing]},
            {
                "eval_config": proto_utils.proto_to_json(config),
                "example_splits": json_utils.dumps(None),
                GATE: settings.to_json(),
            },
        )
        blessed = blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        assert pathlib.Path(blessing.uri, constants.BLESSED_FILE_NAME).exists() is blessed
        assert pathlib.Path(blessing.uri, constants.NOT_BLESSED_FILE_NAME).exists() is not blessed
        return evaluation, blessed


def record_of(evaluation: str) -> Record:
    found = gated.record_of(evaluation)
    assert found is not None
    return found


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    return Folder(tmp_path)


def balanced(images: int) -> list[int]:
    return [number % CLASSES for number in range(images)]


def test_the_scores_of_a_model_are_one_row_per_image_in_the_order_of_the_split(
    folder: Folder, tmp_path: pathlib.Path
) -> None:
    labels = balanced(1_234)
    examples = folder.examples(labels)
    measured = scores.measure(folder.model(100), examples)
    scores.write(measured, str(tmp_path / "evaluation"))
    found = scores.read(str(tmp_path / "evaluation" / scores.FILE))
    assert list(found.values) == [*MEANS["generative"], *MEANS["classifier"]]
    assert found.values["accuracy"].tolist() == [float(number >= 100) for number in range(1_234)]
    assert found.values["cross_entropy"].dtype == np.float32
    assert found.labels.tolist() == labels
    assert len(set(found.images)) == 1_234
    assert found.images.tolist() == scores.measure(folder.model(40), examples).images.tolist()


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"no parquet at all"])
def test_scores_that_are_missing_or_damaged_are_named(content: bytes | None, tmp_path: pathlib.Path) -> None:
    path = tmp_path / scores.FILE
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(scores.UnreadableScores, match=f"cannot read the scores in {path}.* run the pipeline"):
        scores.read(str(path))


def test_differences_of_two_models_are_those_of_their_examples(folder: Folder) -> None:
    examples = folder.examples(balanced(1_234))
    anchor, spare = folder.model(40), folder.model(100)
    found = paired.measured(folder.model(100), [anchor, spare], examples, ("accuracy", "cross_entropy"))
    assert list(found) == [anchor.id, spare.id]
    score, own = found[anchor.id]
    assert score["cross_entropy"].mean == pytest.approx(60 / 1_234)
    assert score["accuracy"].mean == pytest.approx((0 + 1 - 60 - 1) / 1_236)
    assert own["accuracy"].mean == pytest.approx(1 - 40 / 1_234)
    assert own["cross_entropy"].variance == pytest.approx(40 / 1_234 * (1 - 40 / 1_234) / 1_233)
    assert found[spare.id].score["accuracy"].mean == 0


def test_nights_are_recorded_and_a_loss_is_refused_after_tfma_has_blessed(folder: Folder) -> None:
    examples = folder.examples(balanced(1_000))
    first = folder.model(50)
    evaluation, blessed = folder.night(examples, first)
    assert blessed
    assert anchors(evaluation) == [first.id]
    second = folder.model(55)
    evaluation, blessed = folder.night(
        examples, second, earlier=evaluation, anchor=first, baseline_model=first
    )
    record = record_of(evaluation.uri)
    assert blessed
    assert (anchors(evaluation), record.nights) == ([first.id, second.id], 1)
    assert evaluation.get_int_custom_property(CANDIDATE) == second.id
    third, blessed = folder.night(
        examples, folder.model(400), earlier=evaluation, anchor=[first, second], baseline_model=second
    )
    assert not blessed
    assert record_of(third.uri).nights == 2
    assert "more than chance explains" in gated.refused_because(third.uri)


@pytest.mark.parametrize(
    ("labels", "wrong", "blessed"),
    [(balanced(90), 0, False), ([0] * 950 + balanced(50), 50, False), ([0] * 900 + balanced(100), 0, True)],
)
def test_a_split_that_supports_no_verdict_blesses_nobody(
    folder: Folder, labels: list[int], wrong: int, blessed: bool
) -> None:
    candidate = folder.model(wrong)
    evaluation, found = folder.night(folder.examples(labels), candidate)
    assert found is blessed
    assert anchors(evaluation) == ([candidate.id] if blessed else [])


@pytest.mark.parametrize(
    ("profile", "reason"),
    [("quick", "Trainer.toy/model/99, is gone"), ("full", "profile full (before: quick)")],
)
def test_a_new_era_begins_where_nights_cannot_be_compared_and_says_why(
    folder: Folder, caplog: pytest.LogCaptureFixture, profile: str, reason: str
) -> None:
    settings = GateSettings(("accuracy",), {**ERA, "profile": profile}, SETTINGS.noise)
    examples, first, second = folder.examples(balanced(200)), folder.model(10), folder.model(10)
    evaluation, blessed = folder.night(
        examples, second, settings, earlier=recorded(1, 99, anchor=99), baseline_model=first
    )
    assert blessed
    assert (anchors(evaluation), record_of(evaluation.uri).nights) == ([second.id], 0)
    assert "begins a new era" in caplog.text
    assert reason in caplog.text


def test_a_record_that_cannot_be_read_blesses_nobody(folder: Folder) -> None:
    earlier = recorded(1, 99, anchor=99)
    earlier.set_string_custom_property(GATE, "{}")
    with pytest.raises(ValueError, match="record of an earlier night cannot be read"):
        folder.night(folder.examples(balanced(200)), folder.model(10), earlier=earlier)


def anchors(evaluation: Any) -> list[int]:
    return [each.model for each in record_of(evaluation.uri).anchors]


def recorded(number: int, candidate: int, anchor: int, alarm: Alarm | None = None) -> Any:
    """An evaluation of a candidate, or what a person's decision gave where there is none."""
    made = standard_artifacts.ModelEvaluation()
    made.id = number
    record = Record(ERA, Anchor(anchor, f"Trainer.toy/model/{anchor}", "2026-03-02"), alarm=alarm)
    made.set_string_custom_property(GATE, record.to_json())
    if candidate:
        made.set_int_custom_property(CANDIDATE, candidate)
    return made


ALARM = Alarm("2026-04-01", "accuracy", 0.02)


def resolved(
    candidate: int, evaluations: list[Any], models: list[int], serving: str = "", **decided: list[Any]
) -> tuple[list[int], list[int]]:
    def model(number: int) -> Any:
        made = standard_artifacts.Model()
        made.id, made.uri = number, f"/home/artifacts/Trainer.toy/model/{number}"
        return made

    inputs = {
        "candidate": [model(candidate)],
        "evaluation": evaluations,
        "model": [model(number) for number in models],
        **decided,
    }
    store = mlmd.MetadataStore(mlmd_pb2.ConnectionConfig(fake_database=mlmd_pb2.FakeDatabaseConfig()))
    found = EarlierNight(serving).resolve_artifacts(store, inputs)
    return [each.id for each in found["evaluation"]], [each.id for each in found["model"]]


def test_what_cannot_be_read_of_earlier_nights_is_named(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "serving"
    file.write_text("")
    with pytest.raises(NotADirectoryError):
        resolved(1, [], [1], str(file / "toy"))
    assert str(file) in caplog.text


def test_the_newest_record_and_its_anchor_are_resolved() -> None:
    lived = [recorded(30, 2, anchor=1), recorded(40, 3, anchor=1), recorded(20, 1, anchor=1)]
    assert resolved(4, lived, [1, 2, 3, 4]) == ([40], [1])


def test_a_candidate_that_was_judged_meets_the_same_record_again() -> None:
    lived = [recorded(20, 1, anchor=1), recorded(30, 2, anchor=1), recorded(40, 3, anchor=1)]
    assert resolved(2, lived, [1, 2, 3]) == ([20], [1])
    assert resolved(2, [*lived, recorded(50, 2, anchor=1)], [1, 2, 3]) == ([20], [1])
    assert resolved(1, lived, [1, 2, 3]) == ([], [])


def test_a_candidate_that_is_judged_again_does_not_cut_the_era_short() -> None:
    lived = [recorded(20, 1, anchor=1), recorded(30, 2, anchor=1), recorded(40, 3, anchor=1)]
    assert resolved(9, [*lived, recorded(50, 1, anchor=1)], [1])[0] == [40]
    assert resolved(9, [*lived, recorded(50, 3, anchor=1)], [1])[0] == [50]


@pytest.mark.parametrize("word", ["accept", "resume", "rollback"])
def test_after_a_decision_every_candidate_starts_from_it(word: str) -> None:
    lived = [recorded(20, 1, anchor=1), recorded(30, 2, anchor=1, alarm=ALARM)]
    decided: dict[str, Any] = {word: [recorded(40, 0, anchor=1)]}
    assert resolved(2, lived, [1, 2], **decided) == ([40], [1])
    assert resolved(3, lived, [1, 2, 3], **decided) == ([40], [1])
    again = [*lived, recorded(50, 2, anchor=1)]
    assert resolved(2, again, [1, 2], **decided) == ([40], [1])
    assert resolved(3, again, [1, 2, 3], **decided) == ([50], [1])


def test_while_an_alarm_stands_an_older_candidate_is_judged_under_it() -> None:
    lived = [recorded(20, 1, anchor=1), recorded(30, 2, anchor=1), recorded(40, 3, anchor=1, alarm=ALARM)]
    assert resolved(2, lived, [1, 2, 3]) == ([40], [1])
    assert resolved(2, [*lived, recorded(50, 2, anchor=1, alarm=ALARM)], [1, 2, 3]) == ([40], [1])
    assert resolved(3, lived, [1, 2, 3]) == ([30], [1])


def test_a_model_that_somebody_rolled_back_from_is_no_anchor(tmp_path: pathlib.Path) -> None:
    lived = [recorded(20, 2, anchor=1)]
    assert resolved(3, lived, [1, 2, 3], str(tmp_path)) == ([20], [1])
    versions.withdraw(str(tmp_path), "/home/artifacts/Trainer.toy/model/1")
    assert resolved(3, lived, [1, 2, 3], str(tmp_path)) == ([20], [])


def test_under_an_alarm_nothing_is_blessed_and_the_night_is_measured(folder: Folder) -> None:
    examples, first = folder.examples(balanced(1_000)), folder.model(50)
    earlier = recorded(1, 99, anchor=first.id, alarm=ALARM)
    evaluation, blessed = folder.night(
        examples, folder.model(10), earlier=earlier, anchor=first, baseline_model=first
    )
    assert not blessed
    assert (record_of(evaluation.uri).nights, record_of(evaluation.uri).alarm) == (1, ALARM)
    assert gated.refused_because(evaluation.uri).startswith("alarm for slow decline since 2026-04-01")


def test_an_alarm_outlives_a_change_of_settings(folder: Folder) -> None:
    settings = GateSettings(("accuracy",), {**ERA, "profile": "full"}, SETTINGS.noise)
    earlier = recorded(1, 99, anchor=99, alarm=ALARM)
    evaluation, blessed = folder.night(
        folder.examples(balanced(200)), folder.model(10), settings, earlier=earlier
    )
    assert not blessed
    assert record_of(evaluation.uri).alarm == ALARM


def test_the_spare_takes_the_place_of_an_anchor_that_is_gone(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    examples, spare = folder.examples(balanced(1_000)), folder.model(50)
    earlier = recorded(1, 99, anchor=99)
    both = nights.record(earlier).anchored_by(Anchor(spare.id, "Trainer.toy/model/2", "2026-03-03"))
    earlier.set_string_custom_property(GATE, both.to_json())
    candidate = folder.model(40)
    evaluation, blessed = folder.night(
        examples, candidate, earlier=earlier, anchor=spare, baseline_model=spare
    )
    assert blessed
    assert anchors(evaluation) == [spare.id, candidate.id]
    assert "Trainer.toy/model/99, from which nights were measured, is gone" in caplog.text


def test_an_anchor_without_a_record_begins_the_first_era_of_a_home_of_0_1(folder: Folder) -> None:
    examples, old = folder.examples(balanced(1_000)), folder.model(50)
    evaluation, _ = folder.night(examples, folder.model(52), anchor=old, baseline_model=old)
    assert record_of(evaluation.uri).nights == 1
    assert anchors(evaluation)[0] == old.id
    assert record_of(evaluation.uri).past == Past()


def test_evaluations_of_before_the_gate_and_anchors_whose_files_are_gone_are_not_resolved() -> None:
    old = standard_artifacts.ModelEvaluation()
    old.id = 10
    assert resolved(2, [old], [1, 2]) == ([], [])
    assert resolved(3, [old, recorded(20, 2, anchor=1)], [2, 3]) == ([20], [])


@pytest.mark.parametrize(("ingested", "foreign"), [("mnist", False), ("scans", True), ("", False)])
def test_nights_are_of_the_data_set_that_was_ingested_whatever_was_compiled(
    ingested: str, foreign: bool
) -> None:
    examples = standard_artifacts.Examples()
    if ingested:
        examples.set_string_custom_property(DATASET, ingested)
    settings = GateSettings(("accuracy",), {**ERA, DATASET: "mnist"}, SETTINGS.noise).on(examples)
    assert settings.era == {**ERA, DATASET: ingested or "mnist"}
    assert settings.noise["accuracy"].foreign is foreign


def test_settings_come_back_from_an_execution_property() -> None:
    assert GateSettings.from_json(SETTINGS.to_json()) == SETTINGS
    assert np.isclose(SETTINGS.noise["accuracy"].value, 0.01)
