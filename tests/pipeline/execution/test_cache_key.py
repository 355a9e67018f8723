"""The key of a cached result depends neither on where the home lies nor on Beam's engine."""

import copy
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.orchestration import metadata
from tfx.orchestration.portable import cache_utils
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import standard_artifacts

from pipeline.config.engines import LOCAL_BEAM, built_in
from pipeline.execution import cache_key
from pipeline.home.metadata import PLACES


def blessing(home: str) -> standard_artifacts.ModelBlessing:
    made = standard_artifacts.ModelBlessing()
    made.uri = f"{home}/artifacts/Evaluator.mlp/blessing/8"
    for name in PLACES:
        made.set_string_custom_property(name, f"{home}/artifacts/Trainer.mlp/model/7")
    made.set_int_custom_property("blessed", 1)
    made.mlmd_artifact.last_update_time_since_epoch = len(home)
    return made


@pytest.fixture
def key(tmp_path: pathlib.Path) -> Callable[..., str]:
    """Computes the key of a Pusher in a home."""
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))

    def compute(
        home: str, given: Any = None, keep: str = "10", independent: bool = True, engine: Any = LOCAL_BEAM
    ) -> str:
        spec = executor_spec.BeamExecutorSpec(base_beam_executor.BaseBeamExecutor)
        spec.add_beam_pipeline_args(engine)
        with (
            metadata.Metadata(connection) as handle,
            cache_key.independent_of(home if independent else ""),
        ):
            found = cache_utils.get_cache_context(
                metadata_handle=handle,
                pipeline_node=pipeline_pb2.PipelineNode(),
                pipeline_info=pipeline_pb2.PipelineInfo(id="latentline"),
                executor_spec=spec.encode(),
                input_artifacts={"blessing": [given or blessing(home)]},
                parameters={"push": f'{{"base_directory": "{home}/serving/mlp"}}', "keep": keep, "n": 3},
            )
            return str(found.name)

    return compute


def test_the_key_is_the_same_in_every_home(key: Callable[..., str]) -> None:
    assert key("/srv/a") == key("/mnt/restored/home b") == key("/a")


def test_tfx_still_puts_the_place_into_its_key(key: Callable[..., str]) -> None:
    """The day this fails, pipeline.execution.cache_key is no longer needed."""
    assert key("/srv/a", independent=False) != key("/mnt/restored", independent=False)


def test_anything_else_makes_another_key(key: Callable[..., str]) -> None:
    other, refused = blessing("/srv/a"), blessing("/srv/a")
    other.uri = "/srv/a/artifacts/Evaluator.mlp/blessing/9"
    refused.set_int_custom_property("blessed", 0)
    deleted = blessing("/srv/a")
    deleted.mlmd_artifact.state = mlmd.Artifact.DELETED
    keys = [key("/srv/a", given) for given in (None, other, refused, deleted)]
    assert len({*keys, key("/srv/a", keep="9")}) == 5


def test_a_path_that_only_holds_the_home_s_is_another_path(key: Callable[..., str]) -> None:
    keys = {key("/a", keep=path) for path in ("/a/b", "/x/a/b", "/ab", "/a", "s3://bucket/a/b", "../a/b")}
    assert len(keys) == 6


def test_the_artifacts_and_tfx_itself_stay_as_they_were(key: Callable[..., str]) -> None:
    given, original = blessing("/srv/a"), cache_utils.get_cache_context
    before = copy.deepcopy(given.mlmd_artifact)
    key("/srv/a", given)
    assert given.mlmd_artifact == before
    assert cache_utils.get_cache_context is original


@pytest.mark.parametrize("independent", [True, False])
def test_the_key_is_the_same_on_every_engine(key: Callable[..., str], independent: bool) -> None:
    remote = ("--runner=PortableRunner", "--job_endpoint=flink:8099")
    keys = {
        key("/srv/a", independent=independent, engine=each)
        for each in (LOCAL_BEAM, built_in("direct-4"), remote)
    }
    assert len(keys) == 1
