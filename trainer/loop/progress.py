"""The progress of training: a moving line on a terminal, a plain line now and then in a log."""

import contextvars
import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

LOG_SECONDS = 15.0

log = logging.getLogger(__name__)

Relay = Callable[[str], None]
_RELAY: contextvars.ContextVar[Relay | None] = contextvars.ContextVar("relay", default=None)


def relay(to: Relay) -> None:
    """Give the progress of trainings in this process to `to`, as text, in place of a line on the terminal."""
    _RELAY.set(to)


class Progress:
    """Context manager around a training loop; `update` takes the steps done so far and the latest terms.

    resumed: the step that training resumes from.
    """

    def __init__(self, name: str, steps: int, batch_size: int, resumed: int = 0) -> None:
        self._name, self._steps, self._batch_size, self._resumed = name, steps, batch_size, resumed
        self._started = self._logged = time.perf_counter()
        self._relay = _RELAY.get()
        self._bar = tqdm(
            total=steps,
            initial=resumed,
            desc=f"  {name}",
            unit="step",
            file=sys.stdout,
            leave=False,
            disable=self._relay is not None or not sys.stdout.isatty(),
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Progress":
        if self._resumed:
            log.info("%s: goes on after step %d of %d", self._name, self._resumed, self._steps)
        else:
            log.info("%s: training, %d steps", self._name, self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self, done: int, values: dict[str, float]) -> None:
        """Show that `done` steps are taken; values: means since the last call, in nats."""
        shown = ", ".join(f"{term} {value:.4g}" for term, value in values.items())
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(done - self._bar.n)
        if self._relay:
            self._relay(f"{done / self._steps:4.0%} of {self._steps} steps, {shown}")
        now = time.perf_counter()
        if now - self._logged >= LOG_SECONDS or done == self._steps:
            rate = (done - self._resumed) / (now - self._started)
            left = (self._steps - done) / rate
            log.info(
                "%s: step %d of %d, %.0f images/s, %.0f s left, %s",
                self._name, done, self._steps, rate * self._batch_size, left, shown,
            )  # fmt: skip
            self._logged = now
