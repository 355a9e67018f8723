"""Train the tiny model: train.py OUT STEPS [CHECKPOINTS]; devices by LOGICAL_DEVICES and TF_CONFIG."""

import os
import sys

import numpy as np
import tensorflow as tf
import tiny

from trainer.devices import scale
from trainer.loop.checkpoints import Checkpoints
from trainer.loop.fit import fit


def main(out: str, steps: str, folder: str = "") -> None:
    devices = int(os.environ.get("LOGICAL_DEVICES", "1"))
    if devices > 1:
        [cpu] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(devices)])
    else:
        strategy = scale.choose(os.environ)
    chief = scale.is_chief(os.environ)
    kept = Checkpoints(folder, seconds=0.0, writes=chief) if folder else None
    with strategy.scope():
        model = tiny.build()
    fitted = fit(
        model, tiny.examples(), recipe=tiny.RECIPE, steps=int(steps), protocol="threshold", seed=3,
        name="tiny", held_out=tiny.examples(50), checkpoints=kept, strategy=strategy,
    )  # fmt: skip
    if chief:
        module = tf.Module()
        module.model = model
        tf.saved_model.save(module, f"{out}.model")
        held_out = [[point.step, *point.values.values()] for point in fitted.held_out]
        np.savez(out, **tiny.weights(model), held_out=held_out, frames=fitted.frames)
    print("done", strategy.num_replicas_in_sync, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
