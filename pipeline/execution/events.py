"""What a container says: one line per event on standard error, plain or JSON, whoever still listens."""

import argparse
import json
import logging
import os
import re
import sys
import time
import warnings
from typing import Any, TextIO

log = logging.getLogger("latentline")
OWN = ("components", "pipeline", "trainer")
"""Packages whose messages are shown without --verbose."""


class Unbreakable:
    """A stream whose reader may go away: what is written after that is lost, and nothing is raised.

    Kubeflow's launcher dies at once of a SIGTERM and takes the pipe of its child's output with it. A write
    that raised then would cut a checkpoint short.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or lose it where nobody reads any more."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop it where nobody reads any more."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Send what follows nowhere, also what libraries write to the file descriptor."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            self._stream = open(os.devnull, "w")  # noqa: SIM115 stays open as long as the process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Lines(logging.Formatter):
    """Format one line per event: time, level, what, facts as name=value; a traceback follows indented."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        facts = dict(getattr(record, "facts", {}))
        trace = facts.pop("traceback", "")
        shown = "".join(f" {name}={_quoted(value)}" for name, value in facts.items())
        source = "" if record.name == log.name else f"{record.name}: "
        text = " ".join(record.getMessage().split())
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ")
        following = "".join(f"\n    {line}" for line in trace.splitlines())
        return f"{stamp} {record.levelname} {source}{text}{shown}{following}"


class JsonLines(logging.Formatter):
    """Format one JSON object per event."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        event = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        return json.dumps(event, default=str)


def listen(log_format: str, verbose: bool) -> None:
    """Send events to standard error; `verbose` shows what TFX, Beam and TensorFlow say as well."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")  # before TensorFlow is imported
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), Unbreakable):
            setattr(sys, name, Unbreakable(getattr(sys, name)))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else Lines())
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler], force=True)
    log.setLevel(logging.INFO)
    for own in OWN:
        logging.getLogger(own).setLevel(logging.INFO)
    logging.getLogger("absl").addFilter(_worth_logging)
    logging.captureWarnings(True)
    if not verbose:
        warnings.simplefilter("ignore")  # of libraries about libraries; nobody who reads a task's log can act


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a container's entry point that `listen` takes."""
    parser.add_argument("--log-format", choices=("plain", "json"), default="plain")
    parser.add_argument(
        "--verbose", action="store_true", help="show what TFX, Beam and TensorFlow say as well"
    )


def tell(good: bool, what: str, **facts: Any) -> None:
    """Log an event with its facts."""
    log.log(logging.INFO if good else logging.ERROR, what, extra={"facts": facts})


def ended(name: str, code: int, what: str, **facts: Any) -> int:
    """Log how a node or a process ended, with its exit code, and return the code."""
    tell(code == 0, what, node=name, exit=code, **facts)
    return code


def innermost(error: BaseException) -> str:
    """Return the cause at the bottom of an error in one line, without what Beam adds to it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split(" [while running")[0].split())


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if re.search(r'[\s"]', text) or not text else text


def _worth_logging(record: logging.LogRecord) -> bool:
    """Not TFX's warning that the IR names no metadata store: here the environment does."""
    return "metadata_connection_config is not provided" not in record.getMessage()
