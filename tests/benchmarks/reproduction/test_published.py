import dataclasses
import math
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.reproduction.published import (
    FIGURES,
    NOT_MEASURED,
    Data,
    Figure,
    Moment,
    Range,
    Training,
    around,
    error_rate,
    mean_of,
)
from components.ingest import idx, sources
from schemas import PIXELS, SIDE, TEST_SPLIT, TRAIN_SPLIT
from trainer import variants
from trainer.loop.history import Point
from trainer.models.model import Batch

ANY = Range()


def named(figure: Figure) -> str:
    return figure.key


@pytest.fixture(scope="module")
def data(digits_folder: pathlib.Path) -> Data:
    return Data(sources.from_folder(str(digits_folder)))


@pytest.mark.parametrize("figure", FIGURES, ids=named)
def test_the_variants_take_what_the_table_gives_them(figure: Figure) -> None:
    for training in figure.trainings:
        training.check()
    assert 0 <= figure.since < figure.step


@pytest.mark.parametrize("figure", FIGURES, ids=named)
def test_what_is_published_is_accepted(figure: Figure) -> None:
    assert all(figure.accepted.holds(value) for value in figure.published)


@pytest.mark.parametrize("figure", FIGURES, ids=named)
def test_a_difference_is_taken_seed_by_seed(figure: Figure) -> None:
    assert {training.seeds for training in figure.trainings} == {figure.training.seeds}


def test_no_two_rows_have_the_same_key() -> None:
    keys = [figure.key for figure in FIGURES]
    assert len(set(keys)) == len(keys)


def test_what_is_not_measured_is_a_variant_without_a_row() -> None:
    left_out = {name for name, _, _ in NOT_MEASURED}
    assert left_out <= set(variants.names())
    assert not left_out & {figure.training.variant for figure in FIGURES}


def test_a_training_that_no_variant_can_do_is_named() -> None:
    with pytest.raises(ValueError, match="row of absent cannot be trained: unknown variant.*cvae"):
        Training("absent").check()
    with pytest.raises(ValueError, match="row of linear .*config.colour: no such field"):
        Training("linear", {"colour": 1}).check()
    with pytest.raises(ValueError, match="row of linear .*recipe.colour: no such field"):
        Training("linear", {}, {"colour": 1}).check()


@pytest.mark.parametrize(
    ("accepted", "inside", "outside"),
    [
        (around(2.0, 0.5), [1.5, 2.0, 2.5], [1.49, 2.51]),
        (Range(low=3.0), [3.0, 1e9], [2.999, -1e9]),
        (Range(high=3.0), [3.0, -1e9], [3.001]),
    ],
)
def test_a_range_holds_its_ends_and_no_nan(
    accepted: Range, inside: list[float], outside: list[float]
) -> None:
    assert all(accepted.holds(value) for value in inside)
    assert not any(accepted.holds(value) for value in [*outside, math.nan])


def test_ranges_in_words() -> None:
    words = [around(2.0, 0.5).text(1), Range(low=3.0).text(0), Range(high=0.14).text(2)]
    assert words == ["1.5 to 2.5", "at least 3", "at most 0.14"]


@pytest.mark.parametrize(
    ("published", "value", "difference"),
    [
        ((2.0,), 2.5, 0.5),
        ((2.0,), 1.5, -0.5),
        ((1.0, 2.0), 1.7, 0.0),
        ((1.0, 2.0), 2.25, 0.25),
        ((), 1.0, None),
    ],
)
def test_the_difference_is_the_distance_from_what_was_published(
    published: tuple[float, ...], value: float, difference: float | None
) -> None:
    assert Figure(Training("linear"), 1, "x", mean_of("x"), ANY, published).difference(value) == difference


@pytest.mark.parametrize("since", [0, 3, 10])
def test_a_running_mean_weighs_every_step_alike_however_long_the_chunks(since: int, data: Data) -> None:
    losses = np.random.default_rng(0).normal(size=25)
    ends = [1, 3, 10, 11, 25]
    starts = [0, *ends[:-1]]
    curve = [
        Point(end, {"loss": float(losses[start:end].mean())}) for start, end in zip(starts, ends, strict=True)
    ]
    moment = Moment(variants.load("linear").build({}), curve, Training("linear"), data, 0)
    assert moment.running_mean("loss", since) == pytest.approx(losses[since:].mean())


def test_the_loss_of_a_split_is_its_mean_in_batches_of_the_recipe(
    data: Data, digits: dict[str, idx.Images]
) -> None:
    keras.utils.set_random_seed(0)
    model = variants.load("mlp_sparse").build({"objective": "source"})
    training = Training("mlp_sparse", {"objective": "source"}, {"batch_size": 50}, "grey")
    images, labels = digits[TRAIN_SPLIT]
    pixels = (images / 255).astype(np.float32).reshape(-1, SIDE, SIDE, 1)
    batches = [
        Batch(tf.constant(pixels[i : i + 50]), tf.constant(labels[i : i + 50].astype(np.int64)))
        for i in range(0, len(labels), 50)
    ]
    expected = np.mean([np.mean(model.objective(batch, tf.constant([0, 0])).loss) for batch in batches])
    moment = Moment(model, [], training, data, 0)
    assert moment.loss(TRAIN_SPLIT) == pytest.approx(expected, rel=1e-4)


def test_the_test_set_is_binarized_as_the_training_says(data: Data, digits: dict[str, idx.Images]) -> None:
    keras.utils.set_random_seed(0)
    model = variants.load("linear").build({})
    images, labels = digits[TEST_SPLIT]
    binary = tf.constant((images > 127).astype(np.float32).reshape(-1, SIDE, SIDE, 1))
    found = tf.argmax(model.logits(binary), axis=1).numpy() == labels
    figure = Figure(Training("linear", protocol="grey", tested="threshold"), 1, "x", mean_of("accuracy"), ANY)
    moment = Moment(model, [], figure.training, data, 0)
    assert figure.measure(moment, figure) == pytest.approx(found.mean())
    assert error_rate(moment, figure) == pytest.approx(1 - found.mean())
    grey = dataclasses.replace(figure.training, tested="")
    assert Moment(model, [], grey, data, 0).test["cross_entropy"] != moment.test["cross_entropy"]


def test_active_units_are_latents_whose_mean_varies_over_the_test_set(data: Data) -> None:
    model = variants.load("cvae").build({"latent": 3})
    moment = Moment(model, [], Training("cvae", {"latent": 3}), data, 0)
    examples = data.examples(TEST_SPLIT, "threshold")
    images = tf.reshape(tf.cast(examples.pixels, tf.float32), [-1, SIDE, SIDE, 1])
    means = model.encode(images).numpy()
    assert moment.test["active_units"] == np.count_nonzero(means.var(axis=0) > 0.01)


def test_the_data_are_those_transform_would_leave(data: Data, digits: dict[str, idx.Images]) -> None:
    images, labels = digits[TRAIN_SPLIT]
    grey, binary = (data.examples(TRAIN_SPLIT, protocol) for protocol in ("grey", "threshold"))
    np.testing.assert_array_equal(grey.pixels, images.reshape(-1, PIXELS))
    np.testing.assert_array_equal(binary.pixels, images.reshape(-1, PIXELS) > 127)
    assert binary.pixels.dtype == np.uint8
    assert binary.labels.dtype == np.int64
    np.testing.assert_array_equal(binary.labels, labels)
