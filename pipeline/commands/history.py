"""latentline history: the runs of a home, newest first."""

import argparse
import json
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from pipeline.home.layout import Home

EXAMPLES = """examples:
  latentline history
  latentline history --home /srv/latentline --limit 0
  latentline history --json | jq '.[] | select(.status == "failed") | .error'

Each run's report is kept in <home>/report/runs/<run>, as long as `keep_runs` keeps its artifacts. A run that
failed before it had figures has a page with what failed and the last lines of its log.
"""
EXIT_CODES = {"0": "the runs are listed, or there are none", "1": "the home cannot be read"}
MOST = 20
"""Runs that are listed unless the user says otherwise."""


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "history",
        help="the runs, promotions and rollbacks of a home, newest first",
        description="List the runs, promotions and rollbacks of a home, newest first: how each ended, how\n"
        "long it took, what it pushed and refused, and which have a page.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("--home", default="out", help="folder of the runs (default: out)")
    parser.add_argument(
        "--limit", type=int, default=MOST, metavar="N", help=f"runs listed, 0 for all (default: {MOST})"
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the runs and return the exit code."""
    from pipeline.service import history

    if options.limit < 0:
        return commands.fail(f"--limit must be at least 0, got {options.limit}", exit_codes.BAD_REQUEST)
    try:
        home = Home.of(options.home)
    except ValueError as error:
        return commands.fail(error, exit_codes.FAILED)
    if not home.folder.is_dir():
        return commands.fail(f"there is no home {home}; name one with --home", exit_codes.FAILED)
    found = history.find(home, options.limit)
    print(json.dumps(found, indent=1) if options.json else history.text(home, found))
    return exit_codes.OK
