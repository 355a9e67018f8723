"""latentline prune: remove the artifacts of old runs."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.commands.promote import change
from pipeline.config import exit_codes

EXAMPLES = """examples:
  latentline prune --keep-runs 30 --dry-run
  latentline prune --keep-runs 30 --home /srv/latentline

The newest runs are kept whole, as are the runs whose models are in production. The archived reports of the
others go, too; metadata, journal, the newest report and pushed versions are kept. `keep_runs: 30` in a
settings file does the same after each run.
"""
EXIT_CODES = {
    "0": "done",
    "1": "nothing was removed: there is no such home, or it is in use or damaged",
    "2": "the request is wrong",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "prune",
        help="remove the artifacts of old runs that neither newer runs nor production need",
        description="Remove the artifacts of old runs that neither newer runs nor production need.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument(
        "--keep-runs", type=int, required=True, metavar="N", help="runs that stay, the newest"
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    parser.add_argument("--home", default="out", help="folder of the runs (default: out)")
    parser.set_defaults(execute=execute, serving="")


def execute(options: argparse.Namespace) -> int:
    """Prune and return the exit code."""
    if options.keep_runs < 1:
        return commands.fail(
            f"--keep-runs must be at least 1, got {options.keep_runs}", exit_codes.BAD_REQUEST
        )
    from pipeline.registry import prune

    verb = "would remove" if options.dry_run else "removed"
    return change(
        lambda home: prune.prune(home, options.keep_runs, options.dry_run, print),
        options,
        lambda done: f"{verb} {done.text()}",
    )
