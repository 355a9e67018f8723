"""Locks in the metadata store, for processes on several machines: one holder at a time, each for a while.

A claim is a context of ML Metadata, whose name can be made only once: the holder of a lock is whoever made
its newest claim, until that is released. A holder that is alive counts upwards in its claim. Whoever waits
and sees no progress for EXPIRES seconds of its own clock makes the next claim, so that a pod that was taken
away holds nobody up, and the clocks of two machines are never compared.
"""

import contextlib
import dataclasses
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from pipeline.config.errors import HomeInUse
from pipeline.home import metadata
from pipeline.home.metadata import Claim, Store

EXPIRES = 60.0
"""Seconds without a sign of life after which a claim counts for nothing."""
BEAT = 10.0
"""Seconds between two signs of life."""
PATIENCE = 900.0
"""Seconds that a process waits for a lock, more than many pushes in a row take."""

log = logging.getLogger(__name__)


class LeaseLost(RuntimeError):
    """Another process took the lock over, since this one gave no sign of life."""


@dataclasses.dataclass(frozen=True)
class Times:
    """How long what takes, in seconds; tests have shorter ones. See the constants of the module."""

    expires: float = EXPIRES
    beat: float = BEAT
    patience: float = PATIENCE
    look: float = 1.0
    """Between two looks of a process that waits."""


DEFAULT = Times()


@contextlib.contextmanager
def held(connection: Any, name: str, times: Times | None = None) -> Iterator[None]:
    """Hold the lock `name` of the metadata store at `connection` while the body runs.

    Raises HomeInUse if it cannot be had in time, and LeaseLost, after the body, if another process took it.
    """
    times = times or DEFAULT
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with metadata.opened(connection) as store:
        claim = _acquired(store, name, holder, times)
    over = threading.Event()
    beating = threading.Thread(
        target=_beat, args=(connection, claim, over, times), name=f"lease of {name}", daemon=True
    )
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join(times.expires)
        with metadata.opened(connection) as store:
            newest = store.newest_claim(name)
            store.release(claim)
    if newest and newest.number != claim.number:
        raise LeaseLost(
            f"the lock {name} was taken over by {newest.holder}, since this process gave no sign of life for "
            f"{times.expires:g} s; look at `latentline status` and `latentline lineage`, and do it again"
        )


def _acquired(store: Store, name: str, holder: str, times: Times) -> Claim:
    """Return the claim by which this process holds the lock. Raises HomeInUse."""
    began = seen_at = time.monotonic()
    seen: Claim | None = None
    while True:
        newest = store.newest_claim(name)
        now = time.monotonic()
        if newest is None or newest != seen:
            seen, seen_at = newest, now
        if newest is None or newest.released or now - seen_at >= times.expires:
            if newest and not newest.released:
                log.warning("the lock %s of %s has expired", name, newest.holder)
            if claim := store.claim(name, newest.number + 1 if newest else 1, holder):
                return claim
        if now - began >= times.patience:
            who = newest.holder if newest else "another process"
            raise HomeInUse(
                f"{who} has held the lock {name} for more than {times.patience:g} s; a run or another "
                "command is changing production: try again when it has ended"
            )
        time.sleep(times.look)


def _beat(connection: Any, claim: Claim, over: threading.Event, times: Times) -> None:
    """Count upwards in a claim until the lock is given back."""
    count = 0
    while not over.wait(times.beat):
        count += 1
        try:
            with metadata.opened(connection) as store:
                store.keep(claim, count)
        except metadata.ERRORS as error:  # a store that is busy answers the next time
            log.warning("no sign of life in the lock %s: %s", claim.name, error)
