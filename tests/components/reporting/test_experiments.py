"""How the report compares experiments: against independent figures, and as a page."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from components.evaluation.scores import Scores
from components.reporting import experiments, page, report_page
from components.reporting.panels import Subject
from schemas.records import Metric, Row, Status, Training

TRAINING = Training(
    family="generative", dataset="mnist", protocol="threshold", profile="quick", seed=0, steps=3000,
    batch_size=32, parameters=69_989, examples=60_000, importance_samples=5, train_seconds=41.0,
    step_seconds=40.0, images_per_second=2_400.0,
)  # fmt: skip
IMAGES = np.array([f"{number:016x}" for number in range(300)], np.str_)


def trained(experiment: str, seed: int, several: bool = True, **changes: Any) -> Row:
    """A row of an experiment; its metric is not looked at, its scores are."""
    training = dataclasses.replace(TRAINING, seed=seed, train_seconds=20.0 + seed, **changes)
    metrics = {"elbo": Metric(-100.0, -101.0, -99.0, "nats per image")}
    name = f"{experiment}.s{seed}" if several else experiment
    return Row("vae_dense", Status.BLESSED, training, metrics, name=name, experiment=experiment)


def scored(rows: list[Row], means: dict[str, float], over_seeds: float = 0.1) -> dict[str, Scores]:
    random = np.random.default_rng(0)
    shared = random.normal(-100, 5, len(IMAGES))
    return {
        each.name: Scores(
            IMAGES,
            np.zeros(len(IMAGES), np.int64),
            {
                "elbo": (
                    shared
                    + means[each.experiment]
                    + random.normal(0, over_seeds)
                    + random.normal(0, 0.3, len(IMAGES))
                ).astype(np.float32)
            },
        )
        for each in rows
    }


@pytest.fixture
def rows() -> list[Row]:
    several = [trained(name, seed) for name in ("wide", "deep", "plain") for seed in range(3)]
    return [*several, trained("alone", 0, several=False)]


@pytest.fixture
def scores(rows: list[Row]) -> dict[str, Scores]:
    return scored(rows, {"wide": 2.0, "deep": 2.0, "plain": 0.0, "alone": 5.0})


def test_plain_variants_are_ranked_and_not_compared(rows: list[Row]) -> None:
    assert experiments.worth_comparing(rows)
    plain = [Row(name, Status.PUSHED, TRAINING) for name in ("cvae", "iwae")]
    assert not experiments.worth_comparing(plain)


def test_differences_are_those_of_the_files_of_scores(rows: list[Row], scores: dict[str, Scores]) -> None:
    [group] = experiments.groups(rows, scores)
    values = {each.name: scores[each.name].values["elbo"].astype(float) for each in rows}
    for pair in group.pairs:
        if not pair.judged:
            continue
        one, other = (
            np.stack([values[f"{name}.s{seed}"] for seed in range(3)]) for name in (pair.first, pair.second)
        )
        assert pair.difference == pytest.approx(one.mean() - other.mean())
        by_image, by_seed = (one - other).mean(axis=0), (one - other).mean(axis=1)
        assert pair.error == pytest.approx(math.hypot(stats.sem(by_image), stats.sem(by_seed)))
    wide = next(each for each in group.summaries if each.name == "wide")
    means = [values[f"wide.s{seed}"].mean() for seed in range(3)]
    assert wide.by_seed == pytest.approx(means)
    assert wide.deviation == pytest.approx(np.std(means, ddof=1))


def test_every_pair_has_a_plain_sentence(rows: list[Row], scores: dict[str, Scores]) -> None:
    [group] = experiments.groups(rows, scores)
    said = [experiments.sentence(pair, group) for pair in group.pairs]
    assert any(text.startswith("wide is better than plain by ") for text in said)
    assert any("cannot be told apart with 3 seeds: they differ by" in text for text in said)
    alone = [
        text for text in said if text.startswith("alone has one seed: on these test images alone is ahead")
    ]
    assert len(alone) == 3
    assert all(text.endswith("so no claim about the configuration follows.") for text in alone)
    assert len(said) == 6


def test_what_cannot_be_compared_is_left_out_with_the_reason(
    rows: list[Row], scores: dict[str, Scores]
) -> None:
    del scores["plain.s1"]
    scores["deep.s0"] = scores["deep.s0"]._replace(images=IMAGES[::-1])
    scores["alone"] = scores["alone"]._replace(values={"elbo": np.full(len(IMAGES), np.nan, np.float32)})
    [group] = experiments.groups(rows, scores)
    assert group.left_out == {
        "plain": "its scores per image were not kept",
        "deep": "it was evaluated on other test images",
        "alone": "its elbo is not a number on some test image",
    }
    assert [each.name for each in group.summaries] == ["wide"]


def test_likelihoods_of_two_protocols_are_not_compared() -> None:
    rows = [trained("grey", seed, protocol="grey") for seed in (0, 1)]
    rows += [trained("dynamic", seed, protocol="dynamic") for seed in (0, 1)]
    found = experiments.groups(rows, scored(rows, {"grey": 0.0, "dynamic": 1.0}))
    assert [(group.protocol, len(group.pairs)) for group in found] == [("grey", 0), ("dynamic", 0)]


def test_the_file_of_comparisons_is_json_and_the_text_has_every_experiment(
    rows: list[Row], scores: dict[str, Scores]
) -> None:
    found = experiments.groups(rows, scores)
    [group] = json.loads(json.dumps(experiments.to_json(found), allow_nan=False))
    assert group["experiments"][0]["name"] == "alone"
    assert group["experiments"][0]["deviation"] is None
    assert {"first", "second", "difference", "lower", "upper", "adjusted", "says"} <= set(group["pairs"][0])
    text = experiments.text(found)
    assert "sd 0." in text
    assert "one seed" in text
    assert all(name in text for name in ("wide", "deep", "plain", "alone"))


def test_the_page_shows_matrix_dots_costs_and_curves(
    rows: list[Row], scores: dict[str, Scores], subject: Callable[..., Subject], about: page.About
) -> None:
    found = experiments.groups(rows, scores)
    subjects = [subject(each, pictures=False) for each in rows]
    shown = page.view(subjects, [], about, found)
    [panel] = shown["comparisons"]
    assert [len(each["seeds"]) for each in panel["rows"]] == [1, 3, 3, 3]
    assert len(panel["curves"]["lines"]) == 10
    assert len(panel["cost"]["seeds"]) == 10
    by_names = {
        (line["name"], column): cell
        for line in panel["matrix"]["rows"]
        for column, cell in zip(panel["matrix"]["names"], line["cells"], strict=True)
    }
    assert by_names["wide", "plain"]["kind"] == "better"
    assert by_names["plain", "wide"]["kind"] == "worse"
    assert by_names["alone", "plain"]["kind"] == "alone"
    assert by_names["wide", "wide"] is None
    html = report_page.render(shown)
    assert 'id="experiments"' in html
    assert "wide is better than plain by" in html
    assert "seeds 0, 1, 2" in html
