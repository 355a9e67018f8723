"""The baseline of a candidate: the model that serves, whatever became of its artifact."""

import logging
import os
from collections.abc import Iterable, Sequence

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import artifact_utils, standard_artifacts

from components import identity
from components.identity import NotComparable
from components.serving import manifests, pushed, versions

log = logging.getLogger(__name__)


class BaselineLost(RuntimeError):
    """There is a model in production, and nothing that the candidate could be compared with."""


class ServingBaseline(ResolverStrategy):
    """Resolves the model that serves, whichever pipeline made it; without one only if there never was any.

    TFX gives a strategy the models of its own pipeline. Pipelines of different names may push to one folder,
    so a model that is not among those is looked up in the store.

    A candidate that serves itself meets the baseline of its own verdict again, so that a second identical run
    is cached. If a person has changed production since, the candidate meets what serves now, whatever it was
    compared with before. Inputs: `candidate`, `model`, `replaced`, `blessing`; the resolved `model` is empty
    if nothing was ever pushed, or if what serves cannot be compared with the candidate and somebody has
    decided that it is replaced: then `replaced` holds it, which is empty otherwise.
    """

    def __init__(self, serving: str = "", new_era: int = 0) -> None:
        """Set the folder of the variant's versions, and whether what serves may be replaced uncompared."""
        self._serving, self._new_era = serving, bool(new_era)

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolve the inputs; TFX calls this. Raises BaselineLost and NotComparable."""
        try:
            return self._resolved(store, input_dict)
        except (BaselineLost, NotComparable) as error:
            log.error("%s", error)  # TFX swallows what a strategy raises; the runner reports what is logged
            raise

    def _resolved(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        [candidate] = input_dict["candidate"]
        others = [model for model in input_dict["model"] if model.id != candidate.id]
        serves = self._serves(store)
        decided = self._new_era
        if not serves:
            chosen: list[types.Artifact] = []
        elif versions.same_artifact(serves, candidate.uri):
            chosen, decided = judged_against(store, candidate, others, input_dict["blessing"]), True
        else:
            chosen = [self._model(store, serves, others)]
        unlike = [words for model in chosen if (words := self._unlike(store, candidate, model))]
        if unlike and not decided:
            raise NotComparable(
                f"{unlike[0]}; nothing is pushed until somebody decides, with --new-era or another home"
            )
        if unlike:
            log.warning("%s; it is replaced without a comparison", unlike[0])
            return {**input_dict, "model": [], "replaced": chosen}
        return {**input_dict, "model": chosen, "replaced": []}

    def _unlike(self, store: mlmd.MetadataStore, candidate: types.Artifact, model: types.Artifact) -> str:
        """Return why a candidate cannot be compared with a model; empty if it can."""
        found = identity.of_model(store, model.id).differences(identity.of_model(store, candidate.id))
        name = os.path.basename(self._serving)
        return f"{name}: the candidate cannot be compared with what serves ({found})" if found else ""

    def _serves(self, store: mlmd.MetadataStore) -> str:
        """Return the artifact that the newest version is a copy of; empty if nothing was ever pushed."""
        numbers = versions.published(self._serving)
        if numbers:
            return versions.source(self._serving, numbers[-1])
        if was_pushed(store, self._serving):
            raise BaselineLost(
                f"a model was pushed to {self._serving} before, and no version is left there; nothing is "
                f"pushed until somebody decides: {self._promote()}"
            )
        return ""

    def _model(
        self, store: mlmd.MetadataStore, serves: str, models: Sequence[types.Artifact]
    ) -> types.Artifact:
        """Return the model that serves, one of `models` or of another pipeline, if its files are whole."""
        found = [model for model in models if versions.same_artifact(model.uri, serves)] or [
            model for model in models_of_all(store) if versions.same_artifact(model.uri, serves)
        ]
        if not found:
            raise BaselineLost(
                f"the version that serves in {self._serving} is a copy of {serves}, which is lost and could "
                f"not be restored; nothing is pushed until somebody decides: {self._promote()}"
            )
        newest = max(found, key=lambda model: model.id)
        wrong = "" if "://" in newest.uri else manifests.damage(newest.uri, thorough=True)
        if wrong and wrong != manifests.NONE:
            raise BaselineLost(
                f"{newest.uri}, of which a copy serves, is damaged ({wrong}); nothing is pushed until it is "
                f"restored or somebody decides: {self._promote()}"
            )
        return newest

    def _promote(self) -> str:
        return f"`latentline promote {os.path.basename(self._serving)}`"


class ProductionBefore(ResolverStrategy):
    """Resolves the model that was in production before this run's data came, from models of one trainer.

    For warm starts: not a model trained on the same examples, and as the blessings were before the first
    verdict on any such model, so that a second identical run starts from the same weights and is cached.
    Inputs: `examples` that this run trains on, `model`, `blessing`; the resolved `model` may be empty.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolve the inputs; TFX calls this."""
        examples = {artifact.id for artifact in input_dict["examples"]}
        same = trained_on(store, [model.id for model in input_dict["model"]], examples)
        others = [model for model in input_dict["model"] if model.id not in same]
        known = before_verdict(same, input_dict["blessing"])
        return {**input_dict, "model": latest_blessed(others, known)}


def models_of_all(store: mlmd.MetadataStore) -> list[types.Artifact]:
    """Return the models that the pipelines of a store have trained, in the order in which they did."""
    found = [
        raw
        for raw in store.get_artifacts_by_type(standard_artifacts.Model.TYPE_NAME)
        if raw.state != mlmd_pb2.Artifact.DELETED
    ]
    if not found:
        return []
    kind = store.get_artifact_type(standard_artifacts.Model.TYPE_NAME)
    return [artifact_utils.deserialize_artifact(kind, raw) for raw in sorted(found, key=lambda raw: raw.id)]


def was_pushed(store: mlmd.MetadataStore, folder: str) -> bool:
    """Return whether a model was ever pushed to a variant's folder, also if all records of files are deleted.

    A push to a folder of the same variant elsewhere counts if that folder is gone: the home was moved.
    """
    for raw in store.get_artifacts_by_type(standard_artifacts.PushedModel.TYPE_NAME):
        push = standard_artifacts.PushedModel()
        push.set_mlmd_artifact(raw)
        place = os.path.dirname(pushed.destination(push))
        moved = os.path.basename(place) == os.path.basename(folder) and not os.path.isdir(place)
        if place == folder or moved:
            return True
    return False


def judged_against(
    store: mlmd.MetadataStore,
    candidate: types.Artifact,
    models: Sequence[types.Artifact],
    blessings: Iterable[types.Artifact],
) -> list[types.Artifact]:
    """Return the model that the newest verdict on the candidate names, as a list of one; else an empty list.

    It is one of `models` or of another pipeline. A person's decision is a verdict that names none, and so is
    the gate's on the first model ever.
    """
    for blessing in sorted(blessings, key=lambda blessing: blessing.id, reverse=True):
        named = blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY)
        if judged(blessing) == candidate.id and named:
            mine = [model for model in models if model.id == named]
            if found := mine or [model for model in models_of_all(store) if model.id == named]:
                return found
    return []


def trained_on(store: mlmd.MetadataStore, models: Sequence[int], examples: set[int]) -> set[int]:
    """Return those of `models` whose training took one of `examples`, all given by their ids."""
    made = [
        event for event in store.get_events_by_artifact_ids(models) if event.type == mlmd_pb2.Event.OUTPUT
    ]
    events = store.get_events_by_execution_ids({event.execution_id for event in made})
    trainings = {
        event.execution_id
        for event in events
        if event.type == mlmd_pb2.Event.INPUT and event.artifact_id in examples
    }
    return {event.artifact_id for event in made if event.execution_id in trainings}


def latest_blessed(
    models: Sequence[types.Artifact], blessings: Iterable[types.Artifact]
) -> list[types.Artifact]:
    """Return the one of the models that the newest blessing names, as a list of one; else an empty list."""
    by_id = {model.id: model for model in models}
    for blessing in sorted(blessings, key=lambda blessing: blessing.id, reverse=True):
        if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1:
            named = judged(blessing)
            if named in by_id:
                return [by_id[named]]
    return []


def before_verdict(models: set[int], blessings: Sequence[types.Artifact]) -> list[types.Artifact]:
    """Return the blessings from before the first verdict, good or bad, on one of `models`, given by id."""
    first = min((blessing.id for blessing in blessings if judged(blessing) in models), default=None)
    return [blessing for blessing in blessings if first is None or blessing.id < first]


def judged(blessing: types.Artifact) -> int:
    """Return the id of the model that a verdict is about."""
    return int(blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY))
