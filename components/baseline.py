"""Which model a candidate has to beat: the latest blessed one of the same variant."""

from collections.abc import Sequence

import ml_metadata as mlmd
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy


class LatestBlessedRival(ResolverStrategy):  # type: ignore[misc]
    """The newest blessed model other than the candidate, from models of one trainer.

    TFX's LatestBlessedModelStrategy would take the candidate itself on a second identical run, whose
    Evaluator then has another input than on the first and is never cached.
    Inputs: `candidate`, `model`, `blessing`; the resolved `model` is empty where there is no rival.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Called by TFX; see the class."""
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        rivals = [model for model in input_dict["model"] if model.id not in candidates]
        return {**input_dict, "model": latest_blessed(rivals, input_dict["blessing"])}


def latest_blessed(
    models: Sequence[types.Artifact], blessings: Sequence[types.Artifact]
) -> list[types.Artifact]:
    """The newest model that some blessing names, as a list of one; else an empty list."""
    blessed = {
        blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        for blessing in blessings
        if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
    }
    newest_first = sorted(models, key=lambda model: model.id, reverse=True)
    return [model for model in newest_first if model.id in blessed][:1]
