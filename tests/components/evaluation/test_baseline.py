import pathlib
import shutil
from typing import Any

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tallies import Section
from tfx.types import standard_artifacts

from components.evaluation.baseline import BaselineLost, ProductionBefore, ServingBaseline
from components.serving import manifests, pushed, versions


def model(identity: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = identity
    artifact.uri = f"artifacts/Trainer.mlp/model/{identity}"
    return artifact


def blessing(of: int, blessed: bool = True, against: int = 0) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("current_model_id", of)
    artifact.set_int_custom_property("blessed", int(blessed))
    if against:
        artifact.set_int_custom_property("baseline_model_id", against)
    return artifact


def empty_store() -> Any:
    made = mlmd.MetadataStore(mlmd_pb2.ConnectionConfig(fake_database=mlmd_pb2.FakeDatabaseConfig()))
    for name in ("PushedModel", "Model"):
        made.put_artifact_type(mlmd_pb2.ArtifactType(name=name))
    return made


class Production:
    """A folder of versions, and a store that remembers pushes."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "serving" / "mlp"
        self.store = empty_store()
        self.number = 10

    def serve(self, of: int) -> None:
        self.number += 1
        (self.folder / str(self.number)).mkdir(parents=True)
        (self.folder / str(self.number) / versions.SOURCE).write_text(f"/b/artifacts/Trainer.mlp/model/{of}")

    def remember(self, variant: str, folder: pathlib.Path | None = None) -> None:
        """Record a push of a variant whose files are recorded as deleted since."""
        push = standard_artifacts.PushedModel()
        pushed.mark(push, str((folder or pathlib.Path("/elsewhere/serving", variant)) / "7"), 7)
        kind = self.store.get_artifact_type("PushedModel").id
        raw = push.mlmd_artifact
        raw.type_id, raw.state = kind, mlmd_pb2.Artifact.DELETED
        self.store.put_artifacts([raw])

    def train_elsewhere(self) -> int:
        """Record a model of a pipeline of another name; its id, under which its folder is called as well."""
        kind = self.store.get_artifact_type("Model").id
        [number] = self.store.put_artifacts([mlmd_pb2.Artifact(type_id=kind, uri="unknown")])
        raw = mlmd_pb2.Artifact(id=number, type_id=kind, uri=f"artifacts/Trainer.mlp/model/{number}")
        self.store.put_artifacts([raw])
        return int(number)

    def baseline(
        self, candidate: int, models: list[int], blessings: list[standard_artifacts.ModelBlessing]
    ) -> list[int]:
        """The id resolved; the blessings were recorded in the order given, and are found in another."""
        for number, each in enumerate(blessings, start=100):
            each.id = number
        inputs = {
            "candidate": [model(candidate)],
            "model": [model(i) for i in models],
            "blessing": blessings[::-1],
        }
        resolved = ServingBaseline(str(self.folder)).resolve_artifacts(self.store, inputs)
        return [artifact.id for artifact in resolved["model"]]


@pytest.fixture
def production(tmp_path: pathlib.Path) -> Production:
    return Production(tmp_path)


def test_the_baseline_is_what_serves_whatever_was_blessed_or_trained_since(production: Production) -> None:
    production.serve(3)
    assert production.baseline(9, [1, 3, 5, 9], [blessing(1), blessing(3), blessing(5)]) == [3]
    assert production.baseline(9, [1, 3, 5, 9], []) == [3]


def test_a_model_put_back_is_the_baseline_of_the_next_candidate(production: Production) -> None:
    for of in (1, 3, 1):
        production.serve(of)
    assert production.baseline(9, [1, 3, 9], [blessing(1), blessing(3, against=1)]) == [1]


@pytest.mark.section(Section.STALE)
def test_a_candidate_that_was_judged_meets_what_serves_now_and_not_what_served_then(
    production: Production,
) -> None:
    production.serve(1)
    production.serve(2)  # promoted, and bad
    verdict = [blessing(1), blessing(2, against=1), blessing(3, against=2)]
    assert production.baseline(3, [1, 2, 3], verdict) == [2]
    production.serve(1)  # rolled back before the candidate was pushed
    assert production.baseline(3, [1, 2, 3], verdict) == [1]


def test_a_candidate_that_serves_meets_the_baseline_of_its_own_verdict_so_that_a_second_run_is_cached(
    production: Production,
) -> None:
    production.serve(1)
    assert production.baseline(1, [1], [blessing(1)]) == []
    production.serve(5)
    assert production.baseline(5, [1, 5], [blessing(1), blessing(5, against=1)]) == [1]
    promoted = [blessing(1), blessing(5, blessed=False, against=1), blessing(5)]
    assert production.baseline(5, [1, 5], promoted) == [1]


@pytest.mark.section(Section.BASELINE)
def test_without_a_baseline_only_a_first_candidate_is_judged(production: Production) -> None:
    assert production.baseline(9, [9], []) == []
    production.remember("cvae")
    assert production.baseline(9, [9], []) == []
    production.remember("mlp")
    with pytest.raises(BaselineLost, match="latentline promote mlp"):
        production.baseline(9, [9], [])


def test_a_candidate_is_compared_with_what_serves_also_if_a_pipeline_of_another_name_made_it(
    production: Production,
) -> None:
    theirs = production.train_elsewhere()
    production.serve(theirs)
    assert production.baseline(90, [80, 90], []) == [theirs]
    production.serve(90)  # the candidate won: a second identical run meets the same model again
    assert production.baseline(90, [80, 90], [blessing(90, against=theirs)]) == [theirs]


def test_a_push_to_another_folder_that_is_still_there_is_not_of_this_one(
    production: Production, tmp_path: pathlib.Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "mlp"
    production.remember("mlp", elsewhere)
    with pytest.raises(BaselineLost):  # the folder is gone: it may have been this one, before a move
        production.baseline(9, [9], [])
    elsewhere.mkdir(parents=True)
    assert production.baseline(9, [9], []) == []
    production.remember("mlp", production.folder)
    with pytest.raises(BaselineLost):
        production.baseline(9, [9], [])


def test_a_blessing_without_a_push_is_no_production(production: Production) -> None:
    assert production.baseline(9, [1, 9], [blessing(1)]) == []


@pytest.mark.section(Section.BASELINE)
def test_a_model_that_serves_and_is_lost_closes_the_gate(production: Production) -> None:
    production.serve(3)
    with pytest.raises(BaselineLost, match="nothing is pushed until somebody decides"):
        production.baseline(9, [1, 9], [blessing(1), blessing(3)])


def test_a_folder_that_is_not_ours_is_no_production(production: Production) -> None:
    for name in ("99999999999999999999", "12"):
        (production.folder / name).mkdir(parents=True)
    assert production.baseline(9, [9], []) == []
    production.serve(3)
    (production.folder / "99").mkdir()
    assert production.baseline(9, [3, 9], []) == [3]


@pytest.mark.section(Section.BASELINE)
def test_a_damaged_baseline_closes_the_gate(production: Production, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "artifacts" / "Trainer.mlp" / "model" / "3"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"weights")
    manifests.write(str(folder))
    production.serve(3)
    served = model(3)
    served.uri = str(folder)
    strategy = ServingBaseline(str(production.folder))
    inputs = {"candidate": [model(9)], "model": [served], "blessing": []}
    assert strategy.resolve_artifacts(production.store, inputs)["model"] == [served]
    (folder / "file").write_bytes(b"Weights")
    with pytest.raises(BaselineLost, match="is damaged"):
        strategy.resolve_artifacts(production.store, inputs)
    shutil.rmtree(folder)
    with pytest.raises(BaselineLost, match="is damaged"):
        strategy.resolve_artifacts(production.store, inputs)


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
