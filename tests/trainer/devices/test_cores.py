import os

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from trainer.devices import cores, threads

BATCH, WIDTH = 6, 4


class Counted:
    """A linear map that keeps the sizes of the batches that it was given."""

    def __init__(self) -> None:
        self.kernel = tf.Variable(tf.random.stateless_normal([WIDTH, WIDTH], [0, 1]))
        self.sizes: list[int | None] = []

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        self.sizes.append(inputs.shape[0])
        return tf.matmul(inputs, self.kernel)


@pytest.fixture
def inputs() -> tf.Tensor:
    return tf.random.stateless_normal([BATCH, WIDTH], [0, 0])


def value_and_gradients(network: Counted, inputs: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = cores.side_by_side(network, inputs)
        loss = tf.reduce_sum(tf.sin(outputs))
    return [outputs, *tape.gradient(loss, [inputs, network.kernel])]


def test_parts_of_a_batch_give_the_values_and_gradients_of_the_whole(inputs: tf.Tensor) -> None:
    network = Counted()
    whole = value_and_gradients(network, inputs)
    with cores.parts(3):
        parts = value_and_gradients(network, inputs)
    assert network.sizes == [BATCH, 2, 2, 2]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_a_batch_that_does_not_divide_or_has_no_known_size_stays_whole(inputs: tf.Tensor) -> None:
    network = Counted()
    with cores.parts(4):
        cores.side_by_side(network, inputs)
        spec = tf.TensorSpec([None, WIDTH])
        tf.function(lambda x: cores.side_by_side(network, x), input_signature=[spec]).get_concrete_function()
    assert network.sizes == [BATCH, None]


@pytest.mark.parametrize(("number", "executor"), [(1, "SINGLE_THREADED_EXECUTOR"), (2, None)])
def test_a_step_of_one_core_has_the_executor_of_one_thread(number: int, executor: str | None) -> None:
    with cores.executor(number):
        assert context.context().function_call_options.executor_type == executor


def test_with_a_gpu_everything_is_as_tensorflow_has_it(
    inputs: tf.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    network = Counted()
    with cores.executor(1), cores.parts(3):
        assert context.context().function_call_options.executor_type is None
        cores.side_by_side(network, inputs)
    assert network.sizes == [BATCH]


def test_an_operation_gets_one_thread_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(threads.VARIABLE)
    threads.one_an_operation()
    assert os.environ[threads.VARIABLE] == "1"
    monkeypatch.setenv(threads.VARIABLE, "8")
    threads.one_an_operation()
    assert os.environ[threads.VARIABLE] == "8"
