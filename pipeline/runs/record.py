"""Keeps the journal of a run from its beginning to its end, whatever the end, and then runs the hooks."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from pipeline.config.errors import HomeNotWritable, Stopped
from pipeline.config.settings import Settings
from pipeline.home import journal
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive
from pipeline.runs import hooks

Say = Callable[[str], None]


@contextlib.contextmanager
def recorded(settings: Settings, say: Say) -> Iterator[journal.Entry]:
    """Holds the settings' home while the body runs, and gives it the entry of this run.

    Runs before it that ended without a word are marked as such and told of by the hooks, as is what came of
    this one. SIGTERM ends the body with Stopped. Raises HomeInUse, HomeNotWritable and what the body raises.
    """
    home = Home.of(settings.home)
    told: list[hooks.Event] = []
    entry: journal.Entry | None = None
    try:
        with exclusive(home):
            told += [event for dead in bury(home, say) for event in hooks.events(dead)]
            entry = _begun(home, settings)
            started = time.perf_counter()
            try:
                with _stoppable():
                    yield entry
            except BaseException as error:
                _ended(home, entry, time.perf_counter() - started, error, say)
                raise
            else:
                _ended(home, entry, time.perf_counter() - started, None, say)
            finally:
                told += hooks.events(entry)
    finally:
        with _stoppable():
            tell(settings, told, entry, say)


def bury(home: Home, say: Say) -> list[journal.Entry]:
    """Mark runs that ended without a word, a line for each; they are returned. The caller holds the home."""
    dead = journal.bury(home)
    for entry in dead:
        say(f"! the {entry.command} of {entry.started} {journal.DIED}: killed, or the machine went down")
    return dead


def tell(settings: Settings, told: list[hooks.Event], entry: journal.Entry | None, say: Say) -> None:
    """Run the hooks of the events; what goes wrong is said, and noted in the entry."""
    problems = hooks.fire(settings.notify, told, os.environ)
    for problem in problems:
        say(f"! {problem}")
    if problems and entry is not None:
        entry.hooks = problems
        try:
            journal.write(Home.of(settings.home), entry)
        except OSError as error:
            say(f"! the journal cannot be written: {error.strerror}")


def _begun(home: Home, settings: Settings) -> journal.Entry:
    try:
        return journal.begin(home, journal.RUN, settings=journal.summary(settings))
    except OSError as error:
        raise HomeNotWritable(
            f"cannot write to {home} ({error.strerror}); free the disk, or give another --home"
        ) from error


def _ended(home: Home, entry: journal.Entry, seconds: float, error: BaseException | None, say: Say) -> None:
    try:
        journal.end(home, entry, seconds, error)
    except OSError as problem:  # a full disk must not hide how the run ended
        say(f"! the journal cannot be written: {problem.strerror}")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM raises Stopped in the main thread; a trainer's own handler leaves a checkpoint first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(128 + number)
