"""Exit codes that the commands and the container's entry point share."""

OK = 0
FAILED = 1
"""The work failed."""
BAD_REQUEST = 2
"""Arguments, settings or environment are wrong; nothing was done."""
INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT."""
STOPPED = 143
"""SIGTERM: 128 + SIGTERM."""

STOPS = (INTERRUPTED, STOPPED)
"""Exit codes of a command that somebody stopped, which is no failure."""


def failed(code: int) -> bool:
    """Return whether a command that ended with `code` failed, and was not only stopped."""
    return code not in (OK, *STOPS)
