"""Which model is in production: the one that the newest blessing of its variant names."""

from collections.abc import Iterable, Sequence

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy


class LatestBlessedBaseline(ResolverStrategy):
    """The model in production, other than the candidate, from models of one trainer.

    It is the one that the newest blessing names, not the newest model: a blessing is also how an older model
    is put back. A candidate that already has a verdict meets the baseline of that verdict again, so that a
    second identical run is cached whatever came between: the candidate's own blessing, or a user's decision.
    Inputs: `candidate`, `model`, `blessing`; the resolved `model` is empty where there is no baseline.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Called by TFX; see the class."""
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        baselines = [model for model in input_dict["model"] if model.id not in candidates]
        known = before_verdict(candidates, input_dict["blessing"])
        return {**input_dict, "model": latest_blessed(baselines, known)}


class ProductionBefore(ResolverStrategy):
    """The model that was in production before this run's data came, from models of one trainer.

    For warm starts: not a model trained on the same examples, and as the blessings were before the first
    verdict on any such model, so that a second identical run starts from the same weights and is cached.
    Inputs: `examples` that this run trains on, `model`, `blessing`; the resolved `model` may be empty.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Called by TFX; see the class."""
        examples = {artifact.id for artifact in input_dict["examples"]}
        same = trained_on(store, [model.id for model in input_dict["model"]], examples)
        others = [model for model in input_dict["model"] if model.id not in same]
        known = before_verdict(same, input_dict["blessing"])
        return {**input_dict, "model": latest_blessed(others, known)}


def trained_on(store: mlmd.MetadataStore, models: Sequence[int], examples: set[int]) -> set[int]:
    """Those of `models` whose training took in one of the artifacts `examples`, all given by their ids."""
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
    """The one of the models that the newest blessing names, as a list of one; else an empty list."""
    by_id = {model.id: model for model in models}
    for blessing in sorted(blessings, key=lambda blessing: blessing.id, reverse=True):
        if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1:
            named = judged(blessing)
            if named in by_id:
                return [by_id[named]]
    return []


def before_verdict(models: set[int], blessings: Sequence[types.Artifact]) -> list[types.Artifact]:
    """The blessings from before the first verdict, good or bad, on one of `models`, given by their ids."""
    first = min((blessing.id for blessing in blessings if judged(blessing) in models), default=None)
    return [blessing for blessing in blessings if first is None or blessing.id < first]


def judged(blessing: types.Artifact) -> int:
    """The id of the model that a verdict is about."""
    return int(blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY))
