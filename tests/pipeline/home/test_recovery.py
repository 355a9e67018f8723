import contextlib
import os
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata

from components.serving import manifests
from components.serving.versions import SOURCE, unverified
from pipeline.config.errors import MetadataDamaged
from pipeline.home import recovery
from pipeline.home.layout import Home
from pipeline.home.metadata import connection


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path)


@contextlib.contextmanager
def store(place: Home) -> Iterator[Any]:
    with metadata.Metadata(connection(place)) as handle:
        yield handle.store


def execution(place: Home, node: str, state: int) -> int:
    """A new execution of `node` in that state; its id."""
    with store(place) as found:
        kind = found.put_execution_type(mlmd.ExecutionType(name=node))
        contexts = []
        for of, name in (("pipeline", "latentline"), ("node", f"latentline.{node}")):
            number = found.put_context_type(mlmd.ContextType(name=of))
            known = found.get_context_by_type_and_name(of, name)
            contexts.append(known or mlmd.Context(type_id=number, name=name))
        made = mlmd.Execution(type_id=kind, last_known_state=state)
        return int(found.put_execution(made, [], contexts)[0])


def artifact(place: Home, node: str, number: int, content: bytes = b"content") -> pathlib.Path:
    """A live artifact with a checksum manifest that the execution put out; its folder."""
    folder = place.output(node, "model", number)
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(content)
    manifests.write(str(folder))
    with store(place) as found:
        kind = found.put_artifact_type(mlmd.ArtifactType(name="Model"))
        found.put_artifacts([mlmd.Artifact(type_id=kind, uri=str(folder), state=mlmd.Artifact.LIVE)])
    return folder


def states(place: Home) -> list[int]:
    with store(place) as found:
        return [each.state for each in found.get_artifacts()]


def put_in_order(place: Home) -> list[str]:
    told: list[str] = []
    recovery.put_in_order(place, told.append)
    return told


def test_a_new_home_is_in_order(place: Home) -> None:
    assert put_in_order(place) == []


def test_a_home_in_order_is_left_alone(place: Home) -> None:
    number = execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE)
    folder = artifact(place, "Trainer.mlp", number)
    assert put_in_order(place) == []
    assert (folder / "file").exists()
    assert states(place) == [mlmd.Artifact.LIVE]


def test_what_a_prune_was_cut_off_over_is_removed(place: Home) -> None:
    folder = artifact(place, "Trainer.mlp", execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE))
    recovery.set_aside(folder, recovery.PRUNED)
    [told] = put_in_order(place)
    assert told == f"! {folder} is gone; it is made again if it is needed"
    assert list(folder.parent.iterdir()) == []
    assert states(place) == [mlmd.Artifact.DELETED]


@pytest.mark.parametrize("state", [mlmd.Execution.RUNNING, mlmd.Execution.NEW])
def test_an_execution_that_was_cut_off_is_failed_and_its_files_removed(place: Home, state: int) -> None:
    whole = execution(place, "Transform", mlmd.Execution.COMPLETE)
    kept = artifact(place, "Transform", whole)
    number = execution(place, "Trainer.mlp", state)
    node = place.artifacts / "Trainer.mlp"
    for folder in ("model", "model_run", ".system/executor_execution", ".system/stateful_working_dir"):
        (node / folder / str(number)).mkdir(parents=True)
    assert put_in_order(place) == ["! the run before was cut off in Trainer.mlp, which is done again"]
    with store(place) as found:
        [ended] = found.get_executions_by_id([number])
    assert ended.last_known_state == mlmd.Execution.FAILED
    assert not [path for path in node.rglob("*") if path.name == str(number)]
    assert kept.exists()
    assert put_in_order(place) == []


def test_a_damaged_artifact_is_set_aside_and_one_that_is_gone_recorded(place: Home) -> None:
    folders = [
        artifact(place, "Trainer.mlp", execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE))
        for _ in range(3)
    ]
    (folders[0] / "file").unlink()
    folders[0].rmdir()
    (folders[2] / "file").write_bytes(b"CONTENT")
    gone, damaged = put_in_order(place)
    assert gone == f"! {folders[0]} is gone; it is made again if it is needed"
    assert damaged.startswith(f"! {folders[2]} is damaged (file has other bytes")
    assert folders[2].with_name(f"{folders[2].name}.damaged-1").is_dir()
    assert not folders[2].exists()
    assert states(place) == [mlmd.Artifact.DELETED, mlmd.Artifact.LIVE, mlmd.Artifact.DELETED]
    assert put_in_order(place) == []


def test_older_artifacts_are_read_whole_only_after_a_failure(place: Home) -> None:
    older = artifact(place, "Trainer.mlp", execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE))
    artifact(place, "Trainer.mlp", execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE))
    (older / "file").write_bytes(b"CONTENT")
    assert put_in_order(place) == []
    execution(place, "Evaluator.mlp", mlmd.Execution.FAILED)
    assert len(put_in_order(place)) == 1


