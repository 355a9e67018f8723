import math
import pathlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from components.ingest.examples import serialize
from pipeline.evaluation import likelihood
from schemas import IMAGE, PIXELS

LATENT = 2
NOISE = 40.0
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


class LinearGaussian(tf.Module):
    """x = W z + noise, with z and noise normal; q(z|x) is the exact posterior, widened and moved."""

    def __init__(self, weights: npt.NDArray[np.float64], widen: float, move: float) -> None:
        super().__init__()
        self.weights = tf.constant(weights, tf.float64)  # [PIXELS, LATENT]
        precision = np.eye(LATENT) + weights.T @ weights / NOISE**2
        self.covariance = tf.constant(np.linalg.inv(precision) * widen, tf.float64)
        self.gain = tf.constant(np.linalg.inv(precision) @ weights.T / NOISE**2, tf.float64)
        self.move = move

    @tf.function(input_signature=[EXAMPLES, tf.TensorSpec([], tf.int32, name="seed")])
    def log_weight(self, examples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]
        x = tf.cast(tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, PIXELS]), tf.float64)
        mean = tf.matmul(x, self.gain, transpose_b=True) + self.move
        root = tf.linalg.cholesky(self.covariance)
        noise = tf.random.stateless_normal(tf.shape(mean), tf.stack([seed, 0]), dtype=tf.float64)
        z = mean + tf.matmul(noise, root, transpose_b=True)
        log_q = normal(noise) - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root)))
        error = (x - tf.matmul(z, self.weights, transpose_b=True)) / NOISE
        log_x = normal(error) - PIXELS * math.log(NOISE)
        return {"log_weight": tf.cast(normal(z) + log_x - log_q, tf.float32)}


def normal(values: tf.Tensor) -> tf.Tensor:
    """log N(values; 0, I), [B, D] -> [B]."""
    size = tf.cast(tf.shape(values)[-1], tf.float64)
    return -0.5 * tf.reduce_sum(values**2, axis=-1) - 0.5 * size * math.log(2 * math.pi)


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, [30, PIXELS], dtype=np.uint8)


@pytest.fixture(scope="module")
def examples(images: npt.NDArray[np.uint8]) -> list[bytes]:
    return [serialize(image.tobytes(), 0) for image in images]


@pytest.fixture(scope="module")
def weights() -> npt.NDArray[np.float64]:
    return np.random.default_rng(2).normal(0.0, 8.0, [PIXELS, LATENT])


def exported(weights: npt.NDArray[np.float64], folder: pathlib.Path, widen: float, move: float) -> str:
    module = LinearGaussian(weights, widen, move)
    tf.saved_model.save(module, str(folder), signatures={"log_weight": module.log_weight})
    return str(folder)


def true_nll(weights: npt.NDArray[np.float64], images: npt.NDArray[np.uint8]) -> float:
    """-log N(x; 0, W W' + NOISE^2 I), averaged; an answer that samples nothing."""
    covariance = weights @ weights.T + NOISE**2 * np.eye(PIXELS)
    x = images.astype(np.float64)
    distance = np.sum(x * np.linalg.solve(covariance, x.T).T, axis=1)
    log_determinant = np.linalg.slogdet(covariance)[1]
    return float(np.mean(0.5 * (distance + log_determinant + PIXELS * math.log(2 * math.pi))))


def test_the_likelihood_of_a_linear_gaussian_model_is_the_known_one(
    weights: npt.NDArray[np.float64],
    images: npt.NDArray[np.uint8],
    examples: list[bytes],
    tmp_path: pathlib.Path,
) -> None:
    weigh = likelihood.log_weights(exported(weights, tmp_path / "model", widen=2.0, move=0.0))
    found = likelihood.estimate(weigh, examples, samples=2000, rows=512)
    assert found.sampling_error > 0
    assert abs(found.nll - true_nll(weights, images)) < 3 * found.sampling_error + 2e-3  # float32 sums
    assert found.sampling_error < 0.02
    assert 1 < found.effective_samples < 2000


def test_the_exact_posterior_needs_one_sample(
    weights: npt.NDArray[np.float64],
    images: npt.NDArray[np.uint8],
    examples: list[bytes],
    tmp_path: pathlib.Path,
) -> None:
    weigh = likelihood.log_weights(exported(weights, tmp_path / "model", widen=1.0, move=0.0))
    found = likelihood.estimate(weigh, examples, samples=2)
    assert found.nll == pytest.approx(true_nll(weights, images), rel=1e-6)
    assert found.effective_samples == pytest.approx(2.0, abs=1e-3)


def test_fewer_samples_make_the_bound_looser(
    weights: npt.NDArray[np.float64], examples: list[bytes], tmp_path: pathlib.Path
) -> None:
    weigh = likelihood.log_weights(exported(weights, tmp_path / "model", widen=2.0, move=0.1))
    few, many = (likelihood.estimate(weigh, examples, samples=n).nll for n in (2, 500))
    assert few > many


def normal_weights(examples: Sequence[bytes], seed: int, samples: int) -> npt.NDArray[np.float64]:
    """Log-normal weights of mean one, whose log-likelihood therefore is zero."""
    return np.random.default_rng(seed).normal(-0.125, 0.5, [samples, len(examples)])


