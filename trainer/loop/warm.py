"""Warm starts: a fresh model takes over the weights of an exported one before its first step."""

import logging
import posixpath

import tensorflow as tf

from trainer.models.model import Model

log = logging.getLogger(__name__)

NO_BASE = "no model in production was trained on other data"


class WarmStart:
    """Where a training run starts from.

    base: folder of a SavedModel that trainer.export wrote, or empty where there is none; name: for messages.
    After `give`, `why_cold` says why the model was left as it was built; it is empty where the model has the
    base's weights.
    """

    def __init__(self, base: str | None, name: str) -> None:
        self.base = base or ""
        self._name = name
        self.why_cold = "" if base else NO_BASE

    def give(self, model: Model) -> None:
        """Give every variable of `model`, which must have all of them, its value in the base.

        This includes what the base first saw of its data (a codebook, labelled images). It is all variables
        or none: a base of another configuration, or one that cannot be read, leaves a cold start with a
        warning.
        """
        if not self.base:
            log.warning("%s starts cold: %s", self._name, self.why_cold)
            return
        before = [variable.numpy() for variable in model.state()]
        try:
            read(model, self.base)
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            for variable, value in zip(model.state(), before, strict=True):
                variable.assign(value)
            self.why_cold = f"the weights of {self.base} do not fit ({_first_line(error)})"
            log.warning("%s starts cold: %s", self._name, self.why_cold)
        else:
            log.info("%s starts from the weights of %s", self._name, self.base)

    def to_dict(self) -> dict[str, str]:
        """Return what the training record holds: `base` or `why_cold`."""
        return {"why_cold": self.why_cold} if self.why_cold else {"base": self.base}


def read(model: Model, saved_model: str) -> None:
    """Read the variables of `model` from a SavedModel of trainer.export, which lists them as `state`.

    Raises AssertionError where the SavedModel lacks a variable, ValueError where one has another shape, and
    tf.errors.OpError where it cannot be read.
    """
    checkpoint = tf.train.Checkpoint(state=model.state())
    status = checkpoint.read(posixpath.join(saved_model, "variables", "variables"))
    status.assert_existing_objects_matched()


def _first_line(error: Exception) -> str:
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
