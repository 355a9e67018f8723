"""Keeps the terminal for the user: what libraries say goes to a log file.

TensorFlow writes to the file descriptor, TFX and Beam through logging, others through warnings; inside
`quiet` all of it lands in the log, and sys.stdout still is the terminal.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def quiet(log_path: str, verbose: bool) -> Iterator[None]:
    """Send file descriptors 1 and 2, logging and warnings to `log_path`; with `verbose`, nowhere else."""
    if verbose:
        with _logging_to(log_path, echo=True):
            yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    terminal, errors = os.dup(1), os.dup(2)
    stdout, stderr = sys.stdout, sys.stderr
    with _logging_to(log_path, echo=False) as log_descriptor:
        os.dup2(log_descriptor, 1)
        os.dup2(log_descriptor, 2)
        sys.stdout = os.fdopen(os.dup(terminal), "w", buffering=1)
        sys.stderr = os.fdopen(os.dup(log_descriptor), "w", buffering=1)
        try:
            yield
        finally:
            os.dup2(terminal, 1)
            os.dup2(errors, 2)
            os.close(terminal)
            os.close(errors)
            shown, logged = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = stdout, stderr
            with contextlib.suppress(OSError):  # the disk is full: the log loses its last line
                logged.close()
            shown.close()


def tag(name: str) -> None:
    """Begin every line that this process logs from now on with a name, since others write to the same log."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(f"[{name}] {LINE}"))


@contextlib.contextmanager
def _logging_to(log_path: str, echo: bool) -> Iterator[int]:
    """Route logging and warnings to the file, and to the terminal too with `echo`; the file's descriptor."""
    with _log(log_path) as log:
        handlers: list[logging.Handler] = [logging.StreamHandler(log)]
        if echo:
            handlers.append(logging.StreamHandler(sys.stderr))
        for handler in handlers:
            handler.setFormatter(logging.Formatter(LINE))
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        root.handlers[:] = handlers
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        with warnings.catch_warnings():
            try:
                yield log.fileno()
            finally:
                logging.captureWarnings(False)
                root.handlers[:] = before
                root.setLevel(level)


@contextlib.contextmanager
def _log(path: str) -> Iterator[TextIO]:
    """Open a log, whose last line is lost without an error if the disk is full. Raises OSError."""
    log = open(path, "a", buffering=1)  # noqa: SIM115 - a with statement would raise what closing raises
    try:
        yield log
    finally:
        with contextlib.suppress(OSError):
            log.close()
