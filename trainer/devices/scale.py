"""Where training runs: one device, all GPUs of this machine, or several machines, with the same loop.

Every worker of a TF_CONFIG cluster runs the same program on the same data. The global batch is split evenly,
each replica works on its rows with the noise that one device would give them, and gradients are summed, so
that the result is one device's up to rounding. Only the chief writes.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

TF_CONFIG = "TF_CONFIG"


def choose(environment: Mapping[str, str]) -> tf.distribute.Strategy:
    """Return the strategy of this process: several workers by TF_CONFIG, several local GPUs, or one device.

    Call it before anything else runs in TensorFlow: a cluster can only be joined first. Raises ValueError for
    a TF_CONFIG that is not one.
    """
    if len(_workers(environment)) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(environment: Mapping[str, str]) -> bool:
    """Return whether this process writes for all: the one worker, the `chief`, or else worker 0."""
    if len(_workers(environment)) < 2:
        return True
    found = _parsed(environment)
    task = found.get("task", {})
    if found["cluster"].get("chief"):
        return bool(task.get("type") == "chief")
    return bool(task.get("type") == "worker" and int(task.get("index", -1)) == 0)


def in_step(strategy: tf.distribute.Strategy) -> bool:
    """Return whether other processes take every step together with this one."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Trace graphs inside the context with 16-bit arithmetic where TensorFlow deems it safe, if `mixed`.

    That is float16 on GPUs and bfloat16 on CPUs. Losses are sums of nats over pixels, whose gradients are
    large enough for float16 without scaling.
    """
    if not mixed:
        yield
        return
    gpus = tf.config.list_physical_devices("GPU")
    option = "auto_mixed_precision" if gpus else "auto_mixed_precision_onednn_bfloat16"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})


def _workers(environment: Mapping[str, str]) -> list[str]:
    cluster = _parsed(environment).get("cluster", {})
    return [*cluster.get("chief", []), *cluster.get("worker", [])]


def _parsed(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    text = environment.get(TF_CONFIG) or "{}"
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{TF_CONFIG} is not JSON ({error}); unset it to train on one machine") from error
    if not isinstance(found, dict) or not isinstance(found.get("cluster", {}), dict):
        raise ValueError(f"{TF_CONFIG} holds no cluster object; unset it to train on one machine")
    return found
