"""Rollback and promotion on the home of a cluster: its store is shared with runs that may be under way."""

import json
import os
import pathlib
import threading

import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts

from components.serving import manifests, versions
from components.serving.publication import publish
from pipeline.config.errors import HomeInUse
from pipeline.home import journal, lease, lock, metadata
from pipeline.home.layout import Home
from pipeline.home.lease import Times
from pipeline.home.metadata import State
from pipeline.registry import production
from pipeline.registry.production import ProductionError


class Small(tf.Module):
    """As much of a model as a push asks for."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.strings.length(examples)}


class World:
    """A root, a serving folder and a store, as tasks of a run on a cluster leave them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root, self.serving = folder / "root", folder / "serving"
        self.base = str(self.serving / "mlp")
        self.connection = metadata.connection(Home(folder))  # SQLite stands for the server here
        self.home = Home.of_cluster(str(self.serving), self.connection)

    def train(self, pipeline: str = "latentline", end: bool = True) -> int:
        """Record a training and lay its model down; the id of the artifact, or of the execution under way."""
        with tfx_metadata.Metadata(self.connection) as handle:
            names = {"pipeline": pipeline, "pipeline_run": "monday", "node": f"{pipeline}.Trainer.mlp"}
            contexts = [context_lib.register_context_if_not_exists(handle, k, n) for k, n in names.items()]
            execution = execution_publish_utils.register_execution(
                handle, mlmd.ExecutionType(name="Trainer"), contexts
            )
            if not end:
                return int(execution.id)
            model = standard_artifacts.Model()
            model.uri = str(self.root / "Trainer.mlp" / "model" / str(execution.id))
            small = Small()
            tf.saved_model.save(small, f"{model.uri}/Format-Serving", {"serving_default": small.serve})
            manifests.write(model.uri)
            execution_publish_utils.publish_succeeded_execution(
                handle, execution.id, contexts, {"model": [model]}
            )
        with metadata.opened(self.connection) as store:
            return store.outputs(int(execution.id))["model"][0].id

    def push(self, model: int) -> int:
        with metadata.opened(self.connection) as store:
            uri = store.artifact(model).uri
        return publish(f"{uri}/Format-Serving", self.base, uri)

    def serves(self) -> str:
        return versions.source(self.base, versions.published(self.base)[-1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("cluster"))


def test_a_rollback_goes_back_and_leaves_a_run_that_is_under_way_alone(world: World) -> None:
    first, second = world.train(), world.train("renamed")  # of two pipelines that share the folder
    before = [world.push(first), world.push(second)]
    under_way = world.train(end=False)
    change = production.rollback(world.home, "mlp", None, "blurred sevens", pytest.fail)
    assert versions.published(world.base) == [*before, change.version]
    with metadata.opened(world.connection) as store:
        assert world.serves() == store.artifact(first).uri
        assert store.execution(under_way).state is State.RUNNING
        [blessing] = store.blessings()
        assert (blessing.model, blessing.blessed) == (first, True)
    [record] = journal.read(world.home)
    assert (record.command, record.reason, record.variants["mlp"].version) == (
        "rollback", "blurred sevens", change.version,
    )  # fmt: skip
    assert pathlib.Path(blessing.uri).is_relative_to(world.serving)
    assert versions.by_variant(str(world.serving)).keys() == {"mlp"}  # and no folder of ours among them


def test_a_promotion_pushes_the_newest_model_of_any_pipeline(world: World) -> None:
    model = world.train("renamed")
    change = production.promote(world.home, "mlp", None, "", pytest.fail)
    with metadata.opened(world.connection) as store:
        assert (world.serves(), change.model) == (store.artifact(model).uri,) * 2
    with pytest.raises(ProductionError, match="is in production"):
        production.promote(world.home, "mlp", None, "", pytest.fail)


def test_a_command_waits_for_a_push_and_the_deadline_ends_its_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = versions.published(world.base)
    monkeypatch.setattr(lease, "DEFAULT", Times(expires=60.0, patience=0.2, look=0.05))
    with (
        lock.production_at(world.connection, "mlp"),
        pytest.raises(HomeInUse, match="has held the lock production of mlp"),
    ):
        production.rollback(world.home, "mlp", None, "", pytest.fail)
    assert versions.published(world.base) == before
    monkeypatch.setattr(lease, "DEFAULT", Times(expires=60.0, patience=60.0, look=0.05))
    with lock.production_at(world.connection, "mlp"):
        waiting = threading.Thread(
            target=production.rollback, args=(world.home, "mlp", None, "", pytest.fail)
        )
        waiting.start()
        waiting.join(1.0)
        assert waiting.is_alive()
        assert versions.published(world.base) == before
    waiting.join()
    assert len(versions.published(world.base)) == len(before) + 1


def test_an_interrupted_command_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(production, "_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            production.promote(world.home, "mlp", None, "twice", pytest.fail)
    added = versions.published(world.base)
    assert json.loads(world.home.intent.read_text())["reason"] == "twice"
    lines: list[str] = []
    change = production.promote(world.home, "mlp", None, "twice", lines.append)
    assert (change.version, versions.published(world.base)) == (added[-1], added)
    assert "is finished" in lines[0]
    assert not os.path.exists(world.home.intent)
