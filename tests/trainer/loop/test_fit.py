import pathlib
import posixpath
import signal
import types
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from interrupted import Interrupting
from tallies import Section

from schemas import CLASSES, PIXELS, SIDE
from trainer import run, variants
from trainer.job import Job
from trainer.loop import data, steps
from trainer.loop import fit as fitting
from trainer.loop.checkpoints import Checkpoints
from trainer.loop.eviction import Evicted
from trainer.loop.fit import NonFiniteLoss, fit
from trainer.models import annealing
from trainer.models.model import Batch, Model, Objective
from trainer.recipe import REMOVED, Budget, Recipe

RECIPE = Recipe(
    steps=Budget(1, 1, 1), floor=Budget(0, 0, 0), optimizer="sgd", learning_rate=0.125, batch_size=4
)


class Slope(Model):
    """One weight w, whose loss is w at every step but those named, where loss or gradient is not finite."""

    def __init__(
        self,
        bad_loss: Sequence[int] = (),
        bad_gradient: Sequence[int] = (),
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.w = self.add_weight(shape=[], initializer=keras.initializers.Constant(start))
        self.bad_loss, self.bad_gradient = bad_loss, bad_gradient

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        step = seed[1] // steps.SEEDS_A_STEP
        loss = tf.where(self.among(step, self.bad_loss), np.nan, self.w.value)
        infinite_slope = tf.sqrt(tf.abs(self.w.value - tf.stop_gradient(self.w.value)))
        loss += tf.where(self.among(step, self.bad_gradient), infinite_slope, 0.0)
        losses = tf.fill(tf.shape(batch.labels), loss)
        return Objective(losses, {"double": 2.0 * losses})

    def metrics_per_example(self, batch: Batch, seed: tf.Tensor, samples: int) -> dict[str, tf.Tensor]:
        return {"elbo": tf.fill(tf.shape(batch.labels), -self.w.value)}

    @staticmethod
    def among(step: tf.Tensor, bad: Sequence[int]) -> tf.Tensor:
        return tf.reduce_any(tf.equal(step, tf.constant(bad, tf.int32, shape=[len(bad)])))


def examples(count: int = 37, seed: int = 0) -> data.Examples:
    draw = np.random.default_rng(seed)
    return data.Examples(
        draw.integers(0, 2, [count, PIXELS]).astype(np.uint8), draw.integers(0, CLASSES, count)
    )


def classifier(hidden: int = 8) -> Any:
    keras.utils.set_random_seed(1)
    return variants.load("mlp").build({"hidden": (hidden,)})


def train(model: Model, steps: int, recipe: Recipe = RECIPE, **more: Any) -> fitting.Fitted:
    return fit(
        model, more.pop("examples", examples()), recipe=recipe, steps=steps, protocol="threshold",
        seed=more.pop("seed", 0), name="tried", **more,
    )  # fmt: skip


def weights(model: Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.state()]


def assert_same(ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> None:
    assert all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))


