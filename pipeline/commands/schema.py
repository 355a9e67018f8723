"""latentline schema: the JSON Schema of a settings file, for editors."""

import argparse
import json
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from pipeline.config.settings import DRIFT, MAX_GAIN, Settings
from schemas import describe
from trainer import variants
from trainer.recipe import DECAYS, OPTIMIZERS, PROFILES, PROTOCOLS, Budget, Recipe

EXAMPLES = """examples:
  latentline schema > settings.schema.json

Editors with a YAML language server then complete and check a settings file that begins with
  # yaml-language-server: $schema=settings.schema.json
"""


def add(parsers: Any) -> None:
    """Add the command's arguments."""
    parser = commands.add(
        parsers,
        "schema",
        help="print the JSON Schema of a settings file, for editors",
        description="Print the JSON Schema of a settings file.",
        epilog=f"{EXAMPLES}\n{commands.table('exit codes', {'0': 'the schema was printed'})}",
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(settings_schema(), indent=1))
    return exit_codes.OK


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a settings file."""
    schema = describe.json_schema(Settings)
    found = schema["properties"]
    found["variants"]["items"]["enum"] = variants.names()
    for name, choices in (("profile", PROFILES), ("protocol", PROTOCOLS), ("drift", DRIFT)):
        found[name]["enum"] = list(choices)
    found["max_gain"] |= {
        "additionalProperties": False,
        "properties": {name: {"type": "number", "exclusiveMinimum": 0} for name in MAX_GAIN},
    }
    found["overrides"] |= {
        "additionalProperties": False,
        "properties": {name: _overrides(variants.load(name)) for name in variants.names()},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a latentline run",
        **schema,
    }


def _overrides(variant: variants.Variant) -> dict[str, Any]:
    config, recipe = describe.json_schema(variant.config_type), describe.json_schema(Recipe)
    for name, value in vars(variant.recipe).items():
        if isinstance(value, Budget):
            budget = {"anyOf": [{"type": "number"}, describe.json_schema(Budget)]}
            recipe["properties"][name] = budget | {"description": recipe["properties"][name]["description"]}
        else:
            recipe["properties"][name]["default"] = value
    recipe["properties"]["optimizer"]["enum"] = list(OPTIMIZERS)
    recipe["properties"]["decay"]["enum"] = list(DECAYS)
    for part in (config, recipe):  # what is left out stays as the variant has it
        part.pop("required", None)
    return {
        "type": "object",
        "description": variants.summary(variant.name),
        "additionalProperties": False,
        "properties": {"config": config, "recipe": recipe},
    }