def test_outputs_of_executions_that_the_store_does_not_know_are_set_aside(place: Home) -> None:
    number = execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE)
    known = artifact(place, "Trainer.mlp", number)
    stranger = known.with_name(str(number + 4))
    stranger.mkdir()
    assert put_in_order(place) == [f"! {stranger} is unknown to metadata.db; set aside"]
    assert known.exists()
    assert stranger.with_name(f"{stranger.name}.unknown-1").exists()


def test_copies_of_killed_pushes_are_removed_and_nothing_else(place: Home) -> None:
    folder = place.versions("mlp")
    staged, kept = f".1700000000-{'0a' * 16}", ["1700000000", ".hidden", ".1-short"]
    for name in (staged, *kept):
        (folder / name).mkdir(parents=True)
    put_in_order(place)
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def damaged_by(content: bytes | None) -> Any:
    def damage(database: pathlib.Path) -> None:
        database.unlink()
        if content is not None:
            database.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("content", "words"), [(b"no database" * 400, "is damaged"), (b"", "is empty"), (None, "is gone")]
)
@pytest.mark.parametrize("copied", [True, False])
def test_a_damaged_database_is_refused_with_the_command_that_mends_it(
    place: Home, tmp_path: pathlib.Path, content: bytes | None, words: str, copied: bool
) -> None:
    artifact(place, "Trainer.mlp", execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE))
    if copied:
        recovery.keep_copy(place)
    damaged_by(content)(tmp_path / "metadata.db")
    with pytest.raises(MetadataDamaged, match=words) as caught:
        put_in_order(place)
    database = tmp_path / "metadata.db"
    how = f"`cp {database}.bak {database}`" if copied else f"`mv {tmp_path} {tmp_path}.damaged`"
    assert how in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_that_another_program_holds_is_not_called_damaged(
    place: Home, tmp_path: pathlib.Path
) -> None:
    execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE)
    with contextlib.closing(sqlite3.connect(tmp_path / "metadata.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MetadataDamaged, match=r"cannot be used \(database is locked\)"):
            recovery.check_database(place)


def test_the_copy_is_the_database_as_it_was(place: Home, tmp_path: pathlib.Path) -> None:
    number = execution(place, "Trainer.mlp", mlmd.Execution.COMPLETE)
    recovery.keep_copy(place)
    execution(place, "Evaluator.mlp", mlmd.Execution.COMPLETE)
    (tmp_path / "metadata.db").write_bytes((tmp_path / "metadata.db.bak").read_bytes())
    with store(place) as found:
        assert [each.id for each in found.get_executions()] == [number]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metadata.db", "metadata.db.bak"]


def version(place: Home, folder: pathlib.Path, number: int, content: bytes) -> pathlib.Path:
    """A version of 0.1, which has no manifest, that says it is a copy of the artifact in `folder`."""
    made = place.versions("mlp") / str(number)
    made.mkdir(parents=True)
    (made / "saved_model.pb").write_bytes(content)
    (made / SOURCE).write_text(str(folder))
    return made


def test_a_version_of_0_1_gets_its_manifest_or_is_noted_as_different_and_read_once(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.output("Trainer.mlp", "model", 7)
    (folder / "Format-Serving").mkdir(parents=True)
    (folder / "Format-Serving" / "saved_model.pb").write_bytes(b"content")
    manifests.write(str(folder))
    same, other = version(place, folder, 1, b"content"), version(place, folder, 2, b"changed")
    recovery.adopt_versions(place)
    assert manifests.damage_of_version(str(same), thorough=True) == ""
    assert not (other / manifests.INSIDE).exists()
    assert unverified(str(place.versions("mlp"))) == {2}

    def read_again(*arguments: object, **named: object) -> str:
        raise AssertionError("a version was read again")

    monkeypatch.setattr(manifests, "compare", read_again)
    recovery.adopt_versions(place)


def test_files_that_a_killed_process_left_without_a_name_are_removed_once_they_are_old(place: Home) -> None:
    place.runs.mkdir()
    place.versions("mlp").mkdir(parents=True)
    folder = place.output("Trainer.mlp", "model", 7)
    folder.mkdir(parents=True)
    manifests.write(str(folder))
    unnamed = [place.folder / f".intent.json-{'a' * 32}", place.runs / f".20261125-030000.json-{'b' * 32}"]
    left = [
        *unnamed, place.database_copy_staging, place.versions("mlp") / ".withdrawn.tmp",
        folder.with_name(".8.sha256"), folder.with_name(".7.sha256.tmp"),
    ]  # fmt: skip
    kept = [manifests.path_of(str(folder)), place.folder / ".intent.json-notes", place.runs / "1.json"]
    for path in (*left, *kept[1:]):
        path.touch()
    young = place.folder / f".schedule.json-{'c' * 32}"
    young.touch()
    for path in unnamed:
        os.utime(path, (0, 0))
    recovery.remove_leftovers(place)
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in (*kept, young))
