"""latentline list: all variants."""

import argparse
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from trainer import variants

EXAMPLES = """examples:
  latentline list
  latentline list --markdown
"""
EXIT_CODES = {"0": "the variants are listed"}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "list",
        help="list all variants, one line per variant",
        description="List all variants: what each is, and the figure that it was measured to reach.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the variants and return the exit code."""
    width = max(map(len, variants.names()))
    if options.markdown:
        print("| variant | what it is | measured on MNIST |\n|---|---|---|")
    for name in variants.names():
        summary, measured = variants.summary(name), variants.measured(name)
        if options.markdown:
            print(f"| `{name}` | {summary} | {measured or '-'} |")
        else:
            print(f"{name:<{width}}  {summary}")
            if measured:
                print(f"{'':<{width}}    measured: {measured}")
    return exit_codes.OK
