"""The commands of latentline, a module each: add(parsers) brings arguments, execute(options) does the work.

Modules import TensorFlow and TFX only inside execute, and only where the command needs them, so that help and
status answer at once.
"""

import argparse
import contextlib
import datetime
import sys
import traceback
from typing import Any

from pipeline.config import exit_codes


def fail(error: BaseException | str, code: int) -> int:
    """Print the error as one line of standard error and return the exit code."""
    print(f"latentline: error: {error}", file=sys.stderr)
    return code


def unexpected(error: Exception, home: str | None) -> int:
    """Report an error that no command expects in one sentence; the log of the home has the rest."""
    from pipeline.execution import diagnosis
    from pipeline.home.layout import Home

    words = diagnosis.explain(error, home or "")[:500]
    with contextlib.suppress(OSError, ValueError):
        log = Home.of(home or "out").command_log
        with open(log, "a") as file:
            file.write(f"{datetime.datetime.now().astimezone().isoformat(timespec='seconds')}\n")
            file.write("".join(traceback.format_exception(error)))
        words = f"{words}; {log} has the rest"
    return fail(words, exit_codes.FAILED)


def add(
    commands: Any, name: str, *, help: str, description: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """A parser for the command `name` that keeps the line breaks of its texts."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def table(title: str, known: dict[str, str]) -> str:
    """A paragraph of a help text: a title, and a line for each name with its meaning."""
    width = max(map(len, known))
    return f"{title}:\n" + "".join(f"  {name:<{width}}  {text}\n" for name, text in known.items())
