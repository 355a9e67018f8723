"""latentline compare: two models, experiments or homes, image by image."""

import argparse
import json
import logging
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes

EXAMPLES = """examples:
  latentline compare wide vae_dense                      two experiments of the newest report in out/
  latentline compare wide.s0 wide.s1                     two of its models
  latentline compare out/a out/b                         what the reports of two homes share
  latentline compare out/a:wide out/b:vae_dense
  latentline compare out/serving/cvae/3 out/serving/cvae/4
"""
EXIT_CODES = {"0": "the comparison was printed", "2": "there is nothing that can be compared"}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "compare",
        help="compare two models, experiments or homes on the same test images",
        description="Compare two sides on the same test images, with the variance over seeds and images.\n"
        "Each side is the name of an experiment or model, HOME:NAME, a model's folder, or a home.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--home", default="out", help="of names without one (default: out)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the comparison and return the exit code."""
    from components.reporting import experiments
    from pipeline.registry import compare

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # TFMA's reader is deprecated
    try:
        found = compare.compare(options.first, options.second, options.home)
    except compare.CompareError as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    print(json.dumps(experiments.to_json(found), indent=1) if options.json else experiments.text(found))
    return exit_codes.OK
