"""The latentline command."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from pipeline import commands
from pipeline.commands import (
    alarm,
    compare,
    convert,
    evaluate,
    history,
    lineage,
    listing,
    predict,
    promote,
    prune,
    rollback,
    run,
    schedule,
    schema,
    show,
    status,
)
from pipeline.config import exit_codes
from trainer.devices import quiet, threads

COMMANDS = (
    listing,
    show,
    schema,
    convert,
    run,
    schedule,
    status,
    history,
    lineage,
    rollback,
    promote,
    alarm,
    prune,
    compare,
    evaluate,
    predict,
)
"""Modules of pipeline/commands, in the order in which help shows them."""

EXAMPLES = """examples:
  latentline list
  latentline show cvae
  latentline import ~/.keras/datasets/mnist.npz data/mnist
  latentline run --variants cvae,mlp
  latentline run --variants cvae --profile full --data ~/fashion-mnist --home out/fashion
  latentline run --settings nightly.yaml
  latentline schedule --cron "0 3 * * *" --settings nightly.yaml
  latentline status
  latentline history
  latentline lineage out/serving/cvae
  latentline rollback cvae --reason "blurred sevens"
  latentline resume cvae --reason "the labels are corrected"
  latentline prune --keep-runs 30
  latentline compare iwae_k1 iwae_k50
  latentline evaluate out/serving/cvae --samples 5000 --limit 1000
  latentline predict out/serving/mlp seven.png --invert
"""


EXIT_CODES = {
    "0": "succeeded",
    "1": "failed; the error says what, and what to do",
    "2": "the request is wrong; nothing was done",
    "130": "interrupted (Ctrl-C)",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits 0 on success, 1 when the run failed, 2 when the request was wrong.

    The help of each command lists the exit codes that are its own.
    """
    quiet.libraries()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without UTF-8 shows escapes instead of failing
            stream.reconfigure(errors="backslashreplace")
    threads.one_an_operation()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        parser().print_help()
        sys.exit(exit_codes.OK)
    options = parser().parse_args(given)
    code, problem = exit_codes.FAILED, None
    try:
        code = options.execute(options)
    except KeyboardInterrupt:
        code = commands.fail("interrupted", exit_codes.INTERRUPTED)
    except Exception as error:  # the one boundary: whatever went wrong is one sentence
        problem = error
    lost = _flush()
    if isinstance(lost or problem, BrokenPipeError):  # whoever read it, such as `head`, has seen enough
        code = code or exit_codes.FAILED
    elif lost:
        code = commands.fail(f"the output cannot be written ({lost.strerror})", code or exit_codes.FAILED)
    elif problem:
        code = commands.unexpected(problem, getattr(options, "home", None))
    sys.exit(code)


def _open_closed_streams() -> None:
    """Replace standard streams that the caller closed, whose numbers a file of ours would get otherwise."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 stays open as long as the process


def _flush() -> OSError | None:
    """Write what is still to be printed; return why that fails, after which it is dropped."""
    try:
        sys.stdout.flush()
        return None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's last flush fails, too
        return error


class _Version(argparse.Action):
    """Print the version of the installed distribution, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        import importlib.metadata

        print(f"latentline {importlib.metadata.version('latentline')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the latentline command."""
    parser = argparse.ArgumentParser(
        prog="latentline",
        description="Train, evaluate, compare and push latent-variable models in one TFX pipeline.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parsers = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(parsers)
    return parser
