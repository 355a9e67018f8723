"""latentline show: everything that can be set of one variant."""

import argparse
import dataclasses
import json
import textwrap
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from schemas import describe
from trainer import variants
from trainer.recipe import PROFILES, Budget

WIDTH = 80
EXAMPLES = """examples:
  latentline show cvae
  latentline show iwae --json
"""
EXIT_CODES = {"0": "the variant was shown", "2": "there is no such variant"}


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "show",
        help="show a variant: its datasheet, and every setting with its default and meaning",
        description="Show what a variant is and what can be set of it.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', EXIT_CODES)}",
    )
    parser.add_argument("variant", help="its name, as `latentline list` shows it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the variant."""
    try:
        variant = variants.load(options.variant)
    except ValueError as error:
        return commands.fail(error, exit_codes.BAD_REQUEST)
    facts = described(variant)
    print(json.dumps(facts, indent=1) if options.json else text(facts))
    return exit_codes.OK


def described(variant: variants.Variant) -> dict[str, Any]:
    """Return the datasheet, the family and the fields of Config and RECIPE."""
    return {
        "variant": variant.name,
        "family": variant.family,
        "datasheet": variants.datasheet(variant.name),
        "config": _fields(variant.config({})),
        "recipe": _fields(variant.recipe),
    }


def text(facts: dict[str, Any]) -> str:
    """Return the facts in paragraphs of at most WIDTH columns."""
    name = facts["variant"]
    parts = [
        f"{name}: {facts['datasheet']}",
        f"family: {facts['family']}",
        f"Config, under experiments: {{{name}: {{config: ...}}}} in a settings file:",
        _table(facts["config"]) or "  there is nothing to set",
        f"RECIPE, under experiments: {{{name}: {{recipe: ...}}}}; a single number of steps or floor holds "
        "for every profile:",
        _table(facts["recipe"]),
    ]
    return "\n\n".join(part if part.startswith("  ") else _wrapped(part) for part in parts)


def _fields(value: Any) -> dict[str, dict[str, Any]]:
    """Return name -> default and meaning of the fields of a dataclass's value."""
    about = describe.meanings(type(value))
    return {
        field.name: {
            "default": _plain(getattr(value, field.name)),
            "meaning": about.get(field.name, ""),
        }
        for field in dataclasses.fields(value)
    }


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, Budget) else value


def _table(fields: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, field in fields.items():
        default = field["default"]
        if isinstance(default, dict):
            default = ", ".join(f"{profile} {default[profile]:g}" for profile in PROFILES)
        elif not isinstance(default, str):
            default = json.dumps(default)
        lines.append(f"  {name} = {default}")
        lines += textwrap.wrap(field["meaning"], WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _wrapped(part: str) -> str:
    """Return the part with its long lines broken, and its paragraphs and lists left alone."""
    lines = (textwrap.fill(line, WIDTH) if len(line) > WIDTH else line for line in _joined(part))
    return "\n".join(lines)


def _joined(part: str) -> list[str]:
    """Return each paragraph as one line; a line that begins with a `Word:` begins one of its own."""
    found: list[str] = []
    for line in part.split("\n"):
        starts = not line or not found or not found[-1] or line.split(" ")[0].endswith(":")
        if starts:
            found.append(line)
        else:
            found[-1] = f"{found[-1]} {line}"
    return found
