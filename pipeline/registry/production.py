"""What is in production, changed by people: a promotion past the gate, and the way back.

Model servers serve the highest number, so both push a copy under a new one; versions never change and never
come back. Both are executions in ML Metadata with a blessing of their own, by which the next candidate is
compared with what really is in production.
"""

import getpass
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import types
from tfx.components.evaluator import constants as evaluator
from tfx.components.pusher import executor as pusher
from tfx.dsl.compiler import constants
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts
from tfx.utils import io_utils, path_utils

from components.reporting import model_card
from components.reporting.leaderboard import write_card
from components.serving.pusher import push
from components.serving.versions import SOURCE, by_variant, published, source
from pipeline.home import journal, recovery
from pipeline.home import metadata as graph
from pipeline.home.layout import CARDS, Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Graph

TYPES = {journal.PROMOTE: "latentline.Promote", journal.ROLLBACK: "latentline.Rollback"}
"""Names of the execution types, and of their folders under the pipeline root."""
MODEL, BLESSING, PUSHED = "model", "blessing", "pushed_model"
"""Keys of what these executions take and give."""

Say = Callable[[str], None]


class ProductionError(ValueError):
    """What was asked for cannot be done; the message lists what can."""


class Change(NamedTuple):
    """What was done to a variant: `version`, a copy of the artifact `model`, took over from `before`."""

    variant: str
    version: int
    before: int
    model: str


def promote(home: Home, variant: str, number: int | None, reason: str, say: Say) -> Change:
    """Push the trained model with the artifact id `number`, by default the newest, whatever the gate said.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    check_known(home)
    with exclusive(home):
        recovery.put_in_order(home, say)
        with graph.opened(home) as (handle, found):
            name, models = _trained(found, variant)
            model = _chosen(found, models, variant, number)
            base = str(home.versions(variant))
            versions = published(base)
            if versions and source(base, versions[-1]) == model.uri and _recorded(found, models) == model.id:
                raise ProductionError(f"model {model.id} of {variant} is in production, as {versions[-1]}")
            files = path_utils.serving_model_path(model.uri)
            _check_files(files, f"model {model.id} of {variant}")
            card = _card_of_report(found, model, variant)
            work = _Work(journal.PROMOTE, home, variant, name, model, reason)
            change = work.do(handle, files, card)
        recovery.keep_copy(home)
    return change


def rollback(home: Home, variant: str, to: int | None, reason: str, say: Say) -> Change:
    """Make a copy of the version `to`, by default of the model before the current one, the current version.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    check_known(home)
    with exclusive(home):
        base, versions = _pushed(home, variant)
        recovery.put_in_order(home, say)
        with graph.opened(home) as (handle, found):
            name, models = _trained(found, variant)
            target_version = _earlier(base, versions, variant) if to is None else to
            if target_version not in versions:
                raise ProductionError(f"{variant} has no version {to}; there are {_listed(versions)}")
            uri = source(base, target_version)
            model = next((model for model in models if model.uri == uri), None)
            if model is None:
                raise ProductionError(
                    f"version {target_version} of {variant} is a copy of {uri or 'an unknown model'}, of "
                    "which the metadata of this home knows nothing"
                )
            if source(base, versions[-1]) == uri and _recorded(found, models) == model.id:
                raise ProductionError(
                    f"version {target_version} of {variant} is current already: {versions[-1]} is a copy of "
                    "the same model"
                )
            files = os.path.join(base, str(target_version))
            _check_files(files, f"version {target_version} of {variant}")
            if not os.path.isdir(model.uri):
                say(f"! {model.uri} is gone, so that the next candidate has nothing to be compared with")
            work = _Work(journal.ROLLBACK, home, variant, name, model, reason)
            change = work.do(handle, files, _card_in(files))
        recovery.keep_copy(home)
    return change


