"""Take two steps of every variant on one device and on two; print how far apart their weights are, as JSON.

Distances are in learning rates, which is about what an optimizer moves a weight in a step.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from schemas import CLASSES, PIXELS
from trainer import data, variants
from trainer.steps import Steps

IMAGES, BATCH, STEPS = 400, 40, 2


def train(name: str, examples: data.Examples, strategy: tf.distribute.Strategy) -> list[np.ndarray]:
    variant = variants.load(name)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = variant.build({})
    recipe = variant.recipe.with_overrides({"batch_size": BATCH})
    Steps(model, examples, recipe, "threshold", 0, strategy).run(0, STEPS, name)
    return [variable.numpy() for variable in model.state()]


def main() -> None:
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    draw = np.random.default_rng(0)
    pixels = (draw.random([IMAGES, PIXELS]) < 0.2).astype(np.uint8)
    examples = data.Examples(pixels, np.arange(IMAGES) % CLASSES)
    found = {}
    for name in variants.names():
        pairs = zip(train(name, examples, one), train(name, examples, two), strict=True)
        furthest = max(float(np.abs(alone - shared).max()) for alone, shared in pairs)
        found[name] = furthest / variants.load(name).recipe.learning_rate
        keras.backend.clear_session()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
