"""Remedies for what is wrong upstream: a test here fails on the day a remedy is no longer needed."""

import pathlib
from typing import Any

import pytest
from tfx.components.pusher import executor
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import dependency_utils, path_utils, proto_utils

from pipeline.config.engines import LOCAL_BEAM


def test_tfx_still_packs_itself_for_beam_unless_an_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []

    def pack() -> str:
        packed.append("packed")
        return "tfx.tar.gz"

    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", pack)
    dependency_utils.make_beam_dependency_flags(["--direct_running_mode=in_memory"])
    assert packed == ["packed"]
    assert dependency_utils.make_beam_dependency_flags(list(LOCAL_BEAM)) == list(LOCAL_BEAM)
    assert packed == ["packed"]


def test_tfx_s_strategy_still_resolves_the_candidate_itself() -> None:
    candidate, blessing = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
    candidate.id = 5
    blessing.set_int_custom_property("current_model_id", 5)
    blessing.set_int_custom_property("blessed", 1)
    resolved = LatestBlessedModelStrategy().resolve_artifacts(
        None, {"model": [candidate], "blessing": [blessing]}
    )
    assert resolved["model"] == [candidate]


def test_tfx_s_pusher_still_leaves_half_a_version_where_it_breaks_off(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
    model.uri, pushed.uri = str(tmp_path / "model"), str(tmp_path / "pushed")
    saved = pathlib.Path(path_utils.serving_model_dir(model.uri))
    saved.mkdir(parents=True)
    for name in ("first", "second"):
        (saved / name).touch()
    copies = []
    copy = fileio.copy

    def break_off(source: str, *rest: Any, **more: Any) -> None:
        copies.append(source)
        if len(copies) == 2:
            raise OSError("no space left on device")
        copy(source, *rest, **more)

    monkeypatch.setattr(fileio, "copy", break_off)
    filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(tmp_path / "serving"))
    destination = proto_utils.proto_to_json(pusher_pb2.PushDestination(filesystem=filesystem))
    with pytest.raises(OSError, match="no space left"):
        executor.Executor().Do(
            {"model": [model]}, {"pushed_model": [pushed]}, {"push_destination": destination}
        )
    [version] = (tmp_path / "serving").iterdir()
    assert version.name.isdecimal()  # a server would load it
    assert len(list(version.iterdir())) == 1
