"""Nodes that run side by side, each in a process of its own: a fork of this one, which has done its imports.

A fork costs some hundredths of a second where imports cost seconds. What TensorFlow starts in a process does
not survive a fork, so this process only imports it.
"""

import contextlib
import dataclasses
import gc
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import NoReturn

from pipeline.config.errors import Stopped
from pipeline.execution import quiet
from pipeline.execution.display import Display
from pipeline.execution.supervisor import STOPPED, ending
from trainer.loop import progress

log = logging.getLogger(__name__)
STOPS = {signal.SIGINT, signal.SIGTERM}
GRACE = 60.0
"""Seconds that processes have to leave in good order, such as a trainer that writes a checkpoint."""
LAST = 10.0
"""Seconds that the system has to end a process that was killed."""
LOOK = 0.2
"""Seconds between two looks at what runs."""

PRELOADED = (
    "apache_beam.runners.portability.portable_runner", "matplotlib.backends.backend_agg", "matplotlib.figure",
    "tensorboard.summary.v2", "trainer.run", "trainer.transform",
)  # fmt: skip
"""Modules that components import when they run; imported before the forks, they cost their time once."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """How a node ended.

    Attributes:
      execution: its number in the metadata store; 0 if it failed, or a condition was false.
      cached: whether its outputs came from the cache.
      error: what went wrong; empty if nothing did.
      refused: whether that is the request's fault: its models could not be compared with what serves.
      lost: whether its process ended before it could say how the node ended.
    """

    execution: int = 0
    cached: bool = False
    error: str = ""
    refused: bool = False
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Ended:
    """A node that ended, how, and the seconds it took."""

    name: str
    result: Result
    seconds: float


Work = Callable[[Say], Result]
"""Runs a node, and shows the user what the node has to say."""


class Alone:
    """Runs one node after another in this process."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._ended: list[Ended] = []

    def __enter__(self) -> "Alone":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind: there is no process to end."""

    most = 1

    @property
    def free(self) -> int:
        """Return how many cores are free."""
        return 0 if self._ended else 1

    def start(self, name: str, cores: int, work: Work) -> None:
        """Run a node to its end."""
        started = time.perf_counter()
        result = work(self._say)
        self._ended.append(Ended(name, result, time.perf_counter() - started))

    def wait(self) -> list[Ended]:
        """Return the node that has ended."""
        ended, self._ended = self._ended, []
        return ended

    def say(self, line: str) -> None:
        """Show the user a line."""
        self._say(line)


@dataclasses.dataclass
class Worker:
    """A process at work on a node."""

    name: str
    cores: int
    process: multiprocessing.process.BaseProcess
    messages: Connection
    started: float
    shown: str = ""
    result: Result | None = None

    def row(self) -> str:
        """Return the line that shows what the process is doing."""
        return f"  {self.name:<28} {time.perf_counter() - self.started:7.1f} s  {self.shown}".rstrip()


class Crew:
    """Runs nodes in processes of their own, as many as have room on `most` cores.

    However the body ends, all processes have ended when the context is left: they are asked to stop, and
    killed if they take longer than GRACE. They also end when this process is killed, which closes a pipe
    that each of them watches.
    """

    def __init__(self, most: int, display: Display) -> None:
        self.most = most
        self._display = display
        self._workers: list[Worker] = []
        self._lifeline = (-1, -1)

    def __enter__(self) -> "Crew":
        for name in PRELOADED:
            importlib.import_module(name)
        self._lifeline = os.pipe()
        gc.collect()
        gc.freeze()  # a collection in a child would copy the pages of all that this process has imported
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
        finally:
            self._display.__exit__(kind, error, trace)
            gc.unfreeze()
            for descriptor in self._lifeline:
                os.close(descriptor)

    @property
    def free(self) -> int:
        """Return how many cores are free."""
        return self.most - sum(worker.cores for worker in self._workers)

    def start(self, name: str, cores: int, work: Work) -> None:
        """Start a node in a process of its own."""
        receiving, sending = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_run, args=(sending, self._lifeline, name, work), name=name)
        with _undisturbed():
            process.start()
            self._workers.append(Worker(name, cores, process, receiving, time.perf_counter()))
        sending.close()

    def wait(self) -> list[Ended]:
        """Return the nodes that have ended, once there are any; meanwhile show what the others do."""
        ended: list[Ended] = []
        while self._workers and not ended:
            ended = self._look(LOOK)
        return ended

    def say(self, line: str) -> None:
        """Show the user a line."""
        self._display.say(line)

    def _look(self, seconds: float) -> list[Ended]:
        """Take what the processes send within so many seconds; return those that have ended."""
        wait([each for w in self._workers for each in (w.messages, w.process.sentinel)], seconds)
        ended = []
        for worker in list(self._workers):
            gone = not worker.process.is_alive()  # before the messages are read, so that none is missed
            self._read(worker)
            if gone:
                self._workers.remove(worker)
                ended.append(self._ended(worker))
        self._display.show([worker.row() for worker in self._workers])
        return ended

    def _read(self, worker: Worker) -> None:
        with contextlib.suppress(EOFError, OSError):
            while worker.messages.poll():
                kind, value = worker.messages.recv()
                if kind == "line":
                    self._display.say(value)
                elif kind == "shown":
                    worker.shown = value
                else:
                    worker.result = value

    def _ended(self, worker: Worker) -> Ended:
        worker.process.join()
        worker.messages.close()
        code = worker.process.exitcode or 0
        worker.process.close()
        result = worker.result or Result(error=_unexpected(code), lost=True)
        return Ended(worker.name, result, time.perf_counter() - worker.started)

    def _stop(self) -> None:
        """End all processes: ask them, wait for a while, and kill what is left."""
        try:
            for worker in self._workers:
                worker.process.terminate()
            until = time.monotonic() + GRACE
            while self._workers and (left := until - time.monotonic()) > 0:
                for ended in self._look(min(left, LOOK)):
                    if ended.result.error and not ended.result.lost:  # such as a checkpoint that has no room
                        self._display.say(f"! {ended.name} failed: {ended.result.error}")
        finally:  # also if somebody asks a second time
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                worker.process.join(LAST)


def _unexpected(code: int) -> str:
    """Return how a process ended that did not say how its node ended."""
    if code == STOPPED:
        return "somebody stopped its process (SIGTERM)"
    hint = "; with --jobs 1, components run one at a time" if code == -signal.SIGKILL else ""
    return f"its process {ending(code)}{hint}"


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off SIGINT and SIGTERM until the body is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(messages: Connection, lifeline: tuple[int, int], name: str, work: Work) -> NoReturn:
    """Run a node in a process that was just forked, send its result, and end the process."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the run asks this process to stop
        signal.signal(signal.SIGTERM, _leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # not all of it
        watched, held = lifeline
        os.close(held)
        threading.Thread(target=_follow, args=(watched,), daemon=True).start()
        quiet.tag(name)
        progress.relay(lambda text: messages.send(("shown", text)))
        messages.send(("result", work(lambda line: messages.send(("line", line)))))
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        log.exception("%s ended unexpectedly", name)
    finally:  # not as Python ends: threads of libraries would be waited for, and the run's own exits repeated
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM: the first ends the node, and others must not cut that short."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped(STOPPED)


def _follow(watched: int) -> None:
    """End this process when the run's process is gone, whatever it is doing."""
    os.read(watched, 1)
    os.kill(os.getpid(), signal.SIGKILL)
