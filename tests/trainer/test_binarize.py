import numpy as np
import pytest
import tensorflow as tf

from schemas import PIXELS, SIDE
from trainer import binarize


@pytest.fixture
def raw() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(0, 256, [50, PIXELS]), tf.int32)


def test_threshold_is_one_above_127() -> None:
    features = binarize.to_features(tf.constant([[0, 127, 128, 255]]), "threshold")
    np.testing.assert_array_equal(features, [[0, 0, 1, 1]])


@pytest.mark.parametrize("protocol", ["dynamic", "grey"])
def test_other_protocols_store_grey_values(protocol: str, raw: tf.Tensor) -> None:
    np.testing.assert_array_equal(binarize.to_features(raw, protocol), raw)


def test_a_stochastic_sample_depends_on_the_image_alone(raw: tf.Tensor) -> None:
    together = binarize.to_features(raw, "stochastic").numpy()
    order = np.random.default_rng(1).permutation(len(together))
    np.testing.assert_array_equal(binarize.to_features(tf.gather(raw, order), "stochastic"), together[order])
    np.testing.assert_array_equal(binarize.to_features(raw[7:8], "stochastic"), together[7:8])


def test_a_stochastic_sample_has_the_grey_value_as_probability() -> None:
    grey = np.repeat(np.arange(0, 256, 15), 500)[None, :].repeat(200, axis=0)
    grey[:, 0] = np.arange(200) % 256  # so that the images differ
    sample = binarize.to_features(tf.constant(grey, tf.int32), "stochastic").numpy()
    for value in np.unique(grey[0, 1:]):
        chosen = sample[:, 1:][:, grey[0, 1:] == value]
        error = np.sqrt(0.25 / chosen.size)
        assert chosen.mean() == pytest.approx(value / 255, abs=5 * error + 1e-9)


def test_neighbouring_pixels_of_a_stochastic_sample_are_independent() -> None:
    images = np.full([2000, 64], 128)
    images[:, :2] = np.stack(np.divmod(np.arange(2000), 256), axis=1)
    sample = binarize.to_features(tf.constant(images, tf.int32), "stochastic").numpy()[:, 2:]
    correlations = np.corrcoef(sample.T) - np.eye(62)
    assert np.abs(correlations).max() < 6 / np.sqrt(2000)


def test_dynamic_inputs_are_new_each_step_and_fixed_in_evaluation(raw: tf.Tensor) -> None:
    first, second, fixed, again = (
        binarize.to_images(raw, "dynamic", seed).numpy()
        for seed in (tf.constant([0, 1]), tf.constant([0, 2]), None, None)
    )
    assert (first != second).any()
    np.testing.assert_array_equal(fixed, again)
    assert set(np.unique(first)) == {0.0, 1.0}
    assert first.mean() == pytest.approx(raw.numpy().mean() / 255, abs=0.01)


def test_grey_inputs_are_scaled_to_one(raw: tf.Tensor) -> None:
    images = binarize.to_images(raw, "grey").numpy()
    assert images.shape == (len(raw), SIDE, SIDE, 1)
    np.testing.assert_allclose(images.reshape(len(raw), -1), raw.numpy() / 255.0, rtol=1e-6)
