import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import platformdirs
import pytest
import tensorflow as tf

from components.ingest import formats, idx, sources
from components.reporting import model_card
from pipeline.evaluation import evaluate, frechet, likelihood, resume
from pipeline.evaluation.saved_model import newest_version
from schemas import IMAGE, LABEL, PIXELS, SIDE, TEST_SPLIT

TEST_IMAGES = 120
"""Of the fixture `digits_folder`."""
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


class Coin(tf.Module):
    """Every pixel is ink with probability one half: log p(x) = -PIXELS log 2, whatever the sample."""

    @tf.function(input_signature=[EXAMPLES, tf.TensorSpec([], tf.int32, name="seed")])
    def log_weight(self, examples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_weight": tf.fill(tf.shape(examples), -PIXELS * tf.math.log(2.0))}


def pushed(folder: pathlib.Path, version: int, **card: Any) -> pathlib.Path:
    coin = Coin()
    place = folder / str(version)
    tf.saved_model.save(coin, str(place), signatures={"log_weight": coin.log_weight})
    (place / model_card.CARD).write_text(json.dumps({"training": {"protocol": "stochastic"}, **card}))
    return place


def about(dataset: str, source: pathlib.Path, test_images: int = TEST_IMAGES) -> dict[str, Any]:
    return {"data": {"dataset": dataset, "source": str(source), "splits": {TEST_SPLIT: test_images}}}


def test_a_model_is_evaluated_on_the_data_of_its_card_unless_other_data_is_given(
    tmp_path: pathlib.Path, digits_folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = about(digits_folder.name, digits_folder)
    assert evaluate.chosen_data(None, known, "/m").folder == str(digits_folder)
    assert capsys.readouterr().err == ""
    other = about("mnist", tmp_path)
    assert evaluate.chosen_data(str(digits_folder), other, "/m").folder == str(digits_folder)
    assert capsys.readouterr().err.startswith("! the model was trained on mnist, not on digits")


def test_digits_are_refused_for_a_model_of_mnist_unless_they_are_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sources.Dataset(sources.DIGITS, "/cache/digits")
    monkeypatch.setattr(sources, "locate", lambda *places, **options: found)
    with pytest.raises(
        likelihood.LikelihoodError, match="trained on mnist, not on scikit-learn digits.*auto"
    ):
        evaluate.chosen_data("auto", about("mnist", tmp_path), "/m")
    assert evaluate.chosen_data("digits", about("mnist", tmp_path), "/m") == found


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({}, "no model card that says where its test images lie; give them with --data"),
        ({"data": {"dataset": "mnist", "splits": {}}}, "no model card that says where"),
        ("other count", "holds 120 test images of .*, but the model was tested on 7 of"),
        ("other name", "but the model was tested on 120 of mnist"),
    ],
)
def test_data_that_is_not_the_model_s_own_is_never_taken_for_it(
    known: Any, message: str, digits_folder: pathlib.Path
) -> None:
    if known == "other count":
        known = about(digits_folder.name, digits_folder, 7)
    elif known == "other name":
        known = about("mnist", digits_folder)
    with pytest.raises(likelihood.LikelihoodError, match=message):
        evaluate.chosen_data(None, known, "/m")