class _Work(NamedTuple):
    """A promotion or rollback that was found to be possible."""

    kind: str
    home: Home
    variant: str
    pipeline: str
    model: types.Artifact
    reason: str

    def do(self, handle: Any, files: str, card: dict[str, Any] | None) -> Change:
        """Do it and write it down: in the journal, and in the metadata as an execution."""
        home, user = self.home, _user()
        entry = journal.begin(home, self.kind, user=user, reason=self.reason)
        started = time.perf_counter()
        try:
            change = self._execute(handle, files, card, user)
            entry.variants[self.variant] = journal.Outcome(journal.PUSHED, version=change.version)
        except BaseException as error:
            journal.end(home, entry, time.perf_counter() - started, error)
            raise
        journal.end(home, entry, time.perf_counter() - started, None)
        return change

    def _execute(self, handle: Any, files: str, card: dict[str, Any] | None, user: str) -> Change:
        contexts = self._contexts(handle)
        base = str(self.home.versions(self.variant))
        before = (published(base) or [0])[-1]
        facts = {"variant": self.variant, "user": user, "reason": self.reason, "replaced_version": before}
        execution = execution_publish_utils.register_execution(
            handle,
            mlmd.ExecutionType(name=TYPES[self.kind]),
            contexts,
            input_artifacts={MODEL: [self.model]},
            exec_properties=facts,
        )
        try:
            version = push(files, base, source=self.model.uri, again=True)
            if card is not None:
                _write_card(card, os.path.join(base, str(version)), version)
            given = {
                BLESSING: [self._blessing(execution.id)],
                PUSHED: [self._pushed_model(execution.id, base, version)],
            }
        except BaseException:
            execution_publish_utils.publish_failed_execution(handle, contexts, execution.id)
            raise
        execution_publish_utils.publish_succeeded_execution(handle, execution.id, contexts, given)
        return Change(self.variant, version, before, self.model.uri)

    def _contexts(self, handle: Any) -> list[Any]:
        register = context_lib.register_context_if_not_exists
        pipeline = register(handle, constants.PIPELINE_CONTEXT_TYPE_NAME, self.pipeline)
        run = f"{self.kind}-{time.time_ns()}"
        return [
            pipeline,
            register(handle, constants.PIPELINE_RUN_CONTEXT_TYPE_NAME, run, parent_contexts=[pipeline]),
            register(
                handle, constants.NODE_CONTEXT_TYPE_NAME, f"{self.pipeline}.{TYPES[self.kind]}.{self.variant}"
            ),
        ]

    def _blessing(self, execution: int) -> types.Artifact:
        """As TFX's Evaluator gives it."""
        blessing = standard_artifacts.ModelBlessing()
        blessing.uri = self._folder(BLESSING, execution)
        io_utils.write_string_file(os.path.join(blessing.uri, evaluator.BLESSED_FILE_NAME), "")
        blessing.set_string_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, self.model.uri)
        blessing.set_int_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, self.model.id)
        blessing.set_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY, evaluator.BLESSED_VALUE)
        return blessing

    def _pushed_model(self, execution: int, base: str, version: int) -> types.Artifact:
        """As components.serving.pusher gives it, but for the copy of the model, which the version is."""
        pushed = standard_artifacts.PushedModel()
        pushed.uri = self._folder(PUSHED, execution)
        io_utils.write_string_file(os.path.join(pushed.uri, SOURCE), self.model.uri)
        pushed.set_int_custom_property(pusher._PUSHED_KEY, 1)  # TFX names these nowhere public
        pushed.set_string_custom_property(pusher._PUSHED_DESTINATION_KEY, os.path.join(base, str(version)))
        pushed.set_string_custom_property(pusher._PUSHED_VERSION_KEY, str(version))
        return pushed

    def _folder(self, key: str, execution: int) -> str:
        return str(self.home.output(TYPES[self.kind], key, execution))


def check_known(home: Home) -> None:
    """Raise ProductionError for a home without metadata of runs."""
    if not home.database.exists():
        raise ProductionError(f"{home} has no metadata of runs; give the --home of `latentline run`")


