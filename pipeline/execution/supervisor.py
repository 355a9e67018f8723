"""Start a container's work in a process of its own, and again when it fails, so often and no more.

Kubeflow Pipelines 2.17 starts no new pod for a container that exits with an error, older versions no new pod
for one that was evicted. What is done here holds on every version, and a process that the system kills, as
for want of memory, leaves somebody behind who says so. This process imports nothing that is large.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType

from pipeline.execution.events import tell

UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST_WAIT = 3600.0
"""Seconds between two attempts at most."""
STOPPED = 128 + signal.SIGTERM


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as 30s, 5m or 1h. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,6})([smh])", duration)
    if not match:
        raise ValueError(f"must be a duration such as 30s, 5m or 1h, got {duration!r}")
    return float(int(match[1]) * UNITS[match[2]])


class Supervisor:
    """Runs a command until it ends with a code that another attempt would not change."""

    def __init__(self, command: Sequence[str], again: Callable[[int], bool]) -> None:
        self._command = command
        self._again = again
        self._child: subprocess.Popen[bytes] | None = None
        self._told_to_stop = False

    def run(self, attempts: int, wait: float) -> int:
        """Return the exit code of the last attempt, negative if a signal ended it.

        attempts: at most; wait: seconds before the second, twice as many before the next, and so on. A
        SIGTERM is passed on, and no attempt follows it.
        """
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            for attempt in range(1, attempts + 1):
                code = self._once()
                if self._told_to_stop:
                    return code if code > 0 else STOPPED
                if attempt == attempts or not self._again(code):
                    return code
                pause = min(wait * 2 ** (attempt - 1), LONGEST_WAIT)
                tell(False, f"attempt {attempt} of {attempts} {ending(code)}; the next starts in {pause:g} s")
                if not self._sleep(pause):
                    return STOPPED
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        finally:
            signal.signal(signal.SIGTERM, before)

    def _once(self) -> int:
        self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        if self._told_to_stop:  # between the last look and the start
            self._child.terminate()
        return self._child.wait()

    def _sleep(self, duration: float) -> bool:
        """Wait; whether nobody said to stop meanwhile."""
        until = time.monotonic() + duration
        while not self._told_to_stop and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
        return not self._told_to_stop

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True
        if self._child and self._child.poll() is None:
            self._child.terminate()


def ending(code: int) -> str:
    """Return how a process ended, in words."""
    if code >= 0:
        return f"failed with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", perhaps for want of memory" if code == -signal.SIGKILL else "")


def command(arguments: Sequence[str], extra: Collection[str]) -> list[str]:
    """Return the command that runs a container's arguments in a process of its own."""
    return [sys.executable, "-m", "pipeline.node", *arguments, *extra]
