from typing import Any

import numpy as np
import pytest
from scipy import stats
from tensorflow_model_analysis.metrics.metric_types import StandardMetricInputs

from components.evaluation import metrics

Output = dict[str, Any]
"""What a model says of one example, by name."""


def measure(outputs: list[Output], baselines: list[Output] | None = None, parts: int = 3) -> dict[str, float]:
    """What the combiner makes of per-example outputs, merged from several accumulators as Beam would."""
    model = "candidate" if baselines else ""
    combiner = metrics.SumsFn(("elbo", "rate"), ("elbo",), model, "baseline" if baselines else None)
    accumulators = [combiner.create_accumulator() for _ in range(parts)]
    for index, output in enumerate(outputs):
        predictions = {"candidate": output, "baseline": baselines[index]} if baselines else output
        combiner.add_input(accumulators[index % parts], StandardMetricInputs(predictions=predictions))
    values = combiner.extract_output(combiner.merge_accumulators(accumulators))
    return {key.name: value for key, value in values.items()}


@pytest.fixture
def outputs() -> list[Output]:
    generator = np.random.default_rng(0)
    return [
        {
            "elbo": generator.normal(-100, 10),
            "rate": generator.normal(20, 3),
            "latent_mean": generator.normal(0, [1.0, 0.05, 0.2]),
        }
        for _ in range(200)
    ]


def test_means_are_numpy_s(outputs: list[Output]) -> None:
    values = measure(outputs)
    assert values["elbo"] == pytest.approx(np.mean([o["elbo"] for o in outputs]))
    assert values["rate"] == pytest.approx(np.mean([o["rate"] for o in outputs]))


def test_the_interval_of_a_mean_is_students(outputs: list[Output]) -> None:
    found = measure([{**output, "rate_uniform": np.float32(i)} for i, output in enumerate(outputs)])
    values = {"elbo": [o["elbo"] for o in outputs], "rate_uniform": np.arange(200.0)}
    for name, each in values.items():
        expected = stats.ttest_1samp(each, 0.0).confidence_interval(0.95)
        assert (found[f"{name}_lower"], found[f"{name}_upper"]) == pytest.approx(tuple(expected))


def test_the_interval_of_an_accuracy_is_wilsons() -> None:
    found = classify([index % 10 for index in range(100)], [index >= 8 for index in range(100)])
    expected = stats.binomtest(92, 100).proportion_ci(method="wilson")
    assert (found["accuracy_lower"], found["accuracy_upper"]) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("images", [0, 1])
def test_a_slice_of_fewer_than_two_images_has_no_intervals(outputs: list[Output], images: int) -> None:
    assert not {name for name in measure(outputs[:images]) if name.endswith(("_lower", "_upper"))}


def test_the_interval_of_a_perplexity_covers_it_as_often_as_it_says() -> None:
    """Images of two kinds, whose codes depend on each other, so that images and not codes have to vary."""
    generator = np.random.default_rng(2)
    shares = np.array([generator.dirichlet(np.full(16, 0.5)) for _ in range(2)])
    used = shares.mean(axis=0)
    truth = np.exp(-np.sum(used * np.log(used)))
    covered = []
    for _ in range(400):
        codes = generator.multinomial(49, shares[generator.integers(2, size=500)])
        groups = np.array([codes[start :: metrics.GROUPS].sum(axis=0) for start in range(metrics.GROUPS)])
        _, (lower, upper) = metrics.perplexity(groups.astype(float))
        covered.append(lower <= truth <= upper)
    assert stats.binomtest(sum(covered), len(covered), 0.95).pvalue > 1e-3, np.mean(covered)


def test_the_interval_of_a_variance_that_decides_on_a_unit_covers_it_as_often_as_it_says() -> None:
    """A unit at the threshold is surely active, or surely not, in 5 % of the samples."""
    generator = np.random.default_rng(3)
    decided = []
    for _ in range(400):
        values = generator.laplace(1.0, np.sqrt(metrics.ACTIVE_VARIANCE / 2), [2000, 1])
        powers = np.stack([np.sum(values**power, axis=0) for power in range(1, 5)])
        _, (lower, upper) = metrics.active_units(powers, 2000)
        decided.append(lower == upper)
    assert stats.binomtest(sum(decided), len(decided), 0.05).pvalue > 1e-3, np.mean(decided)


def test_units_that_vary_much_or_not_at_all_are_counted_with_certainty(outputs: list[Output]) -> None:
    found = measure(outputs)
    assert found["active_units_lower"] == found["active_units"] == found["active_units_upper"] == 2


def test_active_units_are_those_whose_mean_varies(outputs: list[Output]) -> None:
    variances = np.var([o["latent_mean"] for o in outputs], axis=0)
    assert list(variances > metrics.ACTIVE_VARIANCE) == [True, False, True]
    assert measure(outputs)["active_units"] == 2


