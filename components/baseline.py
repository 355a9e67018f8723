"""Which model is in production: the one that the newest blessing of its variant names."""

from collections.abc import Iterable, Sequence

import ml_metadata as mlmd
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy


class LatestBlessedRival(ResolverStrategy):  # type: ignore[misc]
    """The model in production, other than the candidate, from models of one trainer.

    It is the one that the newest blessing names, not the newest model: a blessing is also how an older model
    is put back. A candidate that already has a verdict meets the rival of that verdict again, so that a
    second identical run is cached whatever came between: the candidate's own blessing, or a user's decision.
    Inputs: `candidate`, `model`, `blessing`; the resolved `model` is empty where there is no rival.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Called by TFX; see the class."""
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        rivals = [model for model in input_dict["model"] if model.id not in candidates]
        known = before_verdict(candidates, input_dict["blessing"])
        return {**input_dict, "model": latest_blessed(rivals, known)}


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
