"""One process at a time may change a home."""

import contextlib
import tempfile
from collections.abc import Iterator

import filelock

from pipeline.config.errors import HomeInUse, HomeNotWritable
from pipeline.home.layout import Home


@contextlib.contextmanager
def exclusive(home: Home) -> Iterator[None]:
    """Holds the home for this process. Raises HomeInUse or HomeNotWritable."""
    try:
        home.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home.folder):
            pass
        lock = filelock.FileLock(home.lock)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise HomeInUse(
            f"another run is using {home}; wait for it to end, or give this one its own --home"
        ) from error
    except OSError as error:
        raise HomeNotWritable(
            f"cannot write to {home} ({error.strerror}); free the disk, or give another --home"
        ) from error
    try:
        yield
    finally:
        lock.release()


def free(home: Home) -> bool:
    """Whether nobody holds the home at this moment; takes and gives back its lock where that is so."""
    try:
        with exclusive(home):
            return True
    except HomeInUse:
        return False
