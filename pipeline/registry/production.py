"""What is in production, changed by people: a promotion past the gate, and the way back.

Model servers serve the highest number, so both push a copy under a new one; versions never change and never
come back. Both are executions in ML Metadata with a blessing of their own, by which the next candidate is
compared with what really is in production.
"""

import contextlib
import dataclasses
import getpass
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tfx.components.evaluator import constants as evaluator
from tfx.dsl.io import fileio
from tfx.utils import io_utils, path_utils

from components.reporting import model_card
from components.reporting.leaderboard import write_card
from components.serving import manifests
from components.serving.publication import NotPublishable, publish
from components.serving.versions import (
    SOURCE,
    WITHDRAWN,
    artifact_name,
    by_variant,
    published,
    same_artifact,
    source,
    withdraw,
)
from pipeline.home import journal, metadata, recovery
from pipeline.home.files import write_json
from pipeline.home.journal import Command
from pipeline.home.layout import CARDS, Home
from pipeline.home.lock import exclusive, production
from pipeline.home.metadata import Artifact, Push, Store, when
from pipeline.registry import alarms

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
    request = f"{Command.PROMOTE} {variant} {number}"
    with _deciding(home, variant, say, request) as (found, finished):
        if finished:
            return finished
        models = _trained(found, variant)
        model = _chosen(found, models, variant, number)
        base = str(home.versions(variant))
        versions = published(base)
        if _serves(base, versions, model.uri) and _recorded(found, models) == model.id:
            raise ProductionError(f"model {model.id} of {variant} is in production, as {versions[-1]}")
        files = path_utils.serving_model_path(model.uri)
        _check_files(files, f"model {model.id} of {variant}")
        card = _card_of_report(found, model, variant)
        before = versions[-1] if versions else 0
        name = found.node(found.maker(model).id).pipeline
        intent = Intent(
            Command.PROMOTE, variant, name, request, model.id, before, current_user(), reason, stamp=""
        )
        return _change(home, found, intent, model, files, card)


def rollback(home: Home, variant: str, to: int | None, reason: str, say: Say) -> Change:
    """Make a copy of the version `to`, by default of the model before the current one, the current version.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    request = f"{Command.ROLLBACK} {variant} {to}"
    with _deciding(home, variant, say, request) as (found, finished):
        if finished:
            return finished
        base, versions = _pushed(home, variant)
        models = _trained(found, variant)
        target_version = _earlier(base, versions, variant) if to is None else to
        if target_version not in versions:
            raise ProductionError(f"{variant} has no version {to}; there are {_listed(versions)}")
        uri = source(base, target_version)
        model = next((model for model in reversed(models) if same_artifact(model.uri, uri)), None)
        if model is None:
            raise ProductionError(
                f"version {target_version} of {variant} is a copy of {uri or 'an unknown model'}, of "
                "which this home has no metadata"
            )
        if _serves(base, versions, uri) and _recorded(found, models) == model.id:
            raise ProductionError(
                f"version {target_version} of {variant} is current already: {versions[-1]} is a copy of "
                "the same model"
            )
        standing = alarms.newest(found).get(variant)
        if standing and standing.record.alarm and not reason.strip():
            say(f"! the alarm of {variant} stands: end it with `latentline resume {variant}` or `accept`")
        files = os.path.join(base, str(target_version))
        _check_files(files, f"version {target_version} of {variant}")
        name = found.node(found.maker(model).id).pipeline
        intent = Intent(
            Command.ROLLBACK, variant, name, request, model.id, versions[-1], current_user(), reason, stamp=""
        )
        return _change(home, found, intent, model, files, _card_in(files))


@contextlib.contextmanager
def _deciding(home: Home, variant: str, say: Say, request: str) -> Iterator[tuple[Store, Change | None]]:
    """Hold a home that is put in order, with its store open; and the change, if that finished `request`.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    check_known(home)
    with exclusive(home):
        settled = put_in_order(home, say)
        with production(home, variant), metadata.opened(home) as store:
            yield store, settled[1] if settled and settled[0].request == request else None


