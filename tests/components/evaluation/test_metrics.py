from typing import Any

import numpy as np
import pytest
from tensorflow_model_analysis.metrics.metric_types import StandardMetricInputs

from components.evaluation import metrics

Output = dict[str, Any]
"""What a model says of one example, by name."""


def measure(outputs: list[Output], baselines: list[Output] | None = None, parts: int = 3) -> dict[str, float]:
    """What the combiner makes of per-example outputs, merged from several accumulators as Beam would."""
    model = "candidate" if baselines else ""
    combiner = metrics.SumsFn(("elbo", "rate"), "elbo", model, "baseline" if baselines else None)
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


def test_active_units_are_those_whose_mean_varies(outputs: list[Output]) -> None:
    variances = np.var([o["latent_mean"] for o in outputs], axis=0)
    assert list(variances > metrics.ACTIVE_VARIANCE) == [True, False, True]
    assert measure(outputs)["active_units"] == 2


def test_perplexity_is_the_number_of_codes_used_equally() -> None:
    assert metrics.perplexity(np.array([5.0, 5.0, 5.0, 0.0])) == pytest.approx(3)
    assert metrics.perplexity(np.array([9.0, 0.0])) == pytest.approx(1)
    counts = np.array([1.0, 2.0, 7.0])
    assert metrics.perplexity(counts) == pytest.approx(2 ** (-np.sum(counts / 10 * np.log2(counts / 10))))


def test_a_metric_that_only_some_models_have_is_reported_where_it_is(
    outputs: list[Output],
) -> None:
    assert "rate_uniform" not in measure(outputs)
    with_codes = [{**output, "rate_uniform": np.float32(i)} for i, output in enumerate(outputs)]
    assert measure(with_codes)["rate_uniform"] == pytest.approx(99.5)


def test_codes_are_counted_over_all_images(outputs: list[Output]) -> None:
    codes = [{**output, "codes": np.eye(5)[i % 4]} for i, output in enumerate(outputs)]
    assert measure(codes)["codebook_perplexity"] == pytest.approx(4)


def test_the_gain_and_its_ends_are_those_of_the_paired_normal_interval(
    outputs: list[Output],
) -> None:
    generator = np.random.default_rng(1)
    baselines = [{"elbo": o["elbo"] + generator.normal(0.5, 1), "rate": 0.0} for o in outputs]
    gains = np.array([o["elbo"] - r["elbo"] for o, r in zip(outputs, baselines, strict=True)])
    expected = gains.mean() + 1.959963984540054 * gains.std(ddof=1) / np.sqrt(len(gains))
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
