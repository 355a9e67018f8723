"""Kills and full disks at every file operation of a rollback and a promotion, in one process."""

import builtins
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts

from components.serving import manifests, publication, versions
from pipeline.home import journal, metadata, recovery
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Store
from pipeline.registry import production

pytestmark = pytest.mark.faults
VARIANT = "mlp"


class Killed(BaseException):
    """The process is gone: nothing that comes after it is carried out."""


class Faults:
    """Counts operations that change files or the store, and makes one of them, and what follows, fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at, self.kind = 0, -1, ""
        self._opened = builtins.open
        for owner, name in (
            (os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "mkdir"), (os, "rmdir"),
            (Store, "begin_decision"), (Store, "finish_decision"), (Store, "mark_failed"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))
        monkeypatch.setattr(builtins, "open", self._open)

    def arm(self, at: int, kind: str) -> None:
        self.count, self.at, self.kind = 0, at, kind

    def disarm(self) -> None:
        self.at = -1

    def _step(self, writes: bool = True) -> None:
        self.count += 1
        if self.at >= 0 and self.count > self.at:
            if self.kind == "kill":
                raise Killed
            if writes and self.count == self.at + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._step()
            return real(*arguments, **named)

        return call

    def _open(self, file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if set(mode) & set("wax+"):
            self._step()
        return self._opened(file, mode, *arguments, **named)


class Answer(tf.Module):
    def __init__(self, value: float) -> None:
        self.value = tf.Variable(value)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"answer": tf.fill(tf.shape(examples), self.value)}


def train(home: Home, value: float) -> str:
    """A trained model in the store, with its manifest; its folder."""
    with tfx_metadata.Metadata(metadata.connection(home)) as handle:
        names = {"pipeline": "latentline", "pipeline_run": f"run {value}", "node": "latentline.Trainer.mlp"}
        contexts = [context_lib.register_context_if_not_exists(handle, k, n) for k, n in names.items()]
        execution = execution_publish_utils.register_execution(
            handle, mlmd.ExecutionType(name="Trainer"), contexts
        )
        model = standard_artifacts.Model()
        model.uri = str(home.output("Trainer.mlp", "model", execution.id))
        module = Answer(value)
        tf.saved_model.save(module, f"{model.uri}/Format-Serving", signatures=module.serve)
        manifests.write(model.uri)
        execution_publish_utils.publish_succeeded_execution(
            handle, execution.id, contexts, {"model": [model]}
        )
        return str(model.uri)


class World:
    """A home with three models, of which two were pushed, restored before each trial."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.home = Home(folder / "home")
        self.home.folder.mkdir()
        self.models = [train(self.home, value) for value in (1.0, 2.0, 3.0)]
        for uri in self.models[:2]:
            publication.publish(f"{uri}/Format-Serving", self.base, uri)
        recovery.keep_copy(self.home)
        self._template = folder / "template"
        shutil.copytree(self.home.folder, self._template)

    @property
    def base(self) -> str:
        return str(self.home.versions(VARIANT))

    def restore(self) -> None:
        shutil.rmtree(self.home.folder)
        shutil.copytree(self._template, self.home.folder)

    def sources(self) -> list[int]:
        """Which models the versions are copies of, oldest first: 0, 1 or 2."""
        found = [versions.source(self.base, version) for version in versions.published(self.base)]
        return [self.models.index(uri) for uri in found]

    def check(self) -> None:
        """Versions, manifests, ML Metadata and journal agree, and nothing is left over."""
        for version in versions.published(self.base):
            assert manifests.damage_of_version(f"{self.base}/{version}", thorough=True) == ""
        left = {name for name in os.listdir(self.base) if not name.isdecimal()} - {versions.WITHDRAWN}
        assert left == set()
        assert not self.home.intent.exists()
        with metadata.opened(self.home) as store:
            assert store.active_executions() == []
            blessings = store.blessings()
            decided = [b for b in blessings if b.blessed]
            for each in store.live_artifacts():
                assert manifests.damage(each.uri, thorough=True) == ""
        if len(self.sources()) > 2:
            assert decided[-1].model_uri == self.models[self.sources()[-1]]
        assert len(decided) == len(self.sources()) - 2
        done = [r for r in journal.read(self.home) if r.status is journal.Status.SUCCEEDED]
        assert len(done) == len(decided)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def faults() -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patches:
        yield Faults(patches)


def rollback(home: Home) -> production.Change:
    return production.rollback(home, VARIANT, None, "a test", lambda line: None)


def promote(home: Home) -> production.Change:
    return production.promote(home, VARIANT, None, "a test", lambda line: None)


def next_run(home: Home) -> None:
    """What a run does before its first component."""
    with exclusive(home):
        journal.mark_crashed(home)
        production.settle(home, lambda line: None)
        recovery.put_in_order(home, lambda line: None)


@pytest.mark.parametrize("kind", ["kill", "full disk"])
@pytest.mark.parametrize(("act", "serves"), [(rollback, 0), (promote, 2)])
def test_a_change_that_fails_at_any_operation_is_finished_or_undone_and_never_done_twice(
    world: World, faults: Faults, kind: str, act: Callable[[Home], production.Change], serves: int
) -> None:
    world.restore()
    faults.arm(10**9, kind)
    act(world.home)
    steps = faults.count
    faults.disarm()
    assert world.sources() == [0, 1, serves]
    world.check()
    assert steps > 20
    for step in range(steps):
        for follow in ("the same command", "a run"):
            world.restore()
            faults.arm(step, kind)
            try:
                act(world.home)
            except (Killed, OSError, production.ProductionError, RuntimeError):
                pass
            finally:
                faults.disarm()
            if follow == "the same command":
                act_or_find_it_done(act, world)
                assert world.sources() == [0, 1, serves], f"{kind} at operation {step} of {steps}"
            else:
                next_run(world.home)
                assert world.sources() in ([0, 1], [0, 1, serves]), f"{kind} at operation {step} of {steps}"
            next_run(world.home)
            world.check()


def act_or_find_it_done(act: Callable[[Home], production.Change], world: World) -> None:
    """Give the same command again, which may find that all was done but for the last words."""
    before, refused = world.sources(), ""
    try:
        act(world.home)
    except production.ProductionError as error:
        refused = str(error)
    if refused:
        assert before[-1] != 1, refused  # it was done
        assert "is in production" in refused or "nothing to roll back to" in refused
