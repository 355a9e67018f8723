import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.models.priors import CodePrior

POSITIONS, CODES = 4, 3


@pytest.fixture
def prior() -> CodePrior:
    """Small, and with weights so large that its distribution is far from uniform."""
    keras.utils.set_random_seed(1)
    prior = CodePrior(POSITIONS, CODES, width=8, heads=2, blocks=2)
    prior.log_prob(tf.zeros([1, POSITIONS], tf.int32))
    generator = np.random.default_rng(1)
    prior.set_weights([w + generator.normal(scale=0.5, size=w.shape) for w in prior.get_weights()])
    return prior


def every_sequence() -> tf.Tensor:
    return tf.constant(list(itertools.product(range(CODES), repeat=POSITIONS)), tf.int32)


def test_the_probabilities_of_all_sequences_sum_to_one(prior: CodePrior) -> None:
    probabilities = np.exp(prior.log_prob(every_sequence()).numpy())
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert probabilities.max() > 3 * probabilities.mean()  # a uniform prior would sum to one as well


def test_a_position_sees_the_codes_before_it_and_no_others(prior: CodePrior) -> None:
    codes = tf.constant([[0, 1, 2, 0]])
    logits = prior.logits(codes).numpy()
    for changed in range(POSITIONS):
        other = codes.numpy()
        other[0, changed] = (other[0, changed] + 1) % CODES
        moved = np.abs(prior.logits(tf.constant(other)).numpy() - logits).max(axis=-1)[0]
        np.testing.assert_allclose(moved[: changed + 1], 0.0, atol=1e-6)
        assert (moved[changed + 1 :] > 1e-4).all()


def test_samples_come_as_often_as_their_probability_says(prior: CodePrior) -> None:
    count = 20_000
    samples = prior.sample(tf.constant(count), tf.constant([1, 2])).numpy()
    sequences = every_sequence()
    probabilities = np.exp(prior.log_prob(sequences).numpy())
    places = CODES ** np.arange(POSITIONS)[::-1]
    found = np.bincount(samples @ places, minlength=len(probabilities)) / count
    error = np.sqrt(probabilities * (1 - probabilities) / count)
    assert (np.abs(found - probabilities) < 5 * error + 1e-4).all()


def test_sampling_depends_on_the_seed_alone(prior: CodePrior) -> None:
    def sample(seed: int) -> np.ndarray:
        return tf.function(prior.sample)(tf.constant(50), tf.constant([seed, 0])).numpy()

    np.testing.assert_array_equal(sample(1), sample(1))
    assert (sample(1) != sample(2)).any()


def test_training_brings_the_prior_to_the_entropy_of_its_sequences() -> None:
    """Sequences that repeat one fair code cost log CODES nats, however long."""
    keras.utils.set_random_seed(2)
    prior = CodePrior(POSITIONS, CODES, width=16, heads=2, blocks=1)
    codes = tf.repeat(tf.range(CODES)[:, None], POSITIONS, axis=1)
    prior.log_prob(codes)
    optimizer = keras.optimizers.Adam(1e-2)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(prior.log_prob(codes))
        optimizer.apply(tape.gradient(loss, prior.trainable_variables), prior.trainable_variables)
        return loss

    optimizer.build(prior.trainable_variables)
    assert float(step()) == pytest.approx(POSITIONS * np.log(CODES), rel=1e-5)
    for _ in range(200):
        loss = float(step())
    assert loss == pytest.approx(np.log(CODES), abs=0.05)
