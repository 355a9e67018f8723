"""latentline status: how nightly retraining is doing, for people and for monitors."""

import argparse
import datetime
import json
from typing import Any

from pipeline import commands

EXAMPLES = """examples:
  latentline status --home /srv/latentline
  latentline status --home /srv/latentline --json | jq .production
  latentline status --cluster kubeflow/cluster.yaml

The first line and the exit codes follow the convention of Nagios plugins.
"""
EXIT_CODES = {
    "0": "OK",
    "1": "WARNING: a candidate was refused, or the data has drifted; production is unchanged",
    "2": "CRITICAL: a run failed, is stuck or late; an alarm stands; the service is down; damage is served",
    "3": "UNKNOWN: there has been no run yet, or the home cannot be read",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "status",
        help="last run, next run, what is in production; exit codes for monitors",
        description="Report the state of a home: the last run and its outcome per variant, the next run,\n"
        "what is in production and since when, and whether the schedule's service is running.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    commands.add_place(parser, "out", "folder of the runs (default: out)")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the status and return its code."""
    if options.cluster:
        return commands.on_cluster(options, ["status", *(["--json"] if options.json else [])])

    from pipeline.service import status

    try:
        home = commands.home_of(options)
        if not options.serving and not home.folder.is_dir():
            print(f"UNKNOWN: there is no home {home}; name one with --home")
            return status.UNKNOWN
        found = status.find(home, datetime.datetime.now().astimezone())
    except Exception as error:  # a monitor gets an answer whatever is wrong with the home
        print(f"UNKNOWN: {' '.join(str(error).split()) or type(error).__name__}")
        return status.UNKNOWN
    print(json.dumps(found.to_dict(), indent=1) if options.json else status.text(found))
    return found.code
