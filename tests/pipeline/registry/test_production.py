"""Decisions about production that version 0.1 kept in ML Metadata only."""

import pathlib

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts

from components.serving import pushed
from components.serving.versions import SOURCE, artifact_name, withdrawn
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.home.metadata import Artifact
from pipeline.registry import production


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path)


def push(home: Home, version: int) -> Artifact:
    """Record a training and a push as TFX's launcher does, and lay the version; the model."""
    with tfx_metadata.Metadata(metadata.connection(home)) as handle:
        model, copy = standard_artifacts.Model(), standard_artifacts.PushedModel()
        pushed.mark(copy, str(home.versions("mlp") / str(version)), version)
        for node, given in (("Trainer", {"model": [model]}), ("Pusher", {"pushed_model": [copy]})):
            names = {"pipeline": "latentline", "pipeline_run": str(version), "node": f"latentline.{node}.mlp"}
            contexts = [context_lib.register_context_if_not_exists(handle, k, n) for k, n in names.items()]
            inputs = {"model": [model]} if node == "Pusher" else None
            execution = execution_publish_utils.register_execution(
                handle, mlmd.ExecutionType(name=node), contexts, input_artifacts=inputs
            )
            for key, [artifact] in given.items():
                artifact.uri = str(home.output(f"{node}.mlp", key, execution.id))
            execution_publish_utils.publish_succeeded_execution(handle, execution.id, contexts, given)
    lay(home, version, model.uri)
    with metadata.opened(home) as store:
        found = store.at(model.uri, metadata.MODEL)
    assert found
    return found


def lay(home: Home, version: int, source: str) -> None:
    folder = home.versions("mlp") / str(version)
    folder.mkdir(parents=True)
    (folder / SOURCE).write_text(source)


def roll_back(home: Home, model: Artifact, replaced: int, version: int, done: bool = True) -> None:
    """Record a rollback as version 0.1 did."""
    with metadata.opened(home) as store:
        facts: dict[str, str | int] = {"variant": "mlp", "user": "eve", "replaced_version": replaced}
        decision = store.begin_decision("latentline.Rollback", "latentline", "mlp", model, facts)
        if done:
            destination = str(home.versions("mlp") / str(version))
            store.finish_decision(decision, model, "blessing", "push", destination, version)
    if done:
        lay(home, version, model.uri)


@pytest.mark.parametrize("version_is_there", [True, False])
def test_what_was_rolled_back_from_with_0_1_is_withdrawn(home: Home, version_is_there: bool) -> None:
    first, second = push(home, 1), push(home, 2)
    roll_back(home, first, replaced=2, version=3)
    if not version_is_there:  # removed since, by `keep`
        (home.versions("mlp") / "2" / SOURCE).unlink()
        (home.versions("mlp") / "2").rmdir()
    with metadata.opened(home) as store:
        production.adopt_rollbacks(home, store)
    assert withdrawn(str(home.versions("mlp"))) == {artifact_name(second.uri)}


def test_a_home_without_rollbacks_and_one_whose_rollback_was_cut_off_withdraw_nothing(home: Home) -> None:
    first = push(home, 1)
    push(home, 2)
    with metadata.opened(home) as store:
        production.adopt_rollbacks(home, store)
    roll_back(home, first, replaced=2, version=3, done=False)
    with metadata.opened(home) as store:
        production.adopt_rollbacks(home, store)
    assert withdrawn(str(home.versions("mlp"))) == set()
