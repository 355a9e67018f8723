from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import SIDE
from trainer import variants
from trainer.models.model import Batch

SEED = tf.constant([0, 1])
BATCH = Batch(
    tf.random.stateless_uniform([6, SIDE, SIDE, 1], SEED), tf.constant([0, 1, 2, 3, 4, 5], tf.int64)
)


def reference(model: Any, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy and penalty of each image, [B] each, from the weights."""
    kernel1, bias1, kernel2, bias2 = (np.asarray(variable) for variable in model.learned())
    hidden = np.maximum(BATCH.images.numpy().reshape(6, -1) @ kernel1 + bias1, 0)
    logits = hidden @ kernel2 + bias2
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probabilities[np.arange(6), BATCH.labels.numpy()], rate * hidden.sum(axis=1)


@pytest.mark.parametrize("name", ["per_example", "source"])
def test_the_loss_is_the_cross_entropy_and_the_penalty_of_an_image_or_of_the_whole_batch(name: str) -> None:
    model = variants.load("mlp_sparse").build({"objective": name, "rate": 0.03})
    objective = model.objective(BATCH, SEED)
    cross_entropy, penalties = reference(model, 0.03)
    penalty = penalties.sum() if name == "source" else penalties.mean()
    assert penalty > 0.01
    np.testing.assert_allclose(np.mean(objective.loss), cross_entropy.mean() + penalty, rtol=1e-4)
    np.testing.assert_allclose(np.mean(objective.terms["penalty"]), penalty, rtol=1e-4)


def test_the_penalty_does_not_accumulate_over_steps() -> None:
    model = variants.load("mlp_sparse").build({})
    first = model.objective(BATCH, SEED).loss
    model.logits(BATCH.images)
    np.testing.assert_array_equal(model.objective(BATCH, SEED).loss, first)


def test_a_higher_rate_leaves_less_activity() -> None:
    left = []
    for rate in (0.0, 1.0):
        keras.utils.set_random_seed(0)
        model = variants.load("mlp_sparse").build({"rate": rate})
        optimizer = keras.optimizers.Adam(1e-2)
        for _ in range(20):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model.objective(BATCH, SEED).loss)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        left.append(reference(model, 1.0)[1].mean())
    assert left[1] < 0.5 * left[0]


def test_metrics_do_not_hold_the_penalty() -> None:
    model = variants.load("mlp_sparse").build({"rate": 10.0})
    metrics = model.metrics_per_example(BATCH, SEED, 1)
    np.testing.assert_allclose(metrics["cross_entropy"], reference(model, 10.0)[0], rtol=1e-3)


@pytest.mark.parametrize("values", [{"hidden": 0}, {"rate": -1.0}, {"objective": "elbo"}])
def test_wrong_configurations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        variants.load("mlp_sparse").config(values)
