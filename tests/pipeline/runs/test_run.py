"""The line that a run begins with says which images it is about."""

import json
import pathlib
import shutil

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts

from components.identity import UNKNOWN
from components.ingest import sources
from components.serving.versions import SOURCE
from pipeline.config.settings import Settings
from pipeline.home import metadata
from pipeline.home.layout import Home
from pipeline.registry import data
from pipeline.runs import run


def test_a_run_begins_with_its_data_set_the_numbers_of_images_and_their_place(
    digits_folder: pathlib.Path,
) -> None:
    found = run.described(sources.Dataset("mine", str(digits_folder)), Settings())
    assert found == f"mine, 400 training and 120 test images from {digits_folder}"


def test_the_embedded_digits_are_always_marked_as_a_demonstration(digits_folder: pathlib.Path) -> None:
    found = run.described(sources.Dataset("digits", str(digits_folder)), Settings())
    assert found.startswith(
        "scikit-learn digits, 1,797 images upscaled to 28x28: a demonstration, 400 training"
    )


def test_of_spans_all_train_splits_count_and_the_newest_test_split(
    tmp_path: pathlib.Path, digits_folder: pathlib.Path
) -> None:
    for number in (1, 2, 3):
        shutil.copytree(digits_folder, tmp_path / f"span-{number}")
    found = run.described(sources.Dataset("nights", str(tmp_path)), Settings(spans=2, data=str(tmp_path)))
    assert found == f"nights, 800 training and 120 test images from {tmp_path} (span-3, span-2)"


@pytest.mark.parametrize("spans", [0, 1])
def test_data_that_cannot_be_read_has_no_numbers_and_fails_in_its_component(
    tmp_path: pathlib.Path, spans: int
) -> None:
    found = run.described(sources.Dataset("empty", str(tmp_path)), Settings(spans=spans, data=str(tmp_path)))
    assert found == f"empty from {tmp_path}"


def serve(home: Home, variant: str, dataset: str) -> None:
    """Put a model of that data into production, without its files; an empty name: without a record of it."""
    uri = str(home.output(f"Trainer.{variant}", "model", 1))
    with tfx_metadata.Metadata(metadata.connection(home)) as handle:
        names = {"pipeline": "latentline", "node": f"latentline.Trainer.{variant}"}
        contexts = [context_lib.register_context_if_not_exists(handle, kind, n) for kind, n in names.items()]
        asked = json.dumps({"job": {"variant": variant, "dataset": dataset}})
        execution = execution_publish_utils.register_execution(
            handle, mlmd.ExecutionType(name="Trainer"), contexts, exec_properties={"custom_config": asked}
        )
        model = standard_artifacts.Model()
        model.uri = uri
        given = {"model": [model]} if dataset else {}
        execution_publish_utils.publish_succeeded_execution(handle, execution.id, contexts, given)
    version = home.versions(variant) / "17"
    version.mkdir(parents=True)
    (version / SOURCE).write_text(uri)


@pytest.mark.parametrize(
    ("serves", "why"),
    [
        ({}, ""),
        ({"mlp": "digits", "cvae": "digits"}, ""),
        ({"mlp": "mnist"}, "(mlp of mnist); give a folder of that data"),
        ({"mlp": "digits", "cvae": "scans"}, "(cvae of scans); give a folder of that data"),
        ({"mlp": ""}, "(mlp of unknown data); give a folder of that data"),
    ],
)
def test_the_digits_take_the_place_of_mnist_only_where_no_other_data_serves(
    tmp_path: pathlib.Path, serves: dict[str, str], why: str
) -> None:
    home = Home(tmp_path)
    for variant, dataset in serves.items():
        serve(home, variant, dataset)
    assert why in run.no_digits(home)
    assert bool(run.no_digits(home)) is bool(why)


@pytest.mark.usefixtures("one_attempt")
def test_what_serves_beside_damaged_records_is_of_unknown_data(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path)
    serve(home, "mlp", "digits")
    home.database.write_text("no database at all, but long enough to be looked at" * 9)
    assert data.of_production(home) == {"mlp": UNKNOWN}
