import pathlib

import numpy as np
import pytest
import tensorflow as tf

from schemas import SIDE
from trainer import variants
from trainer.models.model import Batch

SEED = tf.constant([0, 1])
IMAGES = tf.random.stateless_uniform([4, SIDE, SIDE, 1], SEED)


def test_with_a_seed_units_are_dropped_and_without_one_none() -> None:
    model = variants.load("mlp_dropout").build({})
    still = model.logits(IMAGES)
    np.testing.assert_array_equal(model.logits(IMAGES), still)
    noisy = model.logits(IMAGES, SEED)
    np.testing.assert_array_equal(model.logits(IMAGES, SEED), noisy)
    assert np.all(np.any(noisy != still, axis=1))
    assert np.any(model.logits(IMAGES, SEED + 1) != noisy)


def test_the_logits_without_noise_are_the_mean_of_those_with_it() -> None:
    model = variants.load("mlp_dropout").build({})
    draws = 4_000
    repeated = tf.repeat(IMAGES, draws, axis=0)
    noisy = model.logits(repeated, SEED).numpy().reshape(4, draws, -1)
    error = noisy.std(axis=1) / np.sqrt(draws)
    assert np.all(np.abs(noisy.mean(axis=1) - model.logits(IMAGES)) < 5 * error)


def test_the_objective_is_noisy_and_the_metrics_are_not() -> None:
    model = variants.load("mlp_dropout").build({})
    batch = Batch(IMAGES, tf.constant([1, 2, 3, 4], tf.int64))
    assert np.any(model.objective(batch, SEED).loss != model.objective(batch, SEED + 1).loss)
    metrics = [model.metrics_per_example(batch, seed, 1)["cross_entropy"] for seed in (SEED, SEED + 1)]
    np.testing.assert_array_equal(*metrics)


def test_dropout_is_off_in_a_saved_model(tmp_path: pathlib.Path) -> None:
    model = variants.load("mlp_dropout").build({})
    expected = model.logits(IMAGES)
    module = tf.Module()
    module.model = model
    module.classify = tf.function(model.logits, input_signature=[tf.TensorSpec([None, SIDE, SIDE, 1])])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for _ in range(2):
        np.testing.assert_allclose(loaded.classify(IMAGES), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("values", [{"hidden": 0}, {"rate": 1.0}, {"rate": -0.1}])
def test_wrong_configurations_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        variants.load("mlp_dropout").config(values)