@dataclasses.dataclass(frozen=True)
class Intent:
    """A promotion or rollback, written down before anything is changed and removed when all of it is done.

    Attributes:
      kind, variant, pipeline: what is done, to which variant of which pipeline.
      request: what was asked for, by which the same command is known again.
      model: id of the model artifact that is to serve.
      before: the version that served; 0 for none.
      user, reason: who decided, and why.
      stamp: of the record in the journal.
    """

    kind: Command
    variant: str
    pipeline: str
    request: str
    model: int
    before: int
    user: str
    reason: str
    stamp: str

    @property
    def ends_alarm(self) -> bool:
        """Return whether this ends an alarm of the variant: a rollback does, with a reason."""
        return self.kind is Command.ROLLBACK and bool(self.reason.strip())

    @classmethod
    def read(cls, home: Home) -> "Intent | None":
        """Return the intent of a home; None if nothing is under way. Raises ProductionError."""
        try:
            values = json.loads(home.intent.read_text())
            return cls(**{**values, "kind": Command(values["kind"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ProductionError(
                f"{home.intent} is damaged ({error}); look at `latentline lineage` and remove the file"
            ) from error

    def commit(self, home: Home) -> None:
        """Remove the intent: all of it is done, or none. Raises OSError."""
        home.intent.unlink(missing_ok=True)
        manifests.sync(str(home.folder))


def put_in_order(home: Home, say: Say) -> tuple[Intent, Change] | None:
    """Make a home ready for whatever changes it: as `settle`, and as pipeline.home.recovery.put_in_order.

    Raises ProductionError and MetadataDamaged.
    """
    settled = settle(home, say)
    recovery.put_in_order(home, say)
    if not home.shared and home.database.exists():
        with metadata.opened(home) as store:
            adopt_rollbacks(home, store)
    return settled


def adopt_rollbacks(home: Home, store: Store) -> None:
    """Note the models that somebody rolled back from with version 0.1: the gate never pushes them again.

    Version 0.1 kept this in ML Metadata only. What was rolled back from is known as long as its push is.
    """
    for variant, numbers in by_variant(str(home.serving)).items():
        base = str(home.versions(variant))
        if not numbers or os.path.exists(os.path.join(base, WITHDRAWN)):
            continue
        for pipeline in store.pipelines():
            for execution in store.executions_of_node(pipeline, f"{TYPES[Command.ROLLBACK]}.{variant}"):
                left = _model_of(home, store, pipeline, variant, execution.properties.get("replaced_version"))
                went_to = {model.uri for model in store.inputs(execution.id).get("model", [])}
                if execution.state.succeeded and left and left not in went_to:
                    withdraw(base, left)


def _model_of(home: Home, store: Store, pipeline: str, variant: str, version: Any) -> str:
    """Return the artifact of which a version was a copy; empty if that is not known any more."""
    known = source(str(home.versions(variant)), int(version)) if version else ""
    nodes = (f"Pusher.{variant}", *(f"{kind}.{variant}" for kind in TYPES.values()))
    for node in () if known or not version else nodes:
        for execution in store.executions_of_node(pipeline, node):
            pushes = store.outputs(execution.id).get("pushed_model", [])
            if any(isinstance(push, Push) and push.version == version for push in pushes):
                return next((model.uri for model in store.inputs(execution.id).get("model", [])), "")
    return known


def settle(home: Home, say: Say) -> tuple[Intent, Change] | None:
    """Finish or undo the promotion or rollback that was interrupted, and say so. The caller holds the home.

    Returns what was finished; None if nothing was under way, or it had changed nothing and was undone.
    Raises ProductionError and MetadataDamaged.
    """
    intent = Intent.read(home)
    if intent is None:
        return None
    recovery.check_database(home)
    what = f"the {intent.kind} of {intent.variant} that was interrupted"
    with production(home, intent.variant), metadata.opened(home) as store:
        recovery.settle_in(store, home, say)
        model = store.artifact(intent.model)
        known = store.executions_of_node(intent.pipeline, f"{TYPES[intent.kind]}.{intent.variant}")
        for execution in known:
            if execution.state.active:
                recovery.end_execution(store, home, execution)
        writer = journal.Writer.resume(home, intent.stamp)
        version = _added(home, intent, model)
        if not version:
            if writer:
                writer.end(0.0, ProductionError("it was interrupted before it changed anything"))
            intent.commit(home)
            say(f"! {what} had changed nothing, and is undone")
            return None
        done = any(e.state.succeeded and e.properties.get("stamp") == intent.stamp for e in known)
        _record(home, store, intent, model, version, writer, known=done)
    say(f"! {what} is finished: version {version} is current")
    return intent, Change(intent.variant, version, intent.before, model.uri)


def _added(home: Home, intent: Intent, model: Artifact) -> int:
    """Return the version that an intent has added; 0 if it has added none."""
    base = str(home.versions(intent.variant))
    newer = [version for version in published(base) if version > intent.before]
    return max((version for version in newer if same_artifact(source(base, version), model.uri)), default=0)


def _change(
    home: Home, store: Store, intent: Intent, model: Artifact, files: str, card: dict[str, Any] | None
) -> Change:
    """Carry out an intent. Raises ProductionError and OSError."""
    writer = journal.Writer.begin(home, intent.kind, user=intent.user, reason=intent.reason)
    intent = dataclasses.replace(intent, stamp=writer.record.stamp)
    started = time.perf_counter()
    base = str(home.versions(intent.variant))
    write_json(home.intent, dataclasses.asdict(intent))
    manifests.sync(str(home.folder))

    def lay(folder: str, version: int) -> None:
        if card is not None:
            _write_card(card, folder, version)

    try:
        version = publish(files, base, source=model.uri, again=True, beside=lay)
    except BaseException as error:
        # If even this cannot be written, the next command finds the intent.
        with contextlib.suppress(OSError):
            writer.end(time.perf_counter() - started, error)
            if not _added(home, intent, model):
                intent.commit(home)
        if isinstance(error, NotPublishable):
            raise ProductionError(str(error)) from error
        raise
    _record(home, store, intent, model, version, writer, seconds=time.perf_counter() - started)
    return Change(intent.variant, version, intent.before, model.uri)


def _record(
    home: Home,
    store: Store,
    intent: Intent,
    model: Artifact,
    version: int,
    writer: journal.Writer | None,
    *,
    known: bool = False,
    seconds: float = 0.0,
) -> None:
    """Write down that an intent is done: beside the versions, in ML Metadata, in the journal. Raises OSError.

    known: whether ML Metadata knows already.
    """
    base = str(home.versions(intent.variant))
    left = source(base, intent.before) if intent.kind is Command.ROLLBACK else ""
    if left and not same_artifact(left, model.uri):
        withdraw(base, left)
    if not known:
        facts: dict[str, str | int] = {
            "variant": intent.variant, "user": intent.user, "reason": intent.reason,
            "replaced_version": intent.before, "stamp": intent.stamp,
        }  # fmt: skip
        kind = TYPES[intent.kind]
        decision = store.begin_decision(kind, intent.pipeline, intent.variant, model, facts)
        blessing = home.output(kind, BLESSING, decision.execution)
        pushed = home.output(kind, PUSHED, decision.execution)
        io_utils.write_string_file(str(blessing / evaluator.BLESSED_FILE_NAME), "")
        io_utils.write_string_file(str(pushed / SOURCE), model.uri)
        for folder in (blessing, pushed):
            manifests.write(str(folder))
        destination = os.path.join(base, str(version))
        others = {}
        newest = alarms.newest(store).get(intent.variant) if intent.ends_alarm else None
        if newest and newest.record.alarm:
            place = str(home.output(kind, alarms.EVALUATION, decision.execution))
            others[alarms.EVALUATION] = [alarms.write(alarms.after(newest.record, intent.kind), place)]
        store.finish_decision(decision, model, str(blessing), str(pushed), destination, version, others)
    if writer:
        pushed_now = journal.Outcome(journal.Result.PUSHED, version)
        writer.note(variants={intent.variant: pushed_now}, ends_alarm=intent.ends_alarm)
        writer.end(seconds, None)
    recovery.keep_copy(home)
    intent.commit(home)


def check_known(home: Home) -> None:
    """Raise ProductionError for a home without metadata of runs."""
    if not home.shared and not home.database.exists():
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

    A rollback undoes what came after the model it went to, so that the next one goes back one more
    model and not forward again: the versions are read as a stack of models.
    """
    stack: list[tuple[str, int]] = []
    for version in versions:
        model = artifact_name(source(base, version)) or str(version)
        known = [index for index, (other, _) in enumerate(stack) if other == model]
        stack = [*(stack[: known[0]] if known else stack), (model, version)]
    if len(stack) < 2:
        raise ProductionError(
            f"{variant} has nothing to roll back to: its versions are {_listed(versions)}, and no other "
            "model came before the current one; --to takes any version, and promote any trained model"
        )
    return stack[-2][1]


def _trained(found: Store, variant: str) -> list[Artifact]:
    """The models of the variant that were trained, by whichever pipeline, oldest first."""
    models = [
        model
        for name in found.pipelines()
        for model in found.of_node(name, f"Trainer.{variant}", metadata.MODEL)
    ]
    if not models:
        raise ProductionError(f"no model of {variant} was ever trained in this home; see `latentline list`")
    return sorted(models, key=lambda model: model.id)


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
    if not fileio.exists(os.path.join(folder, "saved_model.pb")):
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


def current_user() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}"
