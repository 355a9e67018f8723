"""ComparisonGate, which stops a run before training whose models could not be compared with what serves."""

import json
import os
from collections.abc import Iterable, Mapping

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import standard_artifacts

from components import driver, identity
from components.identity import Identity, NotComparable
from components.serving import versions

UNLIKE = "unlike"
"""Execution property of ComparisonGate: what cannot be compared, in words; empty if everything can."""
CURES = (
    "use another --home; or, if it is the same data under another name, name it with --dataset; or replace "
    "what serves without a comparison, with --new-era"
)


class Driver(driver.Driver):
    """Compares in every run, since production may have changed since an earlier one."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Return what cannot be compared as an execution property; called by TFX."""
        properties = execution_info.exec_properties
        [examples] = execution_info.input_dict[identity.EXAMPLES]
        found = ""
        if not properties["new_era"]:
            protocols = json.loads(properties["protocols"])
            with self._mlmd_connection as handle:
                serves = in_production(handle.store, properties["serving"], protocols)
            found = unlike({name: identity.of_examples(examples, protocols[name]) for name in serves}, serves)
        result = driver_output_pb2.DriverOutput()
        result.exec_properties[UNLIKE].string_value = found
        return result


@component
def ComparisonGate(
    examples: InputArtifact[standard_artifacts.Examples],
    serving: Parameter[str],
    protocols: Parameter[str],
    new_era: Parameter[int],
    unlike: Parameter[str] = "",
) -> None:
    """Fail with NotComparable if a model in production was trained on something else than this run trains on.

    serving: folder of the versions of all names. protocols: JSON, name -> protocol of the run's candidate.
    new_era: 1 if what serves may be replaced without a comparison. The driver sets `unlike`.
    """
    if unlike:
        raise NotComparable(
            f"what this run would train cannot be compared with what serves ({unlike}), so nothing was "
            f"trained; {CURES}"
        )


ComparisonGate.DRIVER_CLASS = Driver


def unlike(candidates: Mapping[str, Identity], production: Mapping[str, Identity]) -> str:
    """Return how candidates differ from the models in production of their names; empty if they do not."""
    found = {name: production[name].differences(candidate) for name, candidate in candidates.items()}
    return "; ".join(f"{name}: {words}" for name, words in found.items() if words)


def in_production(store: mlmd.MetadataStore, serving: str, names: Iterable[str]) -> dict[str, Identity]:
    """Return what the newest version of each of the names was trained on, by name.

    A version whose model the store does not know is left to the resolver of the baseline, which fails then.
    """
    serves = {}
    for name in names:
        folder = os.path.join(serving, name)
        if numbers := versions.published(folder):
            serves[name] = versions.artifact_name(versions.source(folder, numbers[-1]))
    models = {
        versions.artifact_name(raw.uri): raw.id
        for raw in (store.get_artifacts_by_type(standard_artifacts.Model.TYPE_NAME) if serves else ())
        if raw.state != mlmd_pb2.Artifact.DELETED
    }
    return {
        name: identity.of_model(store, models[model]) for name, model in serves.items() if model in models
    }
