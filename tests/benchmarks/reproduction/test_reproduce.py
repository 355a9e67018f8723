import json
import pathlib
import re
from collections.abc import Sequence

import pytest

from benchmarks.reproduction import reproduce
from benchmarks.reproduction.published import (
    CannotTrain,
    Data,
    Figure,
    Range,
    Training,
    mean_of,
    running_mean,
)
from components.ingest import sources

RECIPE = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 16}
LINEAR = Training("linear", {}, RECIPE, seeds=(0, 1))
BASELINE = Training("linear", {}, RECIPE)
SMALL_MLP = Training("mlp", {"hidden": [4]}, RECIPE)
ACCURACY = mean_of("accuracy")
LOSS = Figure(LINEAR, 30, "loss", running_mean("loss"), Range(0.5, 4.0), (2.0,), "nobody")
LATE = Figure(LINEAR, 45, "late loss", running_mean("loss"), Range(0.5, 4.0), (2.0,), "nobody", since=30)
GAIN = Figure(SMALL_MLP, 20, "gain", ACCURACY, Range(-1.0, 1.0), minus=BASELINE)
IMPOSSIBLE = Figure(SMALL_MLP, 20, "accuracy", ACCURACY, Range(low=1.01), (1.0,), "nobody")


@pytest.fixture(scope="module")
def data(digits_folder: pathlib.Path) -> Data:
    return Data(sources.from_folder(str(digits_folder)))


def run(
    figures: Sequence[Figure], digits_folder: pathlib.Path, place: pathlib.Path, *more: str
) -> tuple[int, str]:
    """Exit code of the command, and the document it left."""
    document = place / "docs" / "REPRODUCTION.md"
    arguments = [
        "--data",
        str(digits_folder),
        "--state",
        str(place / "state.json"),
        "--output",
        str(document),
    ]
    with pytest.raises(SystemExit) as caught:
        reproduce.main([*arguments, *more], figures)
    return int(str(caught.value.code)), document.read_text() if document.exists() else ""


def table_row(document: str, words: str) -> str:
    [line] = [line for line in document.splitlines() if words in line and line.count("|") == 9]
    return line


def test_a_training_that_stops_on_the_way_ends_where_one_that_does_not_ends(data: Data) -> None:
    stopped = reproduce.measure(LINEAR, 0, [LOSS, LATE], data)
    whole = reproduce.measure(LINEAR, 0, [Figure(LINEAR, 45, "whole", running_mean("loss"), Range())], data)
    assert whole["linear: whole"] == pytest.approx(
        (30 * stopped[LOSS.key] + 15 * stopped[LATE.key]) / 45, rel=1e-5
    )
    assert stopped[LATE.key] < stopped[LOSS.key]


def test_every_training_runs_once_a_seed_and_every_figure_is_told(data: Data) -> None:
    said: list[str] = []
    results: dict[str, reproduce.Result] = {}
    figures = [LOSS, LATE, GAIN]
    reproduce.reproduce(figures, data, said.append, lambda figure, r: results.update({figure.key: r}))
    assert [re.findall(r"\] (\w+), seed (\d)", line)[0] for line in said] == [
        ("linear", "0"), ("linear", "1"), ("mlp", "0"), ("linear", "0"),
    ]  # fmt: skip
    assert set(results) == {figure.key for figure in figures}
    mlp, linear = (reproduce.measure(training, 0, [GAIN], data)[GAIN.key] for training in GAIN.trainings)
    assert results[GAIN.key].values == pytest.approx((mlp - linear,))


def test_a_variant_that_is_missing_is_an_error_before_anything_is_trained(data: Data) -> None:
    said: list[str] = []
    absent = Figure(Training("absent"), 1, "x", ACCURACY, Range())
    with pytest.raises(CannotTrain, match="row of absent cannot be trained: unknown variant"):
        reproduce.reproduce([LOSS, absent], data, said.append, lambda figure, result: None)
    assert said == []


def test_the_document_has_every_row_and_how_it_was_measured(
    digits_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code, document = run([LOSS, GAIN], digits_folder, tmp_path)
    assert code == 0
    stored = json.loads((tmp_path / "state.json").read_text())
    mean = sum(stored[LOSS.key]["values"]) / 2
    row = table_row(document, "| loss |")
    assert "threshold, adam 0.001, batch 16, 30 steps" in row
    assert f"| 2.0000 (nobody) | {mean:.4f} ± " in row
    assert f"| {mean - 2:+.4f} | 0.5000 to 4.0000 | reproduced |" in row
    assert "minus linear: threshold, adam" in table_row(document, "| gain |")
    assert "| holds |" in table_row(document, "| gain |")
    assert "python -m benchmarks.reproduction.reproduce" in document
    assert reproduce.machine() in document
    assert re.search(r"\| linear \| loss \| 0 1 \| \d+ s \| \d{4}-\d\d-\d\d \|", document)


def test_a_figure_out_of_its_range_fails_the_command_and_says_so(
    digits_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code, document = run([IMPOSSIBLE], digits_folder, tmp_path)
    assert code == 1
    assert "| NOT reproduced |" in table_row(document, "| accuracy |")


def test_rows_that_were_not_asked_for_stay_as_they_were(
    digits_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    figures = [LOSS, IMPOSSIBLE]
    code, first = run(figures, digits_folder, tmp_path, "--only", "linear")
    assert code == 0
    assert "| not run |" in table_row(first, "| accuracy |")
    code, second = run(figures, digits_folder, tmp_path, "--only", "mlp")
    assert code == 1
    assert table_row(second, "| loss |") == table_row(first, "| loss |")
    assert "| NOT reproduced |" in table_row(second, "| accuracy |")


def test_a_training_that_diverges_is_told_in_one_line(
    digits_folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = Training("mlp", {"hidden": [4]}, {"optimizer": "sgd", "learning_rate": 1e30, "batch_size": 16})
    figure = Figure(wild, 20, "loss", running_mean("loss"), Range())
    assert run([figure], digits_folder, tmp_path) == (1, "")
    assert "became non-finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--only", "linear,colour"], 2, "no published figure of colour; choose from linear, mlp"),
        (["--data", "absent-folder"], 1, "absent-folder"),
    ],
)
def test_wrong_requests_are_told_in_one_line(
    arguments: list[str],
    code: int,
    words: str,
    digits_folder: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([LOSS, GAIN], digits_folder, tmp_path, *arguments) == (code, "")
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_damaged_state_is_told_and_left_alone(
    digits_folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.json").write_text('{"linear: loss": {"values": 3}}')
    assert run([LOSS], digits_folder, tmp_path) == (2, "")
    assert "holds no results of this command" in capsys.readouterr().err
    assert (tmp_path / "state.json").read_text().endswith("3}}")
