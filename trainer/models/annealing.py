"""How far the warm-up of the KL divergence has come in the training step that is being traced.

At the start of training a generative model pays only part of its rate, so that its latents carry something
before they are charged for it (Bowman et al. 2016; Sonderby et al. 2016). The recipe's `kl_warm_up` says over
how many steps. Outside of training, and in recipes without a warm-up, the rate is charged in full.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import tensorflow as tf


@dataclasses.dataclass
class WarmUp:
    """A warm-up in progress.

    Attributes:
      progress: float32 [] in [0, 1].
      heeded: whether the code traced so far has charged a rate by it.
    """

    progress: tf.Tensor
    heeded: bool = False


_WARM_UP: contextvars.ContextVar[WarmUp | None] = contextvars.ContextVar("warm_up", default=None)


@contextlib.contextmanager
def warming(progress: tf.Tensor | None) -> Iterator[WarmUp | None]:
    """Trace the code inside the context at this progress, float32 [] in [0, 1]; None for no warm-up."""
    warm_up = None if progress is None else WarmUp(progress)
    token = _WARM_UP.set(warm_up)
    try:
        yield warm_up
    finally:
        _WARM_UP.reset(token)


def charged(rate: tf.Tensor, start: float = 0.0) -> tf.Tensor:
    """Return what training pays for a rate; [B] -> [B], in nats.

    start: the share of the rate that is paid in the first step; it rises to 1 linearly.
    """
    warm_up = _WARM_UP.get()
    if warm_up is None:
        return rate
    warm_up.heeded = True
    return (start + (1.0 - start) * warm_up.progress) * rate
