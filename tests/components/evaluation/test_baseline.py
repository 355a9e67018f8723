import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.types import standard_artifacts

from components.evaluation.baseline import LatestBlessedBaseline, ProductionBefore


def model(identity: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = identity
    return artifact


def blessing(of: int, blessed: bool = True) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("current_model_id", of)
    artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def baseline(
    candidate: int, models: list[int], blessings: list[standard_artifacts.ModelBlessing]
) -> list[int]:
    """The id resolved; the blessings were recorded in the order given, and are found in another."""
    for number, each in enumerate(blessings, start=100):
        each.id = number
    blessings = blessings[::-1]
    inputs = {"candidate": [model(candidate)], "model": [model(i) for i in models], "blessing": blessings}
    resolved = LatestBlessedBaseline().resolve_artifacts(None, inputs)
    return [artifact.id for artifact in resolved["model"]]


def test_the_model_of_the_newest_blessing_is_the_rival_also_where_a_newer_model_was_blessed_before() -> None:
    assert baseline(9, [1, 9, 5, 3], [blessing(1), blessing(3), blessing(5)]) == [5]
    assert baseline(9, [1, 9, 5, 3], [blessing(1), blessing(5), blessing(3)]) == [3]


def test_a_model_put_back_is_the_rival_of_the_next_candidate() -> None:
    history = [blessing(1), blessing(3), blessing(5, blessed=False), blessing(1)]
    assert baseline(9, [1, 3, 5, 9], history) == [1]


def test_a_model_refused_and_then_promoted_is_the_rival_of_the_next_candidate() -> None:
    assert baseline(9, [1, 5, 9], [blessing(1), blessing(5, blessed=False), blessing(5)]) == [5]


def test_what_was_decided_after_a_candidate_s_verdict_does_not_judge_it_again() -> None:
    verdict = [blessing(1), blessing(3), blessing(5)]
    assert baseline(5, [1, 3, 5], verdict) == [3]
    assert baseline(5, [1, 3, 5], [*verdict, blessing(1)]) == [3]
    assert baseline(5, [1, 3, 5, 7], [*verdict, blessing(7)]) == [3]
    refused = [blessing(1), blessing(5, blessed=False), blessing(5)]
    assert baseline(5, [1, 5], refused) == [1]


def test_a_model_that_was_not_blessed_is_no_rival() -> None:
    assert baseline(9, [1, 5], [blessing(1), blessing(5, blessed=False)]) == [1]


def test_a_candidate_is_not_its_own_rival_so_that_a_second_run_is_cached() -> None:
    assert baseline(5, [1, 5], [blessing(1), blessing(5)]) == [1]
    assert baseline(5, [5], [blessing(5)]) == []


def test_blessings_of_other_variants_models_do_not_count() -> None:
    assert baseline(9, [1], [blessing(1), blessing(7)]) == [1]


def test_without_any_model_there_is_no_rival() -> None:
    assert baseline(9, [], []) == []


@pytest.fixture
def store() -> mlmd.MetadataStore:
    """Trainings: model 1 on examples 11, models 2 and 3 on examples 12."""
    made = mlmd.MetadataStore(mlmd_pb2.ConnectionConfig(fake_database=mlmd_pb2.FakeDatabaseConfig()))
    kind = made.put_artifact_type(mlmd_pb2.ArtifactType(name="Any"))
    training = made.put_execution_type(mlmd_pb2.ExecutionType(name="Trainer"))
    artifacts = made.put_artifacts([mlmd_pb2.Artifact(type_id=kind) for _ in range(20)])
    assert artifacts == list(range(1, 21))
    for model_id, examples in ((1, 11), (2, 12), (3, 12)):
        [execution] = made.put_executions([mlmd_pb2.Execution(type_id=training)])
        for artifact, direction in ((examples, "INPUT"), (model_id, "OUTPUT")):
            event = mlmd_pb2.Event(artifact_id=artifact, execution_id=execution)
            event.type = mlmd_pb2.Event.Type.Value(direction)
            made.put_events([event])
    return made


def base(
    store: mlmd.MetadataStore, examples: int, blessings: list[standard_artifacts.ModelBlessing]
) -> list[int]:
    """The id of the model that a training on `examples` starts from."""
    for number, each in enumerate(blessings, start=100):
        each.id = number
    inputs = {"examples": [model(examples)], "model": [model(i) for i in (3, 1, 2)], "blessing": blessings}
    return [artifact.id for artifact in ProductionBefore().resolve_artifacts(store, inputs)["model"]]


def test_new_data_starts_from_the_model_in_production(store: mlmd.MetadataStore) -> None:
    assert base(store, 13, [blessing(1), blessing(2)]) == [2]
    assert base(store, 13, [blessing(1), blessing(2), blessing(1)]) == [1]


def test_a_second_run_on_the_same_data_starts_from_where_the_first_did(store: mlmd.MetadataStore) -> None:
    assert base(store, 12, [blessing(1)]) == [1]
    assert base(store, 12, [blessing(1), blessing(2)]) == [1]
    assert base(store, 11, [blessing(1), blessing(2)]) == []


def test_without_a_blessed_model_there_is_no_base(store: mlmd.MetadataStore) -> None:
    assert base(store, 13, [blessing(1, blessed=False)]) == []
