import pathlib

import numpy as np
import pytest
import tensorflow as tf
from scipy import linalg

from components.ingest.examples import serialize
from pipeline.evaluation import frechet
from schemas import CLASSES, IMAGE, PIXELS, SIDE

EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


def test_the_distance_of_shifted_features_is_the_shift_squared() -> None:
    one = np.random.default_rng(0).normal(size=[500, 4])
    assert frechet.frechet(one, one) == pytest.approx(0.0, abs=1e-9)
    assert frechet.frechet(one, one + np.array([3.0, 0.0, 0.0, 4.0])) == pytest.approx(25.0)


def test_the_distance_of_scaled_features_is_known_in_one_dimension_each() -> None:
    one = np.random.default_rng(1).normal(size=[400, 3])
    scale = np.array([2.0, 1.0, 0.5])
    deviations = one.std(axis=0, ddof=1)
    centred = one - one.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False)).T) * deviations
    assert frechet.frechet(white, white * scale) == pytest.approx(np.sum((deviations * (1 - scale)) ** 2))


def test_the_distance_agrees_with_the_matrix_square_root() -> None:
    random = np.random.default_rng(2)
    one, other = (random.normal(size=[300, 5]) @ random.normal(size=[5, 5]) for _ in range(2))
    covariances = [np.cov(features, rowvar=False) for features in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = np.sum((one.mean(axis=0) - other.mean(axis=0)) ** 2)
    expected = gap + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet.frechet(one, other) == pytest.approx(expected)


class Noise(tf.Module):
    """Samples uniform noise between 0 and `ink`, and sorts images by how dark they are."""

    def __init__(self, ink: float) -> None:
        super().__init__()
        self.ink = tf.Variable(ink)

    def sample(self, seed: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        drawn = tf.random.stateless_uniform([count, SIDE, SIDE, 1], tf.stack([seed, 0]))
        return {"images": self.ink * drawn}

    def classify(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]
        pixels = tf.cast(tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, PIXELS]), tf.float32) / 255
        weights = tf.random.stateless_normal([PIXELS, CLASSES], [5, 6]) / PIXELS**0.5
        return {"probabilities": tf.nn.softmax(tf.matmul(pixels, weights))}

    def save(self, folder: pathlib.Path) -> str:
        numbers = [tf.TensorSpec([], tf.int32, name=name) for name in ("seed", "count")]
        signatures = {
            "sample": tf.function(self.sample, input_signature=numbers),
            "classify": tf.function(self.classify, input_signature=[EXAMPLES]),
        }
        tf.saved_model.save(self, str(folder), signatures=signatures)
        return str(folder)


def test_samples_of_the_datas_own_law_are_as_close_as_the_data_to_itself(tmp_path: pathlib.Path) -> None:
    grey = np.random.default_rng(3).integers(0, 256, [1200, PIXELS], np.uint8)
    examples = [serialize(image.tobytes(), 0) for image in grey]
    right, wrong = (frechet.load(Noise(ink).save(tmp_path / str(ink)), "sample") for ink in (1.0, 0.3))
    close = frechet.distance(right, right, examples, serialize, seed=0)
    far = frechet.distance(wrong, right, examples, serialize, seed=0)
    assert close.images == 1200
    assert close.value < 3 * close.between_halves
    assert far.value > 20 * close.value


def test_what_has_no_distance_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(frechet.FrechetError, match="is not a SavedModel"):
        frechet.load(str(tmp_path), "sample")
    module = tf.Module()
    function = tf.function(lambda examples: {"x": examples}, input_signature=[EXAMPLES])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"evaluate": function})
    for signature, kind in (("sample", "generative model"), ("classify", "classifier")):
        with pytest.raises(frechet.FrechetError, match=f"no signature {signature} .*give a {kind}"):
            frechet.load(str(tmp_path / "m"), signature)
    noise = frechet.load(Noise(1.0).save(tmp_path / "noise"), "sample")
    with pytest.raises(frechet.FrechetError, match="at least 20 images, got 3"):
        frechet.distance(noise, noise, [b""] * 3, serialize, 0)
