"""latentline compare, on reports as runs write them: a leaderboard and a file of scores per model."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from components.evaluation import scores
from components.evaluation.scores import Scores
from pipeline import cli
from pipeline.home.layout import Home
from pipeline.registry.compare import CompareError, compare
from schemas.records import Metric, Row, Status, Training

IMAGES = np.array([f"{number:016x}" for number in range(200)], np.str_)
SHARED = np.random.default_rng(0).normal(-100, 5, len(IMAGES))
TRAINING = Training(
    family="generative", dataset="mnist", protocol="threshold", profile="quick", seed=0, steps=3000,
    batch_size=32, parameters=69_989, examples=60_000, importance_samples=5, train_seconds=41.0,
    step_seconds=40.0, images_per_second=2_400.0,
)  # fmt: skip


def reported(
    folder: pathlib.Path, experiments: dict[str, float], images: Any = IMAGES, protocol: str = "threshold"
) -> str:
    """A home whose report has three seeds of each experiment, with these mean scores; its path."""
    home = Home.of(folder)
    home.report_scores.mkdir(parents=True)
    random = np.random.default_rng(len(str(folder)))
    rows = []
    for name, mean in experiments.items():
        for seed in range(3):
            training = dataclasses.replace(TRAINING, seed=seed, protocol=protocol)
            metrics = {"elbo": Metric(-100.0 + mean, -101.0 + mean, -99.0 + mean, "nats per image")}
            rows.append(
                Row("cvae", Status.BLESSED, training, metrics, name=f"{name}.s{seed}", experiment=name)
            )
            values = SHARED + mean + random.normal(0, 0.1) + random.normal(0, 0.3, len(IMAGES))
            found = Scores(images, np.zeros(len(IMAGES), np.int64), {"elbo": values.astype(np.float32)})
            scores.write(found, str(home.report_scores))
            (home.report_scores / scores.FILE).rename(home.report_scores / f"{rows[-1].name}.parquet")
    (home.report / "leaderboard.json").write_text(json.dumps([row.to_json() for row in rows]))
    return str(folder)


@pytest.fixture
def home(tmp_path: pathlib.Path) -> str:
    return reported(tmp_path / "a", {"wide": 2.0, "plain": 0.0})


@pytest.fixture
def other(tmp_path: pathlib.Path) -> str:
    return reported(tmp_path / "b", {"wide": 5.0, "deep": 0.0})


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", *arguments])
    assert caught.value.code == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_two_experiments_of_a_home_are_compared_over_their_seeds(
    home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(capsys, "wide", "plain", "--home", home)
    assert "wide is better than plain by" in shown
    assert "over 3 seeds" in shown
    [group] = json.loads(printed(capsys, "wide", "plain", "--home", home, "--json"))
    assert group["pairs"][0]["difference"] == pytest.approx(2.0, abs=0.4)


def test_two_models_say_that_they_have_one_seed_each(home: str) -> None:
    [group] = compare("wide.s0", "plain.s2", home)
    assert not group.pairs[0].judged


def test_what_two_homes_share_is_compared_under_the_names_of_both(home: str, other: str) -> None:
    [group] = compare(home, other, "out")
    assert [(pair.first, pair.second) for pair in group.pairs] == [(f"{other}:wide", f"{home}:wide")]
    [group] = compare(f"{home}:plain", f"{other}:deep", "out")
    assert len(group.pairs) == 1
    assert group.pairs[0].judged


def test_likelihoods_of_other_protocols_and_images_are_not_compared(
    home: str, tmp_path: pathlib.Path
) -> None:
    grey = reported(tmp_path / "grey", {"wide": 0.0}, protocol="grey")
    with pytest.raises(CompareError, match="likelihoods of the protocols grey and threshold are different"):
        compare(home, grey, "out")
    others = reported(tmp_path / "others", {"wide": 0.0}, images=IMAGES[::-1])
    with pytest.raises(CompareError, match=f"{others}:wide: it was evaluated on other test images"):
        compare(home, others, "out")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("wide", "wide", "wide is on both sides"),
        ("wide", "plian", "the report has no experiment or model 'plian'; did you mean plain"),
        ("{home}", "plain", "is a home and the other side is one model; write HOME:NAME"),
        ("nowhere:wide", "plain", "cannot read .*nowhere/report/leaderboard.json"),
        ("{empty}", "plain", "no metadata of runs in .* or above"),
    ],
)
def test_a_wrong_request_says_what_to_give(
    first: str, second: str, message: str, home: str, tmp_path: pathlib.Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CompareError, match=message):
        compare(first.format(home=home, empty=empty), second, home)


def test_homes_that_share_nothing_are_refused_in_one_line(
    home: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = reported(tmp_path / "deep", {"deep": 0.0})
    assert "no experiment is in both reports" in printed(capsys, home, deep, code=2)


def test_scores_that_are_damaged_are_named(home: str) -> None:
    (Home.of(home).report_scores / "wide.s1.parquet").write_bytes(b"PAR1")
    with pytest.raises(CompareError, match=r"cannot read the scores in .*wide.s1.parquet"):
        compare("wide", "plain", home)