@pytest.mark.parametrize("rows", [1, 7, 20, 64, 1000])
def test_no_call_has_more_rows_than_allowed_and_every_image_gets_its_samples(rows: int) -> None:
    counts: dict[bytes, int] = {}
    seeds: list[int] = []

    def weigh(examples: Sequence[bytes], seed: int, samples: int) -> npt.NDArray[np.float64]:
        assert len(examples) * samples <= rows
        seeds.append(seed)
        for example in examples:
            counts[example] = counts.get(example, 0) + samples
        return normal_weights(examples, seed, samples)

    done: list[int] = []
    images = [bytes([i]) for i in range(20)]
    found = likelihood.estimate(weigh, images, samples=11, seed=5, rows=rows, advance=done.append)
    assert counts == dict.fromkeys(images, 11)
    assert sum(done) == 20 * 11
    assert seeds == list(range(5, 5 + len(seeds)))  # no noise is used twice
    assert (found.images, found.samples) == (20, 11)


def test_the_sums_agree_with_numpy_whatever_the_order_and_size_of_the_weights() -> None:
    log_weights = np.random.default_rng(3).normal(-900.0, 30.0, [40, 6])
    sums = likelihood.Sums(6)
    for part in np.array_split(log_weights, 7):
        sums.add(part)
    weights = np.exp(log_weights - log_weights.max(axis=0))
    assert sums.bound() == pytest.approx(np.log(weights.mean(axis=0)) + log_weights.max(axis=0))
    assert sums.effective_samples() == pytest.approx(weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0))
    relative = weights.var(axis=0, ddof=1) / (40 * weights.mean(axis=0) ** 2)
    assert sums.variance() == pytest.approx(relative)


def test_the_sampling_error_is_the_spread_over_seeds() -> None:
    images = [b""] * 50
    runs = [
        likelihood.estimate(normal_weights, images, samples=100, seed=1000 * s, rows=50) for s in range(200)
    ]
    spread = np.std([run.nll for run in runs], ddof=1)
    assert spread == pytest.approx(np.mean([run.sampling_error for run in runs]), rel=0.2)


def test_the_standard_error_is_that_of_the_mean_over_images() -> None:
    def weigh(examples: Sequence[bytes], seed: int, samples: int) -> npt.NDArray[np.float64]:
        return np.tile([float(example[0]) for example in examples], [samples, 1])

    found = likelihood.estimate(weigh, [bytes([i]) for i in (1, 2, 3, 6)], samples=3)
    assert found.nll == pytest.approx(-3.0)
    assert found.standard_error == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert found.sampling_error == pytest.approx(0.0, abs=1e-6)
    assert found.bits_per_dimension == pytest.approx(-3.0 / (PIXELS * math.log(2)))


def test_what_cannot_be_estimated_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(likelihood.LikelihoodError, match="is not a SavedModel"):
        likelihood.log_weights(str(tmp_path))
    with pytest.raises(likelihood.LikelihoodError, match="no images"):
        likelihood.estimate(normal_weights, [], samples=1)
    with pytest.raises(likelihood.LikelihoodError, match="samples and rows must be at least 1"):
        likelihood.estimate(normal_weights, [b""], samples=0)

    def diverged(examples: Sequence[bytes], seed: int, samples: int) -> npt.NDArray[np.float64]:
        return np.full([samples, len(examples)], np.nan)

    with pytest.raises(likelihood.LikelihoodError, match="not finite"):
        likelihood.estimate(diverged, [b""], samples=1)


@pytest.mark.parametrize(
    ("signature", "words"), [("classify", "it is a classifier"), ("encode", "export it again")]
)
def test_a_model_without_log_weights_is_refused_by_name(
    signature: str, words: str, tmp_path: pathlib.Path
) -> None:
    module = tf.Module()
    function = tf.function(lambda examples: {"label": examples}, input_signature=[EXAMPLES])
    tf.saved_model.save(module, str(tmp_path), signatures={signature: function})
    with pytest.raises(likelihood.LikelihoodError, match=f"no signature log_weight.*{words}"):
        likelihood.log_weights(str(tmp_path))


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_an_estimate_that_was_interrupted_goes_on_to_the_same_answer(stopped_after: int) -> None:
    images = [bytes([i]) for i in range(20)]
    whole = likelihood.estimate(normal_weights, images, samples=11, seed=5, rows=60)
    kept: list[likelihood.Estimates] = []

    def keep(found: likelihood.Estimates) -> None:
        kept.append(found)
        if len(kept) == stopped_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        likelihood.estimate(normal_weights, images, samples=11, seed=5, rows=60, keep=keep)
    assert 0 < len(kept[-1].bounds) < 20
    done: list[int] = []
    rest = likelihood.estimate(
        normal_weights, images, samples=11, seed=5, rows=60, start=kept[-1], advance=done.append
    )
    assert rest == whole
    assert sum(done) == 20 * 11


def test_an_estimate_that_one_sample_carries_is_not_believed() -> None:
    def heavy(examples: Sequence[bytes], seed: int, samples: int) -> npt.NDArray[np.float64]:
        return np.random.default_rng(seed).normal(0.0, 30.0, [samples, len(examples)])

    images = [b""] * 20
    assert not likelihood.estimate(heavy, images, samples=50).believable
    assert likelihood.estimate(normal_weights, images, samples=50).believable
    assert likelihood.estimate(heavy, images, samples=1).believable, "one sample promises nothing"
