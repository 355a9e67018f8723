"""A small home with real models, some of them trained, some blessed, some pushed by the product's Pusher."""

import copy
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

import checker
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.components.evaluator import constants
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel

from components.serving import manifests, publication, versions
from components.serving.pusher import KEEP, AtomicPusher
from pipeline.config.settings import Settings
from pipeline.execution.local import LocalRunner
from pipeline.home import metadata, recovery
from pipeline.home.layout import Home
from pipeline.registry import production, prune
from pipeline.runs.record import recorded

NAME, VARIANT = "latentline", "mlp"
HOUR = 3600
VALUES = (0.5, 1.0, 2.0, 3.0)
"""What the models answer: one that was never pushed, two that were, and a candidate."""


class Answer(tf.Module):
    """A model that answers one value, whatever it is asked."""

    def __init__(self, value: float) -> None:
        self.value = tf.Variable(value)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"answer": tf.fill(tf.shape(examples), self.value)}


def quiet(line: str) -> None:
    """Say nothing."""


class World:
    """The home, what may be done to it, and copies of it to go back to."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.home = Home(folder / "home")
        self.home.folder.mkdir()
        self._settings = Settings(variants=(VARIANT,), home=str(self.home), data="digits")
        self._copies = folder / "copies"
        self._models = folder / "models.json"
        self._pipeline = compiler.Compiler().compile(self._nodes())

    def build(self) -> None:
        """Train, bless and push, and keep the copies "trained" and "blessed"."""
        models = [self.train(VALUES[0])]
        for value in VALUES[1:3]:
            models.append(self.train(value))
            self.bless(models[-1])
            self.run()
        models.append(self.train(VALUES[3]))
        self.keep("trained")
        self.bless(models[-1])
        self.keep("blessed")
        self._models.write_text(json.dumps(models))

    @property
    def base(self) -> str:
        return str(self.home.versions(VARIANT))

    def _nodes(self) -> Pipeline:
        found = Resolver(
            strategy_class=LatestArtifactStrategy,
            model=Channel(type=standard_artifacts.Model, producer_component_id=f"Trainer.{VARIANT}"),
            blessing=Channel(
                type=standard_artifacts.ModelBlessing, producer_component_id=f"Evaluator.{VARIANT}"
            ),
        ).with_id(f"Resolver.{VARIANT}")
        destination = pusher_pb2.PushDestination.Filesystem(base_directory=self.base)
        pusher = AtomicPusher(
            model=found.outputs["model"],
            model_blessing=found.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(filesystem=destination),
            custom_config={KEEP: 0},
        ).with_id(f"Pusher.{VARIANT}")
        return Pipeline(
            pipeline_name=NAME, pipeline_root=str(self.home.artifacts), components=[found, pusher],
            metadata_connection_config=metadata.connection(self.home), enable_cache=True,
        )  # fmt: skip

    def train(self, value: float) -> str:
        """Record a run that trained a model and got as far as a report; the model's folder."""
        model, report = standard_artifacts.Model(), standard_artifacts.HyperParameters()
        run = f"run {value}"
        self._record(run, f"Trainer.{VARIANT}", "model", model)
        module = Answer(value)
        tf.saved_model.save(module, f"{model.uri}/Format-Serving", signatures=module.serve)
        manifests.write(model.uri)
        self._record(run, prune.LAST_NODE, "report", report)
        pathlib.Path(report.uri).mkdir(parents=True)
        pathlib.Path(report.uri, "report.html").write_text(run)
        manifests.write(report.uri)
        return str(model.uri)

    def bless(self, uri: str) -> None:
        """Record that the gate blessed a model in comparison with what serves."""
        with metadata.opened(self.home) as store:
            model = store.at(uri, metadata.MODEL)
        assert model
        blessing = standard_artifacts.ModelBlessing()
        known = versions.published(self.base)
        baseline = versions.source(self.base, known[-1]) if known else ""
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, 1)
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline)
        self._record(f"verdict on {uri}", f"Evaluator.{VARIANT}", "blessing", blessing)
        pathlib.Path(blessing.uri).mkdir(parents=True)
        pathlib.Path(blessing.uri, constants.BLESSED_FILE_NAME).touch()
        manifests.write(blessing.uri)

    def _record(self, run: str, node: str, key: str, given: Artifact) -> None:
        """Record an execution as TFX's launcher does."""
        with tfx_metadata.Metadata(metadata.connection(self.home)) as handle:
            names = {"pipeline": NAME, "pipeline_run": run, "node": f"{NAME}.{node}"}
            contexts = [context_lib.register_context_if_not_exists(handle, k, n) for k, n in names.items()]
            execution = execution_publish_utils.register_execution(
                handle, mlmd.ExecutionType(name=node), contexts
            )
            given.uri = str(self.home.output(node, key, execution.id))
            execution_publish_utils.publish_succeeded_execution(
                handle, execution.id, contexts, {key: [given]}
            )

    def run(self, push: bool = True) -> None:
        """What a run does from its beginning to its end, with the last nodes of one variant or none."""
        with recorded(self._settings, quiet):
            production.put_in_order(self.home, quiet)
            if push:
                LocalRunner(quiet).run_with_ir(copy.deepcopy(self._pipeline))
            recovery.keep_copy(self.home)

    def rollback(self) -> None:
        production.rollback(self.home, VARIANT, None, "a test", quiet)

    def promote(self) -> None:
        production.promote(self.home, VARIANT, None, "a test", quiet)

    def prune(self) -> None:
        prune.prune(self.home, 2, False, quiet)

    def keep(self, name: str) -> None:
        """Keep a copy of the home as it is now."""
        shutil.rmtree(self._copies / name, ignore_errors=True)
        shutil.copytree(self.home.folder, self._copies / name)

    def restore(self, name: str) -> None:
        """Go back to a copy, an hour after it was made."""
        shutil.rmtree(self.home.folder)
        shutil.copytree(self._copies / name, self.home.folder)
        for path in self.home.folder.rglob("*"):
            os.utime(path, (time.time() - HOUR, time.time() - HOUR))

    def sources(self) -> list[float]:
        """The answers of the models that the versions are copies of, oldest first."""
        found = [versions.source(self.base, version) for version in versions.published(self.base)]
        models = json.loads(self._models.read_text())
        return [VALUES[models.index(uri)] for uri in found]

    def disagreements(self) -> Sequence[str]:
        return checker.disagreements(self.home.folder)


def remembering(real: Callable[[str, str], None] = publication.call_once) -> Callable[[str, str], None]:
    """Return call_once that loads the same bytes once only: loading changes no file, and takes long."""
    known: dict[tuple[tuple[str, str], ...], str] = {}

    def call_once(folder: str, name: str) -> None:
        key = tuple(sorted(checker.digests(pathlib.Path(folder)).items()))
        if key not in known:
            try:
                real(folder, name)
                known[key] = ""
            except publication.NotPublishable as error:
                known[key] = str(error)
        if known[key]:
            raise publication.NotPublishable(known[key])

    return call_once