def test_steps_of_a_linear_classifier_are_those_of_the_formula() -> None:
    model = classifier()
    model.network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
    model.network.build([None, SIDE, SIDE, 1])
    kernel, bias = (value.astype(np.float64) for value in model.network.get_weights())
    seen = examples()
    train(model, 5)
    for chosen in data.batch_indices(len(seen.labels), RECIPE.batch_size, 0, 5, seed=0):
        images, hot = seen.pixels[chosen].astype(float), np.eye(CLASSES)[seen.labels[chosen]]
        scores = np.exp(images @ kernel + bias)
        slope = (scores / scores.sum(axis=1, keepdims=True) - hot) / len(chosen)
        kernel -= RECIPE.learning_rate * images.T @ slope
        bias -= RECIPE.learning_rate * slope.sum(axis=0)
    got = model.network.get_weights()
    np.testing.assert_allclose(got[0], kernel, atol=1e-4)
    np.testing.assert_allclose(got[1], bias, atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    models = [classifier() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        train(model, 30, seed=seed)
    assert_same(weights(models[0]), weights(models[1]))
    assert not np.array_equal(weights(models[0])[0], weights(models[2])[0])


def test_how_many_steps_a_call_takes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = classifier(), classifier()
    train(whole, 100)
    monkeypatch.setattr(fitting, "FIRST_CHUNK", 1)
    monkeypatch.setattr(fitting, "LONGEST_CHUNK", 3)
    train(pieces, 100)
    assert_same(weights(whole), weights(pieces))


def test_looking_at_held_out_images_changes_nothing_of_the_model() -> None:
    unseen, seen = classifier(), classifier()
    train(unseen, 60)
    fitted = train(seen, 60, held_out=examples(20, seed=9))
    assert_same(weights(unseen), weights(seen))
    assert [point.step for point in fitted.held_out] == list(range(5, 61, 5))


def test_held_out_terms_are_means_over_the_held_out_images() -> None:
    model, held_out = classifier(), examples(310, seed=9)
    last = train(model, 3, held_out=held_out, recipe=RECIPE).held_out[-1]
    logits = model.logits(
        tf.reshape(tf.constant(held_out.pixels[:100], tf.float32), [-1, SIDE, SIDE, 1])
    ).numpy()
    right = (logits.argmax(axis=1) == held_out.labels[:100]).mean()
    assert last.values["accuracy"] == pytest.approx(right)
    assert set(last.values) == {"loss", "accuracy"}


def test_the_curve_holds_means_of_the_terms_over_each_chunk() -> None:
    curve = train(Slope(), 24).curve
    before = 0
    for point in curve:
        steps_taken = np.arange(before, point.step)
        assert point.values["loss"] == pytest.approx(-RECIPE.learning_rate * steps_taken.mean())
        assert point.values["double"] == pytest.approx(2 * point.values["loss"])
        before = point.step
    assert before == 24


def test_a_generative_model_leaves_frames_and_a_classifier_none() -> None:
    cvae = variants.load("cvae").build({})
    calm = RECIPE.with_overrides({"learning_rate": 1e-4})
    fitted = train(cvae, 12, calm, held_out=examples(10))
    assert fitted.frames.shape == (12, 25, SIDE, SIDE)
    assert fitted.frames.dtype == np.uint8
    assert fitted.frame_steps.tolist() == list(range(1, 13))
    drawn = cvae.sample(tf.constant(25), tf.constant([1, 0])).numpy()[..., 0]
    np.testing.assert_allclose(fitted.frames[-1] / 255, drawn, atol=0.5 / 255 + 1e-6)
    assert train(classifier(), 12, held_out=examples(10)).frames.shape[0] == 0


def test_a_non_finite_loss_stops_training_and_names_what_broke() -> None:
    with pytest.raises(NonFiniteLoss) as caught:
        train(Slope(bad_loss=[7]), 50)
    text = str(caught.value)
    assert "tried: loss and double became non-finite at step 7" in text
    assert f"last finite values: loss {-6 * RECIPE.learning_rate:.6g}, double" in text


@pytest.mark.parametrize("last", [3, 50])
def test_a_non_finite_gradient_stops_training_even_at_the_last_step(last: int) -> None:
    with pytest.raises(NonFiniteLoss, match="tried: .* became non-finite"):
        train(Slope(bad_gradient=[2]), last)


def test_with_clipping_a_non_finite_gradient_is_named() -> None:
    recipe = RECIPE.with_overrides({"clip_norm": 1.0})
    with pytest.raises(NonFiniteLoss, match="model gradient became non-finite at step 2"):
        train(Slope(bad_gradient=[2]), 50, recipe)


def test_a_clipped_update_has_the_norm_that_it_is_clipped_to() -> None:
    model = classifier()
    before = None
    recipe = RECIPE.with_overrides({"clip_norm": 0.001, "learning_rate": 1.0})
    model.logits(tf.zeros([1, SIDE, SIDE, 1]))
    before = weights(model)
    train(model, 1, recipe)
    moved = np.sqrt(sum(np.sum((a - b) ** 2.0) for a, b in zip(weights(model), before, strict=True)))
    assert moved == pytest.approx(0.001, rel=1e-2)


def test_averaged_weights_follow_their_recursion() -> None:
    model = Slope(start=1.0)
    train(model, 40, RECIPE.with_overrides({"ema_decay": 0.9}))
    weight = average = 1.0
    for step in range(40):
        weight -= RECIPE.learning_rate
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert model.w.numpy() == pytest.approx(average, rel=1e-5)


def learning_rates(warm_up: int, cosine: bool, steps: int) -> np.ndarray:
    """The learning rate of each step, in NumPy."""
    t = np.arange(steps)
    rising = np.minimum((t + 1) / warm_up, 1.0) if warm_up else np.ones(steps)
    falling = 0.5 * (1 + np.cos(np.pi * np.maximum(t - warm_up, 0) / (steps - warm_up))) if cosine else 1.0
    return np.asarray(RECIPE.learning_rate * rising * falling)


@pytest.mark.parametrize(("warm_up", "decay"), [(10, "constant"), (0, "cosine"), (10, "cosine")])
def test_the_learning_rate_follows_its_schedule_also_across_a_stop(
    warm_up: int, decay: str, tmp_path: pathlib.Path
) -> None:
    recipe = RECIPE.with_overrides({"warm_up": warm_up, "decay": decay})
    expected = -learning_rates(warm_up, decay == "cosine", 60).sum()
    train(whole := Slope(), 60, recipe)
    assert whole.w.numpy() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(Evicted):
        train(Slope(), 60, recipe, checkpoints=Interrupting(str(tmp_path), 4))
    train(resumed := Slope(), 60, recipe, checkpoints=Checkpoints(str(tmp_path)))
    assert_same(weights(whole), weights(resumed))


class Charged(Slope):
    """A weight that goes down by the share of a rate of 1 nat that is charged."""

    def objective(self, batch: Batch, seed: tf.Tensor) -> Objective:
        slope = super().objective(batch, seed)
        return Objective(annealing.charged(slope.loss, 0.2), slope.terms)


def test_the_rate_warms_up_linearly_and_a_loss_without_one_is_refused() -> None:
    recipe = RECIPE.with_overrides({"kl_warm_up": 10})
    shares = np.minimum(0.2 + 0.8 * np.arange(25) / 10, 1.0)
    train(model := Charged(), 25, recipe)
    assert model.w.numpy() == pytest.approx(-RECIPE.learning_rate * shares.sum(), rel=1e-5)
    with pytest.raises(ValueError, match="kl_warm_up: the loss .* has no rate"):
        train(Slope(), 1, recipe)


def adam_averaged(**more: Any) -> Recipe:
    return RECIPE.with_overrides({"optimizer": "adam", "learning_rate": 1e-2, "ema_decay": 0.9, **more})


def test_told_to_leave_it_checkpoints_at_once_and_goes_on_to_the_same_end(tmp_path: pathlib.Path) -> None:
    whole, broken, resumed = classifier(), classifier(), classifier(hidden=8)
    held_out = examples(30, seed=4)
    expected = train(whole, 60, adam_averaged(), held_out=held_out)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Evicted) as caught:
        train(broken, 60, adam_averaged(), held_out=held_out, checkpoints=Interrupting(str(tmp_path), 4))
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert [int(path.name.split("-")[0]) for path in tmp_path.iterdir()] == [25]
    fitted = train(resumed, 60, adam_averaged(), held_out=held_out, checkpoints=Checkpoints(str(tmp_path)))
    assert_same(weights(whole), weights(resumed))
    assert fitted.held_out == expected.held_out
    assert fitted.curve[-1].step == 60


def test_trouble_leaves_the_last_good_checkpoint(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NonFiniteLoss):
        train(Slope(bad_loss=[40]), 60, checkpoints=Checkpoints(str(tmp_path), seconds=0.0))
    latest = Checkpoints(str(tmp_path)).latest()
    assert latest is not None
    assert latest["variable_0000"] == -40 // 5 * 5 * RECIPE.learning_rate


def test_compiled_with_xla_it_is_the_same_mathematics() -> None:
    plain, compiled = classifier(), classifier()
    train(plain, 10)
    train(compiled, 10, RECIPE.with_overrides({"jit_compile": True}))
    for ours, theirs in zip(weights(plain), weights(compiled), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_mixed_precision_is_off_again_afterwards_and_stays_near() -> None:
    plain, mixed = classifier(), classifier()
    train(plain, 10)
    options = tf.config.optimizer.get_experimental_options()
    train(mixed, 10, RECIPE.with_overrides({"mixed_precision": True}))
    after = tf.config.optimizer.get_experimental_options()
    assert not any(after.get(name) for name in after.keys() - options.keys())
    for ours, theirs in zip(weights(plain), weights(mixed), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.1)


@pytest.mark.parametrize(
    "field",
    [
        {"clip_norm": -1.0},
        {"ema_decay": 1.0},
        {"optimizer": "adma"},
        {"steps": 0},
        {"warm_up": -1},
        {"kl_warm_up": -1},
        {"decay": "linear"},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        RECIPE.with_overrides(field)


@pytest.mark.parametrize("field", REMOVED)
def test_a_field_that_was_removed_says_so(field: str) -> None:
    with pytest.raises(ValueError, match=rf"recipe\.{field}: .* was removed in 0\.2; set "):
        RECIPE.with_overrides({field: 3})


def test_checkpoints_lie_beside_the_components_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(variant="mlp", dataset="x")
    args = types.SimpleNamespace(
        model_run_dir="gs://bucket/root/Trainer.mlp/model_run/7",
        custom_config={"code": "c"},
        train_files=["t"],
        base_model=None,
    )
    monkeypatch.delenv(run.CHECKPOINTS_VARIABLE, raising=False)
    folder = run.checkpoint_folder(args, job)
    assert folder.startswith("gs://bucket/root/checkpoints/mlp-")
    args.model_run_dir = "gs://bucket/root/Trainer.mlp/model_run/8"
    assert run.checkpoint_folder(args, job) == folder
    args.custom_config = {"code": "changed"}
    assert run.checkpoint_folder(args, job) != folder
    args.custom_config, args.base_model = {"code": "c"}, "gs://bucket/root/Trainer.mlp/model/3"
    assert run.checkpoint_folder(args, job) != folder
    monkeypatch.setenv(run.CHECKPOINTS_VARIABLE, "/scratch")
    assert run.checkpoint_folder(args, job).startswith("/scratch/mlp-")


@pytest.mark.parametrize(("scratch", "same"), [("", True), ("/scratch", False)])
@pytest.mark.section(Section.MOVED)
def test_a_training_goes_on_after_its_home_was_moved_and_two_homes_never_share_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, scratch: str, same: bool
) -> None:
    monkeypatch.setenv(run.CHECKPOINTS_VARIABLE, scratch)

    def name(root: str) -> str:
        args = types.SimpleNamespace(
            model_run_dir=f"{root}/Trainer.mlp/model_run/7", custom_config={"code": "c"},
            train_files=[f"{root}/Transform/transformed_examples/5/Split-train/part-0"],
            base_model=f"{root}/Trainer.mlp/model/3",
        )  # fmt: skip
        folder = run.checkpoint_folder(args, Job(variant="mlp", dataset="x"))
        assert folder.startswith(scratch or f"{root}/checkpoints")
        return posixpath.basename(folder)

    assert (name("/home/before") == name("/mnt/after")) is same
