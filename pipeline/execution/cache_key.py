"""The key under which a result is kept in the cache: TFX's own, without the place of the home.

TFX hashes the paths of inputs and settings, so that nothing in a moved home would come from the cache.
"""

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfx import types
from tfx.orchestration.portable import cache_utils

from pipeline.home.metadata import PLACES


@contextlib.contextmanager
def independent_of(folder: str) -> Iterator[None]:
    """Have TFX's launcher compute its cache keys, while the body runs, as if the home lay nowhere.

    TFX offers no hook for it (tests/pipeline/test_upstream.py).

    folder: the home; empty to leave TFX's keys as they are.
    """
    original = cache_utils.get_cache_context

    def key(*, input_artifacts: Any = None, parameters: Any = None, **rest: Any) -> Any:
        return original(
            input_artifacts=without_place(folder, input_artifacts or {}),
            parameters={name: _relative(folder, value) for name, value in (parameters or {}).items()},
            **rest,
        )

    if not folder:
        yield
        return
    cache_utils.get_cache_context = key
    try:
        yield
    finally:
        cache_utils.get_cache_context = original


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
