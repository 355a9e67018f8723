"""What every variant owes the rest of the project; a new file in trainer/variants is tested as it comes."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from interrupted import Interrupting

from components.ingest.examples import serialize
from components.ingest.idx import Images
from schemas import CLASSES, IMAGE, MEAN_INTENSITY, PIXELS, SIDE, TRAIN_SPLIT
from trainer import variants
from trainer.export import export
from trainer.loop.checkpoints import Checkpoints
from trainer.loop.data import Examples
from trainer.loop.eviction import Evicted
from trainer.loop.fit import Fitted, fit
from trainer.loop.steps import Steps
from trainer.loop.warm import WarmStart
from trainer.models.model import Batch, Classifier, GenerativeModel, Model
from trainer.recipe import PROFILES

NAMES = variants.names()
SEED = tf.constant([3, 5])
NATS = 1e-3
STEPS = 8
BOTH_FORMS = {"encode", "encode_images", "reconstruct", "reconstruct_images"}
GENERATIVE = BOTH_FORMS | {
    "decode", "sample_each", "log_weight_each", "log_weight_images", "sample", "log_weight",
}  # fmt: skip


@pytest.fixture(scope="module")
def examples(digits: dict[str, Images]) -> Examples:
    images, labels = digits[TRAIN_SPLIT]
    return Examples((images.reshape(-1, PIXELS) > 127).astype(np.uint8), labels.astype(np.int64))


class Line(NamedTuple):
    """A variant after some steps, and its SavedModel."""

    name: str
    model: Model
    fitted: Fitted
    folder: pathlib.Path
    served: Any  # the SavedModel, loaded


def trained(name: str, examples: Examples, checkpoints: Checkpoints | None = None) -> tuple[Model, Fitted]:
    """A model of the variant after STEPS steps on the digits, and what the loop says of them."""
    variant = variants.load(name)
    keras.utils.set_random_seed(0)  # layers that make their weights late draw them from the same seeds
    model = variant.build({})
    fitted = fit(
        model, examples, seed=0, name=name, steps=STEPS, protocol="threshold", checkpoints=checkpoints,
        recipe=variant.recipe.with_overrides({"batch_size": min(variant.recipe.batch_size, 32)}),
        held_out=Examples(examples.pixels[:20], examples.labels[:20]),
    )  # fmt: skip
    return model, fitted


@pytest.fixture(scope="module", params=NAMES)
def line(
    request: pytest.FixtureRequest,
    examples: Examples,
    transform_graph: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Line:
    """Each variant in turn, trained, exported and loaded once for all tests."""
    model, fitted = trained(request.param, examples)
    folder = tmp_path_factory.mktemp(request.param)
    export(model, transform_graph, str(folder), protocol="threshold", samples=3)
    return Line(request.param, model, fitted, folder, tf.saved_model.load(str(folder)))


@pytest.fixture(scope="module")
def batch(examples: Examples) -> Batch:
    images = tf.reshape(tf.cast(examples.pixels[:6], tf.float32), [-1, SIDE, SIDE, 1])
    return Batch(images, tf.constant(examples.labels[:6]))


@pytest.fixture(scope="module")
def serialized(digits: dict[str, Images]) -> tf.Tensor:
    """The images of `batch` as a client would send them: without ink, which statistics alone look at."""
    images, labels = digits[TRAIN_SPLIT]
    sent = [tf.train.Example.FromString(serialize(images[i].tobytes(), int(labels[i]))) for i in range(6)]
    for example in sent:
        del example.features.feature[MEAN_INTENSITY]
    return tf.constant([example.SerializeToString() for example in sent])


@contextlib.contextmanager
def restored(model: Model) -> Iterator[None]:
    """A training-mode call may move what follows the data (a codebook); the SavedModel was made before it."""
    before = [variable.numpy() for variable in model.state()]
    yield
    for variable, value in zip(model.state(), before, strict=True):
        variable.assign(value)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_says_what_it_is(name: str) -> None:
    variant = variants.load(name)
    assert 20 < len(variant.summary) <= 110
    assert variant.family in variants.FAMILIES
    assert all(variant.recipe.steps.of(profile) >= 1 for profile in PROFILES)
    with pytest.raises(ValueError, match="config.colour: no such field"):
        variant.config({"colour": 1})


def test_the_family_is_the_model_s(line: Line) -> None:
    model, variant = line.model, variants.load(line.name)
    assert isinstance(model, GenerativeModel) == variant.generative
    assert isinstance(model, Classifier) == variant.classifies


def test_every_learned_weight_receives_a_gradient(line: Line, batch: Batch) -> None:
    model = line.model
    reached: set[int] = set()
    for phase in model.phases():
        variables = phase.variables()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            with restored(model):
                loss = tf.reduce_mean(phase.objective(batch, SEED).loss)
        gradients = tape.gradient(loss, variables)
        assert all(gradient is not None for gradient in gradients), phase.name
        reached |= {id(variable) for variable in variables}
    assert reached == {id(variable) for variable in model.learned()}


def test_losses_and_terms_are_per_example_and_finite(line: Line, batch: Batch) -> None:
    model = line.model
    for phase in model.phases():
        with restored(model):
            objective = phase.objective(batch, SEED)
        for name, term in {"loss": objective.loss, **objective.terms}.items():
            assert term.shape == [6], name
            assert np.isfinite(term.numpy()).all(), name


def test_a_warm_start_has_the_weights_of_the_saved_model(line: Line, examples: Examples) -> None:
    name, model, folder = line.name, line.model, line.folder
    variant = variants.load(name)
    keras.utils.set_random_seed(1)
    fresh = variant.build({})
    start = WarmStart(str(folder), name)
    recipe = variant.recipe.with_overrides({"batch_size": 8})
    Steps(fresh, examples, recipe, "threshold", 1, tf.distribute.get_strategy(), start)
    assert start.to_dict() == {"base": str(folder)}
    for mine, base in zip(fresh.state(), model.state(), strict=True):
        np.testing.assert_array_equal(mine.numpy(), base.numpy())


def test_the_same_seed_ends_at_the_same_weights_also_across_a_stop_and_a_checkpoint(
    line: Line, examples: Examples, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(Evicted):
        trained(line.name, examples, Interrupting(str(tmp_path), 3))
    model, fitted = trained(line.name, examples, Checkpoints(str(tmp_path)))
    for one, other in zip(line.model.state(), model.state(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert fitted.held_out == line.fitted.held_out
    np.testing.assert_array_equal(fitted.frames, line.fitted.frames)


def test_the_saved_model_offers_the_signatures_of_its_family(line: Line) -> None:
    variant = variants.load(line.name)
    offered = set(line.served.signatures)
    assert {"serving_default", "evaluate"} <= offered
    assert (offered >= GENERATIVE) == variant.generative
    assert (offered >= {"classify", "classify_images"}) == variant.classifies


def test_evaluation_goes_through_serialized_examples(line: Line, batch: Batch, serialized: tf.Tensor) -> None:
    model, variant = line.model, variants.load(line.name)
    measured = line.served.signatures["evaluate"](serialized)
    direct = model.metrics_per_example(batch, tf.constant([0, 0]), 3)
    for metric, value in direct.items():
        np.testing.assert_allclose(measured[metric], value, rtol=1e-4, atol=NATS, err_msg=metric)
        assert np.isfinite(value.numpy()).all(), metric
    if variant.generative:
        np.testing.assert_allclose(
            measured["elbo"], -(measured["distortion"] + measured["rate"]), rtol=1e-5, atol=NATS
        )
        np.testing.assert_allclose(
            measured["bits_per_dimension"], -measured["elbo"] / np.log(2) / PIXELS, rtol=1e-4
        )
    if variant.classifies:
        assert set(np.unique(measured["accuracy"])) <= {0.0, 1.0}
        assert (measured["cross_entropy"].numpy() >= 0).all()


def test_images_can_be_encoded_decoded_and_sampled(line: Line, batch: Batch, serialized: tf.Tensor) -> None:
    model, signatures = line.model, line.served.signatures
    if not variants.load(line.name).generative:
        pytest.skip("has no latents")
    latents = signatures["encode"](serialized)["latents"]
    np.testing.assert_allclose(latents, model.encode(batch.images), rtol=1e-4, atol=1e-4)
    decoded = signatures["decode"](latents=latents)["images"]
    np.testing.assert_allclose(signatures["reconstruct"](serialized)["reconstruction"], decoded, atol=1e-4)
    served = signatures["serving_default"](serialized)
    np.testing.assert_allclose(served["reconstruction"], decoded, atol=1e-4)

    def sample(seed: int) -> np.ndarray:
        return signatures["sample"](seed=tf.constant(seed), count=tf.constant(7))["images"].numpy()

    assert sample(1).shape == (7, SIDE, SIDE, 1)
    each = signatures["sample_each"]
    several = each(tf.constant([4, 5, 4]))["images"].numpy()
    np.testing.assert_array_equal(several[0], several[2])
    assert (several[0] != several[1]).any()
    np.testing.assert_allclose(each(tf.constant([5]))["images"][0], several[1], atol=1e-5)
    assert 0 <= sample(1).min() <= sample(1).max() <= 1
    np.testing.assert_array_equal(sample(1), sample(1))
    assert (sample(1) != sample(2)).any()


def test_all_samples_of_a_call_estimate_the_bound_of_one_sample_per_call(
    line: Line, serialized: tf.Tensor
) -> None:
    if not isinstance(line.model, GenerativeModel):
        pytest.skip("no likelihood")
    loaded = line.served
    together = loaded.log_weights(serialized, tf.constant(7), tf.constant(50)).numpy()
    assert together.shape == (50, 6)
    again = tf.constant(np.repeat(serialized.numpy(), 50))
    apart = loaded.signatures["log_weight"](examples=again, seed=tf.constant(11))["log_weight"].numpy()
    apart = apart.reshape(6, 50).T
    error = np.sqrt((together.var(axis=0) + apart.var(axis=0)) / 50)
    assert np.all(np.abs(together.mean(axis=0) - apart.mean(axis=0)) <= 5 * error + 0.02)


def test_labels_can_be_asked_for_without_giving_one(line: Line, digits: dict[str, Images]) -> None:
    if not variants.load(line.name).classifies:
        pytest.skip("does not classify")
    bare = tf.train.Example()
    bare.features.feature[IMAGE].bytes_list.value.append(digits[TRAIN_SPLIT].images[0].tobytes())
    answer = line.served.signatures["classify"](tf.constant([bare.SerializeToString()] * 2))
    assert answer["probabilities"].shape == [2, CLASSES]
    np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"], axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(answer["label"], tf.argmax(answer["probabilities"], axis=1))
