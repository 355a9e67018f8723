"""latentline rollback: make an earlier model current again."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.commands.promote import EXIT_CODES, add_common, change, description

EXAMPLES = """examples:
  latentline rollback cvae --reason "blurred sevens in production"
  latentline rollback cvae --to 1795227466
  latentline rollback cvae --cluster kubeflow/cluster.yaml --reason "blurred sevens in production"

The earlier model is pushed again under a new version, because model servers serve the highest version and
versions never change. A second rollback goes back one more model. The next candidate is compared with the
restored model. The gate never pushes the model that was rolled back from; only `promote` does.
"""


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "rollback",
        help="make the model before the current one, or any version, current again",
        description="Make the model before a variant's current one, or any of its versions, current again.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("variant")
    parser.add_argument(
        "--to", type=int, metavar="VERSION", help="version to go back to (default: the one before)"
    )
    add_common(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Roll back, report the change and return the exit code."""
    if options.cluster:
        chosen = [] if options.to is None else ["--to", str(options.to)]
        return commands.on_cluster(
            options, ["rollback", options.variant, *chosen, f"--reason={options.reason}"]
        )

    from pipeline.registry import production

    return change(
        lambda home: production.rollback(home, options.variant, options.to, options.reason, print),
        options,
        description,
    )
