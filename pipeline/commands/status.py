"""latentline status: how nightly retraining is doing, for people and for monitors."""

import argparse
import datetime
import json
from typing import Any

from pipeline import commands
from pipeline.home.layout import Home

EXAMPLES = """examples:
  latentline status --home /srv/latentline
  latentline status --home /srv/latentline --json | jq .production

The first line is the whole story for a monitor, in the form of Nagios plugins, as are the exit codes.
"""
EXIT_CODES = {
    "0": "OK",
    "1": "WARNING: a candidate was refused, or the data has drifted; production is as it was",
    "2": "CRITICAL: the last run failed or was killed, or the schedule's service is gone or late",
    "3": "UNKNOWN: there has been no run yet, or what is in the home cannot be read",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "status",
        help="last run, next run, what is in production; exit codes for monitors",
        description="Tell how a home is doing: the last run and what came of each variant, the next run,\n"
        "what is in production and since when, and whether the schedule's service lives.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("--home", default="out", help="folder of the runs (default: out)")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the status; its code."""
    from pipeline.service import status

    try:
        found = status.find(Home.of(options.home), datetime.datetime.now().astimezone())
    except Exception as error:  # a monitor gets an answer whatever is wrong with the home
        print(f"UNKNOWN: {' '.join(str(error).split()) or type(error).__name__}")
        return status.UNKNOWN
    print(json.dumps(found.to_dict(), indent=1) if options.json else status.text(found))
    return found.code
