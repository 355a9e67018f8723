import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas import CLASSES, PIXELS
from trainer import variants
from trainer.loop import warm
from trainer.loop.data import Examples
from trainer.loop.steps import Steps
from trainer.models.model import Model


@pytest.fixture(scope="module")
def examples() -> Examples:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % CLASSES
    return Examples(generator.integers(0, 2, [40, PIXELS]).astype(np.uint8), labels.astype(np.int64))


class Export(tf.Module):
    """What trainer.export's SavedModel keeps of a model."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.state = model.state()


def built(
    seed: int, examples: Examples, start: warm.WarmStart | None = None, **config: tuple[int, ...]
) -> Steps:
    variant = variants.load("mlp")
    keras.utils.set_random_seed(seed)
    recipe = variant.recipe.with_overrides({"batch_size": 4, "ema_decay": 0.9})
    model = variant.build(config)
    return Steps(model, examples, recipe, "threshold", seed, tf.distribute.get_strategy(), start)


def values(steps: Steps) -> list[np.ndarray]:
    return [variable.numpy() for variable in steps.state.model.state()]


@pytest.fixture
def base(tmp_path: pathlib.Path, examples: Examples) -> tuple[str, Steps]:
    steps = built(1, examples)
    steps.run(0, 3, "mlp")
    tf.saved_model.save(Export(steps.state.model), str(tmp_path / "base"))
    return str(tmp_path / "base"), steps


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_averages_start_from_the_base_too(base: tuple[str, Steps], examples: Examples) -> None:
    folder, trained = base
    steps = built(2, examples, warm.WarmStart(folder, "mlp"))
    assert same(values(steps), values(trained))
    steps.state.take_averages()
    assert same(values(steps), values(trained))


def test_a_base_of_another_configuration_leaves_a_cold_start_that_says_so(
    base: tuple[str, Steps], examples: Examples, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = base
    start = warm.WarmStart(folder, "mlp")
    steps = built(2, examples, start, hidden=(7, 7))
    assert same(values(steps), values(built(2, examples, hidden=(7, 7))))
    assert f"the weights of {folder} do not fit" in start.to_dict()["why_cold"]
    assert "mlp starts cold: the weights of" in caplog.text


def test_a_base_that_is_not_there_leaves_a_cold_start_that_says_so(
    tmp_path: pathlib.Path, examples: Examples, caplog: pytest.LogCaptureFixture
) -> None:
    start = warm.WarmStart(str(tmp_path / "gone"), "mlp")
    steps = built(2, examples, start)
    assert same(values(steps), values(built(2, examples)))
    assert "gone" in start.to_dict()["why_cold"]
    assert "mlp starts cold" in caplog.text


def test_without_a_base_the_record_says_why_it_is_cold(
    examples: Examples, caplog: pytest.LogCaptureFixture
) -> None:
    start = warm.WarmStart(None, "mlp")
    built(2, examples, start)
    assert start.to_dict() == {"why_cold": warm.NO_BASE}
    assert caplog.messages == [f"mlp starts cold: {warm.NO_BASE}"]
