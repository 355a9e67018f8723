"""The line that a run begins with says which images it is about."""

import pathlib
import shutil

import pytest

from components.ingest import sources
from pipeline.config.settings import Settings
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
