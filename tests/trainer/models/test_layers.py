import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.models.layers import ActivityRegularization, ComputeSum, Dropout, Linear, functional

SEED = tf.constant([3, 4])


def test_linear_has_no_weights_before_its_first_call_and_then_those_the_input_needs() -> None:
    layer = Linear(4)
    assert layer.weights == []
    layer(tf.ones([2, 3]))
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [(3, 4), (4,)]


def test_linear_is_a_matrix_product_and_a_bias() -> None:
    layer, inputs = Linear(4), np.random.default_rng(0).normal(size=[5, 3]).astype(np.float32)
    outputs = layer(inputs).numpy()
    kernel, bias = (np.asarray(weight) for weight in layer.weights)
    np.testing.assert_allclose(outputs, inputs @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert np.any(bias != 0)  # the guide draws biases too


def test_linear_draws_its_weights_with_a_standard_deviation_of_a_twentieth() -> None:
    keras.utils.set_random_seed(0)
    layer = Linear(100)
    layer.build([None, 400])
    # 40,000 draws: the sample's standard deviation is within 2 % of 0.05 in all but 1 of 10**7 seeds
    np.testing.assert_allclose(np.std(layer.kernel), 0.05, rtol=0.02)


def test_compute_sum_adds_up_all_calls_in_a_weight_that_is_not_trained() -> None:
    layer = ComputeSum(2)
    np.testing.assert_array_equal(layer(tf.ones([2, 2])), [2, 2])
    np.testing.assert_array_equal(layer(tf.constant([[1.0, -3.0]])), [3, -1])
    assert layer.trainable_weights == []
    [total] = layer.non_trainable_weights
    np.testing.assert_array_equal(total, [3, -1])


def test_compute_sum_gives_the_total_of_the_call_and_not_what_it_becomes_later() -> None:
    layer = ComputeSum(1)
    first = layer(tf.ones([1, 1]))
    layer(tf.ones([5, 1]))
    np.testing.assert_array_equal(first, [1])


def test_activity_regularization_passes_its_input_on_and_adds_its_sum_times_the_rate() -> None:
    layer, inputs = ActivityRegularization(0.5), tf.constant([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(layer(inputs), inputs)
    [loss] = layer.losses
    assert loss.numpy() == 0.5 * 10.0


def test_activity_losses_of_nested_layers_are_those_of_the_last_call() -> None:
    model = functional(3, Linear(4), ActivityRegularization(0.1), Linear(2), ActivityRegularization(0.2))
    for rows in (5, 2):
        inputs = tf.random.stateless_normal([rows, 3], SEED)
        hidden = model.layers[1](inputs)
        outputs = model(inputs)
        losses = [loss.numpy() for loss in model.losses]
        expected = [0.1 * np.sum(hidden), 0.2 * np.sum(outputs)]
        np.testing.assert_allclose(sorted(losses), sorted(expected), rtol=1e-4, atol=1e-6)


def test_dropout_without_a_seed_is_the_identity() -> None:
    inputs = tf.random.stateless_normal([4, 5], SEED)
    np.testing.assert_array_equal(Dropout(0.5)(inputs), inputs)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
def test_dropout_zeroes_its_rate_and_scales_the_rest_so_that_the_mean_stays(rate: float) -> None:
    outputs = Dropout(rate)(tf.ones([100, 1_000]), SEED).numpy()
    dropped = np.mean(outputs == 0)
    # 100,000 draws: five standard errors
    assert abs(dropped - rate) <= 5 * np.sqrt(rate * (1 - rate) / outputs.size)
    np.testing.assert_allclose(outputs[outputs != 0], 1 / (1 - rate), rtol=1e-5)


def test_dropout_depends_on_its_seed_alone() -> None:
    layer, inputs = Dropout(0.5), tf.ones([4, 50])
    np.testing.assert_array_equal(layer(inputs, SEED), layer(inputs, SEED))
    assert np.any(layer(inputs, SEED) != layer(inputs, SEED + 1))


def test_own_layers_compose_functionally_to_what_they_compute_one_after_the_other() -> None:
    layers = [Linear(5), keras.layers.ReLU(), Linear(2)]
    model = functional(3, *layers)
    assert len(model.weights) == 4  # before any data
    inputs = outputs = tf.random.stateless_normal([6, 3], SEED)
    for layer in layers:
        outputs = layer(outputs)
    np.testing.assert_allclose(model(inputs), outputs, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "value", "words"),
    [
        (Linear, 0, "units must be at least 1, got 0"),
        (ActivityRegularization, -1.0, "rate must be at least 0, got -1.0"),
        (Dropout, 1.0, "at least 0 and below 1, got 1.0"),
        (Dropout, -0.1, "at least 0 and below 1, got -0.1"),
    ],
)
def test_wrong_arguments_are_named(layer: type, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layer(value)
