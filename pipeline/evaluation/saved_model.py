"""Find and load a SavedModel of which nothing is known yet."""

import os
import pathlib
from typing import Any


def newest_version(folder: str) -> str:
    """Return the newest of the numbered versions in `folder`, or `folder` itself if there are none."""
    place = pathlib.Path(folder).expanduser()
    if not place.is_dir():
        return str(place)
    numbers = [int(name) for name in os.listdir(place) if name.isdecimal() and (place / name).is_dir()]
    return str(place / str(max(numbers))) if numbers else str(place)


def load(folder: str, failure: type[Exception]) -> Any:
    """Load the SavedModel in `folder`. Raises `failure` with one line if there is none or it is damaged.

    Loading makes the model's graph runnable: a model from somebody else is a program from somebody else.
    """
    import tensorflow as tf

    if not tf.saved_model.contains_saved_model(folder):
        raise failure(
            f"{folder} is not a SavedModel; give a folder that holds saved_model.pb, such as "
            "out/serving/<variant>/<version>"
        )
    try:
        return tf.saved_model.load(folder)
    except (OSError, IndexError, KeyError, ValueError, RuntimeError, tf.errors.OpError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise failure(
            f"{folder} is a damaged SavedModel ({words[:200]}); take an earlier version, or push it again"
        ) from error