def test_perplexity_is_the_number_of_codes_used_equally() -> None:
    assert metrics.perplexity(np.array([[5.0, 5.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]]))[0] == pytest.approx(3)
    assert metrics.perplexity(np.array([[9.0, 0.0]]))[0] == pytest.approx(1)
    counts = np.array([1.0, 2.0, 7.0])
    expected = 2 ** (-np.sum(counts / 10 * np.log2(counts / 10)))
    assert metrics.perplexity(counts[None])[0] == pytest.approx(expected)


def test_a_metric_that_only_some_models_have_is_reported_where_it_is(
    outputs: list[Output],
) -> None:
    assert "rate_uniform" not in measure(outputs)
    with_codes = [{**output, "rate_uniform": np.float32(i)} for i, output in enumerate(outputs)]
    assert measure(with_codes)["rate_uniform"] == pytest.approx(99.5)


def test_codes_are_counted_over_all_images(outputs: list[Output]) -> None:
    codes = [{**output, "codes": np.eye(5)[i % 4]} for i, output in enumerate(outputs)]
    assert measure(codes)["codebook_perplexity"] == pytest.approx(4)


def test_the_gain_of_a_bound_and_its_ends_are_those_of_students_paired_interval(
    outputs: list[Output],
) -> None:
    generator = np.random.default_rng(1)
    baselines = [{"elbo": o["elbo"] + generator.normal(0.5, 1), "rate": 0.0} for o in outputs]
    gains = np.array([o["elbo"] - r["elbo"] for o, r in zip(outputs, baselines, strict=True)])
    expected = stats.ttest_1samp(gains, 0.0).confidence_interval(0.95).high
    found = measure(outputs, baselines)
    assert found["elbo_gain_upper"] == pytest.approx(expected, rel=1e-6)
    assert found["elbo_gain"] == pytest.approx(gains.mean())
    assert found["elbo_gain_lower"] == pytest.approx(2 * gains.mean() - expected, rel=1e-6)


def test_a_model_equal_to_its_rival_does_not_lose(outputs: list[Output]) -> None:
    assert measure(outputs, outputs)["elbo_gain_upper"] == 0


def test_a_gain_of_nan_is_nan_so_that_no_threshold_passes_it() -> None:
    broken = [{"elbo": np.float32("nan"), "rate": 1.0}] * 3
    assert np.isnan(measure(broken, [{"elbo": 1.0, "rate": 1.0}] * 3)["elbo_gain_upper"])
    assert np.isnan(measure(broken)["elbo"])


def test_an_empty_slice_has_values() -> None:
    assert measure([])["elbo"] == 0
    assert measure([])["images"] == 0


def classify(labels: list[int], right: list[bool], rival: list[bool] | None = None) -> dict[str, float]:
    """What the combiner makes of a classifier that is right where `right` says so, and of its baseline."""
    model = "candidate" if rival else ""
    combiner = metrics.SumsFn(("accuracy",), ("accuracy",), model, "baseline" if rival else None)
    sums = combiner.create_accumulator()
    for index, label in enumerate(labels):
        mine: Any = {"accuracy": np.float32(right[index])}
        both = {"candidate": mine, "baseline": {"accuracy": np.float32(rival[index])}} if rival else mine
        combiner.add_input(sums, StandardMetricInputs(predictions=both, labels=np.array([label])))
    return {key.name: value for key, value in combiner.extract_output(sums).items()}


def test_the_evidence_of_a_split_is_counted() -> None:
    found = classify([*range(10), 3, 3], [True] * 12)
    assert (found["images"], found["smallest_class"]) == (12, 1)
    assert classify([0] * 12, [True] * 12)["smallest_class"] == 0


def test_the_skill_of_a_classifier_is_what_its_interval_leaves_above_a_constant_answer() -> None:
    labels = [0] * 950 + [1] * 50
    constant = classify(labels, [True] * 950 + [False] * 50)
    low = stats.binomtest(950, 1_000).proportion_ci(method="wilson").low
    assert constant["accuracy_above_constant"] == pytest.approx(low - 0.95)
    assert classify(labels, [True] * 1_000)["accuracy_above_constant"] > 0


def test_a_classifier_that_is_right_on_every_image_of_one_class_shows_no_skill() -> None:
    assert classify([7] * 500, [True] * 500)["accuracy_above_constant"] < 0


def test_the_interval_of_a_gain_in_accuracy_is_bonetts_and_prices() -> None:
    right = [True] * 8 + [False] * 4 + [True] * 188
    rival = [False] * 8 + [True] * 4 + [True] * 188
    found = classify([index % 10 for index in range(200)], right, rival)
    first, second = 9 / 202, 5 / 202
    mean = first - second
    half = stats.norm.ppf(0.975) * np.sqrt((first + second - mean**2) / 202)
    assert found["accuracy_gain_lower"] == pytest.approx(mean - half)
    assert found["accuracy_gain_upper"] == pytest.approx(mean + half)


def test_classifiers_that_agree_on_every_image_still_have_an_interval() -> None:
    same = [True] * 100
    found = classify([index % 10 for index in range(100)], same, same)
    assert found["accuracy_gain_lower"] < 0 < found["accuracy_gain_upper"]
