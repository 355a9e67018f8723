"""The combiner's intervals beside TFMA's jackknife, on the same data."""

import pathlib
import pickle
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.evaluators import metrics_plots_and_validations_evaluator as evaluator

from components.evaluation import metrics
from components.evaluation.eval_config import metric_config

IMAGES = 400
SEED = 1
"""Of the jackknife's parts: its width is a matter of chance, which a test must not be."""
USE = np.linspace(0.1, 2, 32)
"""Of the codes: uneven, as in a trained codebook. Where use is even, the delta method has no first order."""
MEANS = ("elbo", "accuracy")


def extracts() -> list[dict[str, Any]]:
    """What TFMA has of each image once the model was called."""
    generator = np.random.default_rng(0)
    return [
        {
            tfma.PREDICTIONS_KEY: {
                "elbo": generator.normal(-100, 10, 1),
                "accuracy": np.array([float(generator.random() < 0.9)]),
                "codes": generator.multinomial(49, generator.dirichlet(USE)).astype(float),
            },
            tfma.LABELS_KEY: np.array([index % 10]),
            tfma.SLICE_KEY_TYPES_KEY: [()],
            tfma.INPUT_KEY: b"",
            tfma.FEATURES_KEY: {},
        }
        for index in range(IMAGES)
    ]


def evaluate(data: list[dict[str, Any]], jackknife: bool, file: pathlib.Path) -> dict[str, Any]:
    """The metrics by name, as TFMA's evaluator gives them; file: takes them from Beam's worker."""
    given = {"means": MEANS, "headlines": ["elbo"], "code_version": ""}
    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec()],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=[metric_config(given)])],
    )
    if jackknife:
        config.options.compute_confidence_intervals.value = True
        config.options.confidence_intervals.method = tfma.ConfidenceIntervalOptions.JACKKNIFE

    def keep(row: Any) -> None:
        file.write_bytes(pickle.dumps({key.name: value for key, value in row[1].items()}))

    with beam.Pipeline() as pipeline:
        stage = evaluator.MetricsPlotsAndValidationsEvaluator(
            eval_config=config, random_seed_for_testing=SEED
        ).ptransform
        results = pipeline | beam.Create(data, reshuffle=False) | stage
        _ = results["metrics"] | beam.Map(keep)
    values: dict[str, Any] = pickle.loads(file.read_bytes())
    return values


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same data measured with TFMA's jackknife, and by the combiner alone."""
    data, file = extracts(), tmp_path_factory.mktemp("metrics") / "values"
    return evaluate(data, jackknife=True, file=file), evaluate(data, jackknife=False, file=file)


@pytest.mark.parametrize("name", [*MEANS, "codebook_perplexity"])
def test_intervals_are_as_wide_as_the_jackknifes_but_for_its_noise(
    found: tuple[dict[str, Any], dict[str, Any]], name: str
) -> None:
    """The jackknife has 19 degrees of freedom: 99.8 % of its errors are 0.53 to 1.52 times the true one."""
    old, new = found
    half = (new[f"{name}_upper"] - new[f"{name}_lower"]) / 2
    jackknife = 2.093 * old[name].sample_standard_deviation  # Student's quantile, as TFMA reports it
    print(f"{name}: {new[name]:.4f}, jackknife +-{jackknife:.4f}, combiner +-{half:.4f}")
    assert old[name].unsampled_value == pytest.approx(new[name])
    assert new[f"{name}_lower"] < new[name] < new[f"{name}_upper"]
    assert 0.5 < jackknife / half < 1.75


def test_the_interval_of_the_perplexity_is_as_wide_as_the_bootstraps(
    found: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """The delta method against 2,000 resamples of the images, whose own error is 3 %."""
    _, new = found
    codes = np.stack([each[tfma.PREDICTIONS_KEY]["codes"] for each in extracts()])  # [images, codes]
    generator = np.random.default_rng(1)
    shares = np.stack([codes[generator.integers(IMAGES, size=IMAGES)].sum(axis=0) for _ in range(2000)])
    shares /= shares.sum(axis=1, keepdims=True)
    perplexities = np.exp(-np.sum(shares * np.log(shares), axis=1))
    half = (new["codebook_perplexity_upper"] - new["codebook_perplexity_lower"]) / 2
    assert half == pytest.approx(1.96 * perplexities.std(), rel=0.1)


def test_the_interval_of_a_mean_does_not_depend_on_chance_as_the_jackknifes_does(
    found: tuple[dict[str, Any], dict[str, Any]], tmp_path: pathlib.Path
) -> None:
    _, new = found
    again = evaluate(extracts()[::-1], jackknife=False, file=tmp_path / "values")
    for name in MEANS:
        for end in (metrics.LOWER, metrics.UPPER):
            assert again[f"{name}_{end}"] == pytest.approx(new[f"{name}_{end}"], rel=1e-9)
