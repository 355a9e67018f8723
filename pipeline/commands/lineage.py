"""latentline lineage: the origin of a model and the versions it was pushed as."""

import argparse
import json
import logging
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes

EXAMPLES = """examples:
  latentline lineage out/serving/cvae                    the version in production
  latentline lineage out/serving/cvae/1795227466         a version
  latentline lineage out/artifacts/Trainer.cvae/model/7  a trained model, pushed or not
  latentline lineage cvae --home /srv/latentline --json
  latentline lineage cvae --cluster kubeflow/cluster.yaml

The lineage lists the training data (folder, spans, fingerprint, images), code, config, recipe, seed, metrics,
the baseline, every verdict with its author and reason, and the pushed versions.
"""
EXIT_CODES = {"0": "the model was found", "1": "no such model exists, or its home's metadata cannot be read"}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "lineage",
        help="what a model was made of, who blessed it, and as which versions it was pushed",
        description="Show the origin of a model and the versions it was pushed as, from ML Metadata.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument(
        "model", help="folder of a version, of a variant's versions or of an artifact; or a variant"
    )
    commands.add_place(
        parser, None, "folder of the runs (default: the one above the model that has metadata)"
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the lineage and return the exit code."""
    if options.cluster:
        return commands.on_cluster(options, ["lineage", options.model, *(["--json"] if options.json else [])])

    from pipeline.registry import lineage

    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # TFMA's reader is deprecated; no user can help it
    try:
        facts = lineage.find(options.model, commands.home_of(options) if options.serving else options.home)
    except lineage.LineageError as error:
        return commands.fail(error, exit_codes.FAILED)
    print(json.dumps(facts, indent=1) if options.json else lineage.text(facts))
    return exit_codes.OK
