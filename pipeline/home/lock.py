"""One process at a time may change a home, and one at a time what serves.

On one machine a file is locked for both. On a cluster locks in the metadata store take its place
(pipeline.home.lease): one for the commands of operators and the end of a run, and one for each variant, held
by whoever changes what serves: a command, or the Pusher of a run.

The processes that a run starts hold the home as well: when the run is killed, they end, and only then
is the home free.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import filelock

from pipeline.config.errors import HomeInUse, HomeNotWritable
from pipeline.home import journal
from pipeline.home.journal import Status
from pipeline.home.layout import Home

COMMANDS = "commands"
"""Name of the lock of a cluster's home."""
ENDING = 20.0
"""Seconds that the processes of a run that was killed have to end."""


@contextlib.contextmanager
def exclusive(home: Home) -> Iterator[None]:
    """Hold the home for this process. Raises HomeInUse or HomeNotWritable."""
    try:
        home.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home.folder):
            pass
        lock = filelock.FileLock(home.lock)
        if not home.shared:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                lock.acquire(timeout=ENDING if _killed(home) else 0, poll_interval=0.01)
    except filelock.Timeout as error:
        raise HomeInUse(
            f"another run is using {home}; wait for it to end, or give this one its own --home"
        ) from error
    except OSError as error:
        raise HomeNotWritable(
            f"cannot write to {home} ({error.strerror}); free the disk, or give another --home"
        ) from error
    if home.shared:
        from pipeline.home import lease  # imports TFX, which takes seconds

        with lease.held(home.shared.connection, COMMANDS):
            yield
        return
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def production(home: Home, variant: str) -> Iterator[None]:
    """Hold what serves of a variant; on one machine the home's lock is enough. Raises HomeInUse."""
    if not home.shared:
        yield
        return
    with production_at(home.shared.connection, variant):
        yield


@contextlib.contextmanager
def production_at(connection: Any, variant: str) -> Iterator[None]:
    """Hold what serves of a variant of the metadata store at `connection`. Raises HomeInUse and LeaseLost."""
    from pipeline.home import lease

    with lease.held(connection, f"production of {variant}"):
        yield


def _killed(home: Home) -> bool:
    """Return whether the process of a run is gone that has not written down how it ended."""
    return any(record.state is Status.CRASHED is not record.status for record in journal.read(home))


def free(home: Home) -> bool:
    """Whether nobody holds the home at this moment; takes and gives back its lock where that is so."""
    try:
        with exclusive(home):
            return True
    except HomeInUse:
        return False
