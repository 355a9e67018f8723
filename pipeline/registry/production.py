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

from tfx.components.evaluator import constants as evaluator
from tfx.utils import io_utils, path_utils

from components.reporting import model_card
from components.reporting.leaderboard import write_card
from components.serving import manifests
from components.serving.publication import NotPublishable, publish
from components.serving.versions import SOURCE, by_variant, published, same_artifact, source, withdraw
from pipeline.home import journal, metadata, recovery
from pipeline.home.journal import Command
from pipeline.home.layout import CARDS, Home
from pipeline.home.lock import exclusive
from pipeline.home.metadata import Artifact, Store, when

TYPES = {Command.PROMOTE: "latentline.Promote", Command.ROLLBACK: "latentline.Rollback"}
"""Names of the execution types, and of their folders under the pipeline root."""
BLESSING, PUSHED = "blessing", "pushed_model"
"""Keys of what these executions give."""

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
        with metadata.opened(home) as found:
            name, models = _trained(found, variant)
            model = _chosen(found, models, variant, number)
            base = str(home.versions(variant))
            versions = published(base)
            if _serves(base, versions, model.uri) and _recorded(found, models) == model.id:
                raise ProductionError(f"model {model.id} of {variant} is in production, as {versions[-1]}")
            files = path_utils.serving_model_path(model.uri)
            _check_files(files, f"model {model.id} of {variant}")
            card = _card_of_report(found, model, variant)
            work = _Work(Command.PROMOTE, home, variant, name, model, reason)
            change = work.do(found, files, card)
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
        with metadata.opened(home) as found:
            name, models = _trained(found, variant)
            target_version = _earlier(base, versions, variant) if to is None else to
            if target_version not in versions:
                raise ProductionError(f"{variant} has no version {to}; there are {_listed(versions)}")
            uri = source(base, target_version)
            model = next((model for model in reversed(models) if same_artifact(model.uri, uri)), None)
            if model is None:
                raise ProductionError(
                    f"version {target_version} of {variant} is a copy of {uri or 'an unknown model'}, of "
                    "which the metadata of this home knows nothing"
                )
            if _serves(base, versions, uri) and _recorded(found, models) == model.id:
                raise ProductionError(
                    f"version {target_version} of {variant} is current already: {versions[-1]} is a copy of "
                    "the same model"
                )
            files = os.path.join(base, str(target_version))
            _check_files(files, f"version {target_version} of {variant}")
            work = _Work(Command.ROLLBACK, home, variant, name, model, reason)
            change = work.do(found, files, _card_in(files))
        recovery.keep_copy(home)
    return change


class _Work(NamedTuple):
    """A promotion or rollback that was found to be possible."""

    kind: Command
    home: Home
    variant: str
    pipeline: str
    model: Artifact
    reason: str

    def do(self, store: Store, files: str, card: dict[str, Any] | None) -> Change:
        """Do it and write it down: in the journal, and in the metadata as an execution."""
        user = _user()
        writer = journal.Writer.begin(self.home, self.kind, user=user, reason=self.reason)
        started = time.perf_counter()
        try:
            change = self._execute(store, files, card, user)
            writer.note(variants={self.variant: journal.Outcome(journal.Result.PUSHED, change.version)})
        except BaseException as error:
            writer.end(time.perf_counter() - started, error)
            raise
        writer.end(time.perf_counter() - started, None)
        return change

    def _execute(self, store: Store, files: str, card: dict[str, Any] | None, user: str) -> Change:
        base = str(self.home.versions(self.variant))
        before = (published(base) or [0])[-1]
        facts: dict[str, str | int] = {
            "variant": self.variant,
            "user": user,
            "reason": self.reason,
            "replaced_version": before,
        }
        decision = store.begin_decision(TYPES[self.kind], self.pipeline, self.variant, self.model, facts)
        try:
            if self.kind is Command.ROLLBACK:
                withdraw(base, source(base, before))
            version = publish(files, base, source=self.model.uri, again=True)
            if card is not None:
                _write_card(card, os.path.join(base, str(version)), version)
            blessing = self.home.output(TYPES[self.kind], BLESSING, decision.execution)
            io_utils.write_string_file(str(blessing / evaluator.BLESSED_FILE_NAME), "")
            pushed = self.home.output(TYPES[self.kind], PUSHED, decision.execution)
            io_utils.write_string_file(str(pushed / SOURCE), self.model.uri)
            for folder in (blessing, pushed):
                manifests.write(str(folder))
        except NotPublishable as error:
            store.fail_decision(decision)
            raise ProductionError(str(error)) from error
        except BaseException:
            store.fail_decision(decision)
            raise
        destination = os.path.join(base, str(version))
        store.finish_decision(decision, self.model, str(blessing), str(pushed), destination, version)
        return Change(self.variant, version, before, self.model.uri)


def check_known(home: Home) -> None:
    """Raise ProductionError for a home without metadata of runs."""
    if not home.database.exists():
        raise ProductionError(f"{home} has no metadata of runs; give the --home of `latentline run`")


def _serves(base: str, versions: list[int], uri: str) -> bool:
    """Return whether the newest version is a whole copy of the artifact `uri`."""
    if not versions or not same_artifact(source(base, versions[-1]), uri):
        return False
    return not manifests.damage_of_version(os.path.join(base, str(versions[-1])), thorough=True)


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


def _trained(found: Store, variant: str) -> tuple[str, list[Artifact]]:
    """The pipeline that trains the variant, and the models it trained, oldest first."""
    models = {
        name: trained
        for name in found.pipelines()
        if (trained := found.of_node(name, f"Trainer.{variant}", metadata.MODEL))
    }
    if not models:
        raise ProductionError(f"no model of {variant} was ever trained in this home; see `latentline list`")
    # More than one pipeline in a home is one that was renamed; the models of the newest are meant.
    name = max(models, key=lambda pipeline: models[pipeline][-1].id)
    return name, models[name]


def _chosen(found: Store, models: list[Artifact], variant: str, number: int | None) -> Artifact:
    wanted = models[-1].id if number is None else number
    there = {model.id: model for model in models if model.live}
    if wanted in there:
        return there[wanted]
    listed = ", ".join(f"{i} ({when(found.maker(model))})" for i, model in there.items()) or "none"
    if any(model.id == wanted for model in models):
        raise ProductionError(f"the files of model {wanted} of {variant} are gone; there are {listed}")
    raise ProductionError(f"{variant} has no model {wanted}; there are {listed}")


def _recorded(found: Store, models: list[Artifact]) -> int:
    """The model that the newest blessing of the variant names; 0 for none."""
    mine = {model.id for model in models}
    named = [blessing.model for blessing in found.blessings() if blessing.blessed and blessing.live]
    return next((number for number in reversed(named) if number in mine), 0)


def _check_files(folder: str, what: str) -> None:
    if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        raise ProductionError(f"the files of {what} are gone: there is no SavedModel in {folder}")


def _card_in(folder: str) -> dict[str, Any] | None:
    path = pathlib.Path(folder, model_card.CARD)
    return json.loads(path.read_text()) if path.exists() else None


def _card_of_report(found: Store, model: Artifact, variant: str) -> dict[str, Any] | None:
    """The card of a model that was not pushed: from the newest report on it."""
    for execution in reversed(found.users(model)):
        for report in found.outputs(execution.id).get("report", []):
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
