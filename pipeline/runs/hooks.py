"""Tells the world what came of a run: commands and a webhook, on failure, on push, on drift and on
alarm.

A command gets the event as JSON on its standard input, and its kind in LATENTLINE_EVENT; a webhook gets the
same JSON by POST. A hook that fails is reported and never makes the run fail.
"""

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import requests

from pipeline.config.notify import ALARM, DRIFT, FAILURE, PUSH, Notify
from pipeline.home import journal

VARIABLE = "LATENTLINE_EVENT"
"""Environment variable in which a command finds the kind of its event."""
MOST_ERRORS = 10_000
"""Bytes that are read of what a command writes to its standard error, the last."""
TRIES = 3
"""How often a webhook is tried; after the first and second time it waits one and two seconds."""

Event = dict[str, Any]
"""{event, text, run}: failure, push, drift or alarm; what happened, in a line; the run's record."""


def events(record: journal.RunRecord) -> list[Event]:
    """Return the events that the hooks of a run that has ended receive."""
    found = {}
    pushed = {n: o for n, o in record.variants.items() if o.result is journal.Result.PUSHED}
    if record.failed:
        found[FAILURE] = record.error or f"the run of {record.started} crashed"
    if pushed:
        found[PUSH] = ", ".join(f"{name} {outcome.version}" for name, outcome in pushed.items())
    if record.drift:
        found[DRIFT] = "; ".join(record.drift)
    if raised := {name: outcome for name, outcome in record.variants.items() if outcome.raised}:
        found[ALARM] = "; ".join(f"{name}: {outcome.alarm}" for name, outcome in raised.items())
    return [
        {"event": kind, "text": " ".join(text.split()), "run": record.to_json()}
        for kind, text in found.items()
    ]


def fire(
    notify: Notify,
    pending: list[Event],
    environment: Mapping[str, str],
    wait: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Run the hooks of the events; return one line per failure. wait: between tries, given seconds."""
    problems = []
    for event in pending:
        command = notify.command(event["event"])
        if command:
            problems.append(run_command(command, event, environment, notify.timeout))
        if notify.webhook:
            problems.append(post(notify.webhook, event, environment, notify.timeout, wait))
    return [problem for problem in problems if problem]


def run_command(command: str, event: Event, environment: Mapping[str, str], timeout: float) -> str:
    """Run a hook's command for at most `timeout` seconds; what went wrong, or empty."""
    words = shlex.split(command)
    name = f"hook on {event['event']} ({words[0]})"
    # Files, not pipes: what the command leaves in the background may hold a pipe open for ever.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(json.dumps(event).encode())
        given.seek(0)
        try:
            process = subprocess.Popen(
                words,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**environment, VARIABLE: event["event"]},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"{name} cannot be run: {getattr(error, 'strerror', None) or error}"
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            return f"{name} took longer than {timeout:g} s and was ended"
        except BaseException:  # the run was stopped: nothing that was started here goes on alone
            _kill(process)
            raise
        if process.returncode == 0:
            return ""
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - MOST_ERRORS))
        last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"{name} ended with exit code {process.returncode}" + (f": {last[0]}" if last else "")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the command and what it has started in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def post(
    webhook: str,
    event: Event,
    environment: Mapping[str, str],
    timeout: float,
    wait: Callable[[float], None],
) -> str:
    """POST the event, TRIES times at most; what went wrong, or empty. Names the host only: a URL is a key."""
    url = environment.get(webhook[1:], "") if webhook.startswith("$") else webhook
    name = f"webhook on {event['event']}"
    if not url:
        return f"{name}: the environment variable {webhook[1:]} is not set"
    try:
        host = urllib.parse.urlsplit(url).hostname
    except ValueError:
        return f"{name}: the address is no URL"
    name = f"{name} ({host})"
    for attempt in range(1, TRIES + 1):
        answer = _post_within(url, event, timeout)
        if isinstance(answer, str):
            problem = f"{name}: no answer ({answer})"
        elif 200 <= answer < 300:
            return ""
        else:
            problem = f"{name}: answered {answer}"
            if answer < 400:
                return f"{problem}; redirects are not followed"
            if answer < 500:  # it was understood and refused; asking again changes nothing
                return problem
        if attempt < TRIES:
            wait(float(attempt))
    return f"{problem}, {TRIES} times"


def _post_within(url: str, event: Event, timeout: float) -> int | str:
    """POST the event and return the status of the answer, or in a word why there is none.

    The deadline is for the whole: a server that sends its headers drop by drop is left in its thread. Nothing
    of the answer's body is read, and redirects are not followed.
    """
    answers: list[int | str] = []

    def ask() -> None:
        try:
            with requests.post(
                url, json=event, timeout=timeout, allow_redirects=False, stream=True
            ) as answer:
                answers.append(answer.status_code)
        except (requests.RequestException, OSError, ValueError, http.client.HTTPException) as error:
            answers.append(type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return answers[0] if answers else "Timeout"
