"""latentline promote: push a trained model that the gate refused, by somebody's decision."""

import argparse
from collections.abc import Callable
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from pipeline.home.layout import Home

EXAMPLES = """examples:
  latentline promote cvae --reason "worse on old digits, right on the new ones"
  latentline promote cvae --model 57 --home /srv/latentline
  latentline promote cvae --cluster kubeflow/cluster.yaml --reason "right on the new digits"

The model is pushed as a new version, and the next candidate is compared with it. ML Metadata records who
promoted it, why and when; `latentline lineage` shows it.
"""
EXIT_CODES = {
    "0": "the model is in production",
    "1": "nothing was changed: the error names what is missing and what exists, or the home is in use",
}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "promote",
        help="push a trained model regardless of the gate's verdict",
        description="Push a trained model, by default the newest, regardless of the gate's verdict.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("variant")
    parser.add_argument(
        "--model", type=int, metavar="ID", help="artifact id of the model (default: the newest)"
    )
    add_common(parser)
    parser.set_defaults(execute=execute)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what promote and rollback share."""
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for those who read it later")
    commands.add_place(parser, "out", "folder of the runs (default: out)")


def execute(options: argparse.Namespace) -> int:
    """Promote, report the change and return the exit code."""
    if options.cluster:
        chosen = [] if options.model is None else ["--model", str(options.model)]
        return commands.on_cluster(
            options, ["promote", options.variant, *chosen, f"--reason={options.reason}"]
        )

    from pipeline.registry import production

    return change(
        lambda home: production.promote(home, options.variant, options.model, options.reason, print),
        options,
        description,
    )


def change(do: Callable[[Home], Any], options: argparse.Namespace, describe: Callable[[Any], str]) -> int:
    """Change the home of the options by do(home), print what was done, and return the exit code."""
    from pipeline.config.errors import HomeInUse, HomeNotWritable, MetadataDamaged
    from pipeline.registry.production import ProductionError

    try:
        done = do(commands.home_of(options))
    except (ProductionError, HomeInUse, HomeNotWritable, MetadataDamaged) as error:
        return commands.fail(error, exit_codes.FAILED)
    print(describe(done))
    return exit_codes.OK


def description(done: Any) -> str:
    """Describe a pipeline.registry.production.Change in words."""
    instead = f", instead of {done.before}" if done.before else ""
    return f"{done.variant}: version {done.version} is current{instead}\nmodel {done.model}"