def test_a_pushed_model_is_evaluated_on_the_test_split(
    tmp_path: pathlib.Path, digits_folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed(tmp_path, 7)
    found = evaluate.evaluate(str(tmp_path), data=str(digits_folder), samples=3, limit=20, seed=0, rows=16)
    assert found.bits_per_dimension == pytest.approx(1.0)
    assert (found.images, found.samples) == (20, 3)
    out = capsys.readouterr().out
    assert "1.0000 bits per pixel" in out
    assert "20 test images" in out
    assert "protocol stochastic" in out
    assert "median effective sample size 3.0" in out


def test_an_interrupted_estimate_goes_on_where_it_stopped(
    tmp_path: pathlib.Path,
    digits_folder: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pushed(tmp_path, 7)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    real, calls = likelihood.repeating, []

    def interrupted(loaded: Any) -> likelihood.LogWeights:
        weigh = real(loaded)

        def call(examples: Sequence[bytes], seed: int, samples: int) -> likelihood.Values:
            calls.append(seed)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return weigh(examples, seed, samples)

        return call

    monkeypatch.setattr(likelihood, "repeating", interrupted)
    wanted: dict[str, Any] = {"data": str(digits_folder), "samples": 3, "limit": 20, "seed": 0, "rows": 16}
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate(str(tmp_path), **wanted)
    found = evaluate.evaluate(str(tmp_path), **wanted)
    assert "resuming after 10 of 20 images" in capsys.readouterr().err
    assert found.bits_per_dimension == pytest.approx(1.0)
    assert calls == [0, 1, 2, 2, 3]
    assert not list((tmp_path / "cache" / "likelihood").iterdir()), "a complete estimate is not kept"


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"not an archive"])
def test_a_damaged_file_of_estimates_begins_anew(damage: bytes, tmp_path: pathlib.Path) -> None:
    model = str(pushed(tmp_path, 7))
    kept = resume.Kept(tmp_path / "kept", model, [b"a", b"b"], (3, 0, 16))
    some = likelihood.Estimates(np.ones(1), np.ones(1), np.ones(1))
    kept.save(some, force=True)
    assert kept.load() is not None
    assert resume.Kept(tmp_path / "kept", model, [b"a", b"c"], (3, 0, 16)).load() is None
    assert resume.Kept(tmp_path / "kept", model, [b"a", b"b"], (4, 0, 16)).load() is None
    [file] = (tmp_path / "kept").iterdir()
    file.write_bytes(damage)
    assert kept.load() is None


def test_the_newest_version_is_taken_by_number(tmp_path: pathlib.Path) -> None:
    for name in ("9", "10", ".11-half", "notes"):
        (tmp_path / name).mkdir()
    assert newest_version(str(tmp_path)) == str(tmp_path / "10")
    assert newest_version(str(tmp_path / "9")) == str(tmp_path / "9")


def test_a_limit_spreads_over_the_whole_split(
    digits_folder: pathlib.Path, digits: dict[str, idx.Images]
) -> None:
    labels = digits[TEST_SPLIT].labels
    records = evaluate.serialized(str(digits_folder), 3)
    found = [tf.train.Example.FromString(record).features.feature for record in records]
    chosen = [0, round((len(labels) - 1) / 2), len(labels) - 1]
    assert [example[LABEL].int64_list.value[0] for example in found] == labels[chosen].tolist()
    assert {len(example[IMAGE].bytes_list.value[0]) for example in found} == {PIXELS}
    assert len(evaluate.serialized(str(digits_folder), None)) == len(labels)


def test_a_models_own_data_is_read_as_its_card_says(tmp_path: pathlib.Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, [3, SIDE, SIDE], np.uint8)
    np.savez(tmp_path / "bits.npz", x_train=bits, x_test=bits, y_train=np.arange(3), y_test=np.arange(3))
    path = tmp_path / "bits.npz"
    known = {"data": {**about("bits", path, 3)["data"], "reading": {"pixels": "binary"}}}
    reading = evaluate.own_reading(known)
    assert evaluate.chosen_data(None, known, "/m", reading).folder == str(path)
    found = [
        tf.train.Example.FromString(record).features.feature[IMAGE].bytes_list.value[0]
        for record in evaluate.serialized(str(path), None, reading)
    ]
    assert found == [(255 * image).tobytes() for image in bits]
    assert evaluate.own_reading({}) == formats.GREY_VALUES


def test_a_limit_below_one_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(likelihood.LikelihoodError, match="at least 1 image, got 0"):
        evaluate.evaluate(str(tmp_path), data="auto", samples=1, limit=0, seed=0, rows=1)


def test_a_classifier_that_is_none_is_refused_before_the_work(
    tmp_path: pathlib.Path, digits_folder: pathlib.Path
) -> None:
    place = pushed(tmp_path, 7)
    with pytest.raises(frechet.FrechetError, match="no signature classify"):
        evaluate.evaluate(
            str(place), data=str(digits_folder), samples=1, limit=1, seed=0, rows=1, classifier=str(place)
        )


def test_the_command_answers_a_wrong_model_in_one_line(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "pipeline", "evaluate", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    last = done.stderr.strip().split("\n")[-1]
    assert last.startswith(f"latentline: error: {tmp_path} is not a SavedModel")
    assert "Traceback" not in done.stderr
