import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from components.ingest import idx
from components.reporting import model_card
from pipeline.evaluation import evaluate, frechet, likelihood
from pipeline.evaluation.saved_model import newest_version
from schemas import IMAGE, LABEL, PIXELS, TEST_SPLIT

EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


class Coin(tf.Module):
    """Every pixel is ink with probability one half: log p(x) = -PIXELS log 2, whatever the sample."""

    @tf.function(input_signature=[EXAMPLES, tf.TensorSpec([], tf.int32, name="seed")])
    def log_weight(self, examples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_weight": tf.fill(tf.shape(examples), -PIXELS * tf.math.log(2.0))}


def pushed(folder: pathlib.Path, version: int) -> pathlib.Path:
    coin = Coin()
    place = folder / str(version)
    tf.saved_model.save(coin, str(place), signatures={"log_weight": coin.log_weight})
    (place / model_card.CARD).write_text(json.dumps({"training": {"protocol": "stochastic"}}))
    return place


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
