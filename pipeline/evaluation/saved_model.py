"""Load a SavedModel of which nothing is known yet."""

from typing import Any

import tensorflow as tf


def load(folder: str, failure: type[Exception]) -> Any:
    """Load the SavedModel in `folder`. Raises `failure` with one line if it is damaged.

    Loading makes the model's graph runnable: a model from somebody else is a program from somebody else.
    """
    try:
        return tf.saved_model.load(folder)
    except (OSError, IndexError, KeyError, ValueError, RuntimeError, tf.errors.OpError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise failure(
            f"{folder} is a damaged SavedModel ({words[:200]}); take an earlier version, or push it again"
        ) from error
