"""Keep the journal of a run from its beginning to its end, whatever the end, and then run the hooks."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from pipeline.config.errors import HomeNotWritable, Stopped
from pipeline.config.settings import Settings
from pipeline.home import journal, own_log
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.runs import hooks

Say = Callable[[str], None]


@contextlib.contextmanager
def recorded(settings: Settings, say: Say) -> Iterator[journal.Writer]:
    """Hold the settings' home while the body runs, and give the body the writer of its record.

    Earlier runs that crashed are marked as such; hooks report them and this run. SIGTERM ends the body with
    Stopped. Raises HomeInUse, HomeNotWritable and what the body raises.
    """
    home = Home.of(settings.home)
    events: list[hooks.Event] = []
    writer: journal.Writer | None = None
    with _stoppable() as stop, contextlib.ExitStack() as last:
        last.callback(lambda: fire(settings, events, writer, say))
        with exclusive(home):
            events += [event for crashed in mark_crashed(home, say) for event in hooks.events(crashed)]
            started = time.perf_counter()
            try:
                with stop.deferred():
                    writer = _begun(home, settings)
                yield writer
            except BaseException as error:
                if writer is not None:
                    with stop.deferred():
                        _end(writer, time.perf_counter() - started, error, say)
                raise
            else:
                with stop.deferred():
                    _end(writer, time.perf_counter() - started, None, say)
            finally:
                if writer is not None:
                    events += hooks.events(writer.record)


def beating(writer: journal.Writer) -> contextlib.AbstractContextManager[None]:
    """Take every line that a component or trainer logs while the body runs for a sign of progress.

    A training has a line at least every 15 seconds.
    """
    return own_log.heard_by(_Heart(writer))


class _Heart(logging.Handler):
    """Writes the heartbeat of a run for each line that is logged."""

    def __init__(self, writer: journal.Writer) -> None:
        super().__init__(logging.INFO)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write the heartbeat; logging calls this."""
        self._writer.beat()


def mark_crashed(home: Home, say: Say) -> list[journal.RunRecord]:
    """Mark the runs that crashed, report each in a line, and return them. The caller holds the home."""
    crashed = journal.mark_crashed(home)
    for record in crashed:
        say(f"! the {record.command} of {record.started} crashed: it was killed, or the machine went down")
    return crashed


def fire(settings: Settings, events: list[hooks.Event], writer: journal.Writer | None, say: Say) -> None:
    """Run the hooks of the events; report the hooks that fail, and note them in the record."""
    problems = hooks.fire(settings.notify, events, os.environ)
    for problem in problems:
        say(f"! {problem}")
    if problems and writer is not None:
        writer.note(hooks=tuple(problems))
        try:
            writer.write()
        except OSError as error:
            say(f"! the journal cannot be written: {error.strerror}")


def _begun(home: Home, settings: Settings) -> journal.Writer:
    try:
        return journal.Writer.begin(home, journal.Command.RUN, settings=journal.summary(settings))
    except OSError as error:
        raise HomeNotWritable(
            f"cannot write to {home} ({error.strerror}); free the disk, or give another --home"
        ) from error


def _end(writer: journal.Writer, seconds: float, error: BaseException | None, say: Say) -> None:
    try:
        writer.end(seconds, error)
    except OSError as problem:  # a full disk must not hide how the run ended
        say(f"! the journal cannot be written: {problem.strerror}")


class _Stop:
    """Handles SIGTERM by raising Stopped, but never while the record is being written."""

    def __init__(self) -> None:
        self._deferred = False
        self._came = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._came = number
        if not self._deferred:
            raise Stopped(128 + number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the body come to its end; then raise Stopped if SIGTERM came meanwhile."""
        self._deferred, self._came = True, 0
        try:
            yield
        finally:
            self._deferred = False
        if self._came:
            raise Stopped(128 + self._came)


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stop]:
    """SIGTERM raises Stopped in the main thread; a trainer's own handler leaves a checkpoint first."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
