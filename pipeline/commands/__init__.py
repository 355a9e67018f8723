"""The commands of latentline, a module each: add(parsers) brings arguments, execute(options) does the work.

Modules import TensorFlow and TFX only inside execute, and only where the command needs them, so that help and
status answer at once.
"""

import argparse
import contextlib
import datetime
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config import exit_codes
from pipeline.home.layout import Home
from schemas import GREY, PIXEL_KINDS, PIXEL_VALUES, RESIZE

READING: Mapping[str, tuple[Sequence[str] | None, str]] = {
    PIXEL_VALUES: (
        PIXEL_KINDS,
        "values of the files' pixels: grey (0 to 255) or binary (0 and 1) (default: grey)",
    ),
    "subset": (
        None,
        "beginning of the names of the files, where the data holds several sets, such as emnist-letters",
    ),
    "resize": (
        RESIZE,
        "resize images of another size: pad (surround by background) or area (average over areas) "
        "(default: refuse them)",
    ),
    "scale": (None, "the files hold fractions from 0 to 1, which become grey values"),
}
"""Options that say how image files are read: their values, where they are few, and their help."""


def fail(error: BaseException | str, code: int) -> int:
    """Print the error as one line of standard error and return the exit code."""
    print(f"latentline: error: {error}", file=sys.stderr)
    return code


def unexpected(error: Exception, home: str | None) -> int:
    """Report an error that no command expects in one sentence; the log of the home has the rest."""
    from pipeline.execution import diagnosis

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


def add_reading(parser: argparse.ArgumentParser, names: Sequence[str], checked: bool = True) -> None:
    """Add those options of the given names that say how image files are read: READING.

    checked: whether a wrong value is refused here, and an option that is not given has the value that changes
    nothing; else it is None, for settings, which have values of their own and check them.
    """
    for name in names:
        choices, help_text = READING[name]
        if name == "scale":
            parser.add_argument(
                "--scale", action="store_true", default=False if checked else None, help=help_text
            )
        else:
            parser.add_argument(
                f"--{name}",
                default=(GREY if name == PIXEL_VALUES else "") if checked else None,
                choices=choices if checked else None,
                metavar=None if choices else "NAME",
                help=help_text,
            )


def add_place(parser: argparse.ArgumentParser, home: str | None, text: str) -> None:
    """Add the options that say where the runs are kept. home: default of --home, which `text` explains."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--home", default=home, help=text)
    where.add_argument(
        "--cluster",
        metavar="FILE",
        help="do it on the cluster of this cluster.yaml, in a job of its own; needs kubectl",
    )
    where.add_argument("--serving", default="", help=argparse.SUPPRESS)  # in a pod of the cluster


def home_of(options: argparse.Namespace) -> Home:
    """Return the home that the options of `add_place` name. Raises ValueError.

    In a pod of a cluster the environment names the metadata store.
    """
    if not options.serving:
        return Home.of(options.home)
    from pipeline.execution import node

    return Home.of_cluster(options.serving, node.connection_from(os.environ))


def on_cluster(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run a command, given in words, on the cluster of the options; return its exit code."""
    from pipeline.config.cluster import Cluster
    from pipeline.config.errors import SettingsError
    from pipeline.kubeflow import job

    try:
        return job.run(Cluster.from_file(options.cluster), words, job.Kubectl.found(), print)
    except SettingsError as error:
        return fail(error, exit_codes.BAD_REQUEST)
    except job.JobFailed as error:
        return fail(error, exit_codes.FAILED)
