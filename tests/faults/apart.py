"""Ways to carry out a command: in this process, or in a fork of it that a fault may end."""

import os
import pickle
import select
import signal
from collections.abc import Callable
from typing import Any

SECONDS = 120.0
"""Most time that a command may take."""


def here(act: Callable[[], Any]) -> Any:
    """Carry out a command in this process; what it returns."""
    return act()


def apart(act: Callable[[], Any]) -> Any:
    """Carry out a command in a fork; what it returns, or None if it was killed. Raises what it raises."""
    reader, writer = os.pipe()
    child = os.fork()
    answer: tuple[Any, Exception | None]
    if not child:
        os.close(reader)
        code = 1
        try:
            with os.fdopen(writer, "wb") as file:
                try:
                    answer = (act(), None)
                except Exception as error:
                    answer = (None, error)
                pickle.dump(answer, file)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        if not select.select([file], [], [], SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
        content = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and not content:
        return None
    assert os.WIFEXITED(status), f"the process ended with status {status}"
    assert os.WEXITSTATUS(status) == 0, f"the process ended with status {status}"
    value, failure = pickle.loads(content)
    if failure is not None:
        raise failure
    return value
