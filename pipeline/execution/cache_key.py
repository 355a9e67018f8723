"""The key under which a result is kept in the cache: TFX's own, without the home's place and Beam's engine.

TFX hashes the paths of inputs and settings, so that nothing in a moved home would come from the cache, and
Beam's arguments, so that another engine would make everything again.
"""

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfx import types
from tfx.orchestration.portable import cache_utils
from tfx.proto.orchestration import executable_spec_pb2

from pipeline.config.engines import LOCAL_BEAM
from pipeline.home.metadata import PLACES


@contextlib.contextmanager
def independent_of(folder: str) -> Iterator[None]:
    """Have TFX's launcher compute its cache keys, while the body runs, as if the home lay nowhere.

    They are the keys of the engine `direct`, whatever Beam runs on. TFX offers no hook for it
    (tests/pipeline/test_upstream.py).

    folder: the home; empty to leave the places in the keys, as on a cluster.
    """
    original = cache_utils.get_cache_context

    def key(
        *, executor_spec: Any = None, input_artifacts: Any = None, parameters: Any = None, **rest: Any
    ) -> Any:
        if folder:
            input_artifacts = without_place(folder, input_artifacts or {})
            parameters = {name: _relative(folder, value) for name, value in (parameters or {}).items()}
        return original(
            executor_spec=without_engine(executor_spec),
            input_artifacts=input_artifacts,
            parameters=parameters,
            **rest,
        )

    cache_utils.get_cache_context = key
    try:
        yield
    finally:
        cache_utils.get_cache_context = original


def without_engine(spec: Any) -> Any:
    """Return the specification of an executor, for one of Beam with the arguments of the engine `direct`."""
    if not isinstance(spec, executable_spec_pb2.BeamExecutableSpec):
        return spec
    found = copy.deepcopy(spec)
    del found.beam_pipeline_args[:], found.beam_pipeline_args_placeholders[:]
    found.beam_pipeline_args.extend(LOCAL_BEAM)
    for argument in LOCAL_BEAM:
        found.beam_pipeline_args_placeholders.add().value.string_value = argument
    return found


def without_place(
    folder: str, artifacts: Mapping[str, Sequence[types.Artifact]]
) -> dict[str, list[types.Artifact]]:
    """Return copies of artifacts, by input key, whose paths are relative to the home `folder`.

    When an artifact was last updated is left out, since recording its new place is an update.
    """
    found = {key: [copy.deepcopy(artifact) for artifact in given] for key, given in artifacts.items()}
    for given in found.values():
        for artifact in given:
            raw = artifact.mlmd_artifact
            raw.uri = _relative(folder, raw.uri)
            raw.ClearField("last_update_time_since_epoch")
            for name in PLACES:
                if name in raw.custom_properties:
                    raw.custom_properties[name].string_value = _relative(
                        folder, raw.custom_properties[name].string_value
                    )
    return found


def _relative(folder: str, value: Any) -> Any:
    """Return a text without the home's path wherever it begins a path; any other value as it is."""
    if not isinstance(value, str):
        return value
    return re.sub(rf"(?<![\w./-]){re.escape(folder)}(?=/)", "", value)
