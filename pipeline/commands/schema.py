"""latentline schema: the JSON Schema of a settings file, for editors."""

import argparse
import json
from typing import Any

from pipeline import commands
from pipeline.config import exit_codes
from pipeline.config.experiments import GRID, NAME, RESERVED, Experiment
from pipeline.config.settings import DRIFT, MAX_GAIN, PUSH, Settings
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
    for name, choices in (("profile", PROFILES), ("protocol", PROTOCOLS), ("drift", DRIFT)):
        found[name]["enum"] = list(choices)
    found["push"]["enum"] = ["", *PUSH]
    found["max_gain"] |= {
        "additionalProperties": False,
        "properties": {name: {"type": "number", "exclusiveMinimum": 0} for name in MAX_GAIN},
    }
    known = [variants.load(name) for name in variants.names()]
    found["experiments"] = {
        "type": "object",
        "description": found["experiments"]["description"],
        "properties": {each.name: _experiment(each, own_name=True) for each in known},
        "propertyNames": {"pattern": f"^{NAME.pattern}$", "not": {"enum": list(RESERVED)}},
        "additionalProperties": {
            "type": "object",
            "required": ["variant"],
            "properties": {"variant": {"enum": variants.names()}},
            "allOf": [
                {
                    "if": {"properties": {"variant": {"const": each.name}}, "required": ["variant"]},
                    "then": _experiment(each, own_name=False),
                }
                for each in known
            ],
        },
    }
    only_variants = {"properties": {"variants": {"items": {"enum": variants.names()}}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a latentline run",
        **schema,
        "if": {"not": {"required": ["experiments"]}},
        "then": only_variants,
    }


def _experiment(variant: variants.Variant, own_name: bool) -> dict[str, Any]:
    """Return the schema of an experiment of a variant. own_name: whether it is called by the variant's."""
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
        part["properties"] = {name: _or_grid(field) for name, field in part["properties"].items()}
    schema = describe.json_schema(Experiment)
    schema["properties"] |= {"config": config, "recipe": recipe}
    schema["properties"]["variant"]["enum"] = ["", variant.name] if own_name else [variant.name]
    schema["properties"]["protocol"]["enum"] = ["", *PROTOCOLS]
    return {**schema, "description": variants.summary(variant.name)}


def _or_grid(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field or of a grid of its values."""
    about = {name: field[name] for name in ("description", "default") if name in field}
    value = {name: given for name, given in field.items() if name not in about}
    grid = {
        "type": "object",
        "required": [GRID],
        "additionalProperties": False,
        "properties": {GRID: {"type": "array", "minItems": 1, "items": value}},
    }
    return {**about, "anyOf": [*value["anyOf"], grid] if set(value) == {"anyOf"} else [value, grid]}
