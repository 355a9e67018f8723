"""A clean stop when SIGTERM takes the machine away."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

log = logging.getLogger(__name__)


class Evicted(SystemExit):
    """Training was stopped by SIGTERM and has left a checkpoint.

    It ends the process with the status of a SIGTERM, past everything that would continue after a mere
    failure, such as the training of the next variant.
    """


class Eviction:
    """Context manager that records a SIGTERM instead of dying of it; in the main thread, where Python can."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._holds = False

    def __enter__(self) -> "Eviction":
        self._holds = threading.current_thread() is threading.main_thread()
        if self._holds:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._holds:
            signal.signal(signal.SIGTERM, self._before)

    def leave(self, name: str, step: int) -> NoReturn:
        """Log the stop and raise Evicted."""
        log.warning("%s: stopped (SIGTERM) after step %d; the same run resumes from there", name, step)
        raise Evicted(128 + signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