def _pushed(home: Home, variant: str) -> tuple[str, list[int]]:
    """The folder of the variant's versions, and those."""
    there = {name: versions for name, versions in by_variant(str(home.serving)).items() if versions}
    if variant not in there:
        raise ProductionError(f"{variant} is not in production; there is {', '.join(there) or 'nothing'}")
    return str(home.versions(variant)), there[variant]


def _earlier(base: str, versions: list[int], variant: str) -> int:
    """The version before the current one that a rollback goes to.

    A rollback undoes what came after the model it went to, so that the next one goes further back and not
    forth again: the versions are read as a stack of models.
    """
    stack: list[tuple[str, int]] = []
    for version in versions:
        model = source(base, version) or str(version)
        known = [index for index, (other, _) in enumerate(stack) if other == model]
        stack = [*(stack[: known[0]] if known else stack), (model, version)]
    if len(stack) < 2:
        raise ProductionError(
            f"{variant} has nothing to roll back to: its versions are {_listed(versions)}, and no other "
            "model came before the current one; --to takes any version, and promote any trained model"
        )
    return stack[-2][1]


def _trained(found: Graph, variant: str) -> tuple[str, list[types.Artifact]]:
    """The pipeline that trains the variant, and the models it trained, oldest first."""
    models = {
        name: trained
        for name in found.pipelines()
        if (trained := found.of_node(name, f"Trainer.{variant}", standard_artifacts.Model.TYPE_NAME))
    }
    if not models:
        raise ProductionError(f"no model of {variant} was ever trained in this home; see `latentline list`")
    # More than one pipeline in a home is one that was renamed; the models of the newest are meant.
    name = max(models, key=lambda pipeline: models[pipeline][-1].id)
    return name, models[name]


def _chosen(found: Graph, models: list[types.Artifact], variant: str, number: int | None) -> types.Artifact:
    wanted = models[-1].id if number is None else number
    there = {model.id: model for model in models if model.mlmd_artifact.state != mlmd.Artifact.DELETED}
    if wanted in there:
        return there[wanted]
    listed = ", ".join(f"{i} ({graph.when(found.maker(model))})" for i, model in there.items()) or "none"
    if any(model.id == wanted for model in models):
        raise ProductionError(f"the files of model {wanted} of {variant} are gone; there are {listed}")
    raise ProductionError(f"{variant} has no model {wanted}; there are {listed}")


def blessings(found: Graph) -> list[types.Artifact]:
    """The blessings that say yes, oldest first; each names its model."""
    return [
        blessing
        for blessing in found.of_type(standard_artifacts.ModelBlessing.TYPE_NAME)
        if blessing.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_BLESSED_KEY)
        == evaluator.BLESSED_VALUE
    ]


def _recorded(found: Graph, models: list[types.Artifact]) -> int:
    """The model that the newest blessing of the variant names; 0 for none."""
    mine = {model.id for model in models}
    named = [
        blessing.get_int_custom_property(evaluator.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        for blessing in blessings(found)
    ]
    return next((number for number in reversed(named) if number in mine), 0)


def _check_files(folder: str, what: str) -> None:
    if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        raise ProductionError(f"the files of {what} are gone: there is no SavedModel in {folder}")


def _card_in(folder: str) -> dict[str, Any] | None:
    path = pathlib.Path(folder, model_card.CARD)
    return json.loads(path.read_text()) if path.exists() else None


def _card_of_report(found: Graph, model: types.Artifact, variant: str) -> dict[str, Any] | None:
    """The card of a model that was not pushed: from the newest report on it."""
    for execution in reversed(found.users(model)):
        for report in found.outputs(execution).get("report", []):
            if card := _card_in(os.path.join(report.uri, CARDS, variant)):
                return card
    return None


def _write_card(card: dict[str, Any], folder: str, version: int) -> None:
    write_card({**card, "model": {**card["model"], "version": version}}, folder)


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions)) or "none"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}"
