"""devices.py NAME...: take two steps in several ways; print how far apart the weights are, as JSON.

The ways: on one device and on two, laid out for one core and for two. Distances are relative to how far the
steps move the weights: rounding is far below 1, another batch or other noise about 1.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from schemas import CLASSES, PIXELS
from trainer import variants
from trainer.loop import data
from trainer.loop.steps import Steps
from trainer.models.model import Model

IMAGES, BATCH, STEPS = 400, 40, 2


def train(
    name: str, examples: data.Examples, strategy: tf.distribute.Strategy, cores: int
) -> tuple[np.ndarray, np.ndarray]:
    """All the model's numbers before and after."""
    variant = variants.load(name)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = variant.build({})
    recipe = variant.recipe.with_overrides({"batch_size": BATCH, "cores": cores})
    steps = Steps(model, examples, recipe, "threshold", 0, strategy)
    before = numbers(model)
    steps.run(0, STEPS, name)
    return before, numbers(model)


def numbers(model: Model) -> np.ndarray:
    return np.concatenate([variable.numpy().ravel() for variable in model.state()])


def main(*names: str) -> None:
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    draw = np.random.default_rng(0)
    pixels = (draw.random([IMAGES, PIXELS]) < 0.2).astype(np.uint8)
    examples = data.Examples(pixels, np.arange(IMAGES) % CLASSES)
    found = {}
    for name in names:
        before, alone = train(name, examples, one, 1)
        others = {"devices": train(name, examples, two, 1), "cores": train(name, examples, one, 2)}
        moved = np.linalg.norm(alone - before)
        found[name] = {
            way: float(np.linalg.norm(after - alone) / moved) for way, (_, after) in others.items()
        }
        keras.backend.clear_session()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
