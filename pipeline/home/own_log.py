"""Listen to what our own components and trainers log, and to nothing else."""

import contextlib
import logging
from collections.abc import Iterator

OWN = ("components", "trainer")
"""Packages whose warnings are for the user, and whose every line says that a run makes progress."""


@contextlib.contextmanager
def heard_by(handler: logging.Handler) -> Iterator[None]:
    """Give a handler what these packages log while the body runs."""
    loggers = [logging.getLogger(name) for name in OWN]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
