import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.models.dense import Dense


@pytest.mark.parametrize("shape", [[5, 3], [4, 5, 3], [2, 4, 5, 3]])
def test_it_is_kerass_dense_layer_and_so_is_its_gradient(shape: list[int]) -> None:
    keras.utils.set_random_seed(0)
    ours, theirs = Dense(7, activation="relu"), keras.layers.Dense(7, activation="relu")
    inputs = tf.random.stateless_normal(shape, [0, 0])
    ours(inputs), theirs(inputs)
    theirs.set_weights([ours.kernel.numpy(), np.linspace(-1.0, 1.0, 7)])
    ours.set_weights(theirs.get_weights())
    found = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            total = tf.reduce_sum(outputs**2)
        variables = [weight.value for weight in layer.trainable_variables]
        found.append([outputs, *tape.gradient(total, [inputs, *variables])])
    assert found[0][0].shape == [*shape[:-1], 7]
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-4, atol=1e-4)


def test_the_number_of_examples_may_be_unknown_until_the_graph_runs() -> None:
    layer = Dense(7)
    layer(tf.zeros([1, 2, 3]))
    apply = tf.function(layer, input_signature=[tf.TensorSpec([None, 2, 3])])
    assert apply(tf.zeros([6, 2, 3])).shape == [6, 2, 7]
