import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline import cli
from pipeline.commands.schema import settings_schema
from pipeline.commands.show import WIDTH, described, text
from pipeline.config.settings import Settings
from schemas import strict
from trainer import variants
from trainer.recipe import Recipe

SCHEMA = settings_schema()


@pytest.mark.parametrize("name", variants.names())
def test_every_field_of_a_variant_is_shown_with_its_default_and_meaning(name: str) -> None:
    variant = variants.load(name)
    facts = described(variant)
    assert set(facts["config"]) == {field.name for field in dataclasses.fields(variant.config_type)}
    assert set(facts["recipe"]) == {field.name for field in dataclasses.fields(Recipe)}
    assert all(field["meaning"] for part in ("config", "recipe") for field in facts[part].values())
    shown = text(facts)
    for field, facts_of_field in facts["config"].items():
        default = facts_of_field["default"]
        value = default if isinstance(default, str) else json.dumps(default)
        assert f"  {field} = {value}\n" in shown
    assert f"quick {variant.recipe.steps.quick:g}" in shown
    assert max(map(len, shown.splitlines())) <= WIDTH


def test_an_unknown_variant_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["show", "vae9"])
    assert "unknown variant 'vae9'; choose from aae, cvae" in capsys.readouterr().err


def test_show_answers_without_tensorflow() -> None:
    code = (
        "import sys; from pipeline import cli\ntry: cli.main(['show', 'iwae', '--json'])\n"
        "except SystemExit: print(sorted({'tensorflow', 'keras', 'tfx'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert json.loads(done.stdout)["config"]["samples"]["default"] == 5
    assert done.stderr.strip() == "[]"


def valid(values: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(values)


def accepted(values: Any) -> bool:
    try:
        strict.from_mapping(Settings, values)
    except ValueError:
        return False
    return True


def test_the_schema_is_one_and_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["schema"])
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("{}", True),
        ("{variants: [cvae], seed: 3, keep: 0, warm_start: true, notify: {on_push: echo}}", True),
        ("{experiments: {iwae: {config: {hidden: [9], gradient: plain}, recipe: {steps: 5}}}}", True),
        ("{experiments: {mlp: {recipe: {steps: {smoke: 1, quick: 2, full: 3}, optimizer: sgd}}}}", True),
        ("{max_gain: {elbo: 3.0}}", True),
        ("{variants: [vae9]}", False),
        ("{profile: fast}", False),
        ("{seed: '3'}", False),
        ("{colour: red}", False),
        ("{experiments: {cvae: {config: {latents: 2}}}}", False),
        ("{experiments: {cvae: {config: {latent: 2.5}}}}", False),
        ("{experiments: {cvae: {recipe: {optimizer: adma}}}}", False),
        ("{experiments: {hvae: {config: {latents: [1, 2, 3]}}}}", False),
        ("{max_gain: {rate: 1.0}}", False),
        ("{notify: {on_success: echo}}", False),
    ],
)
def test_the_schema_agrees_with_the_loader(line: str, right: bool) -> None:
    values = yaml.safe_load(line)
    assert valid(values) == accepted(values) == right


def test_the_defaults_satisfy_the_schema() -> None:
    settings = json.loads(json.dumps(dataclasses.asdict(Settings())))
    assert valid(settings)


def test_a_resolved_recipe_has_every_field_and_the_numbers_of_its_profile() -> None:
    recipe = variants.load("cvae").recipe.with_overrides({"steps": 9})
    resolved = recipe.resolved("quick")
    assert (resolved["steps"], resolved["floor"], resolved["learning_rate"]) == (9.0, -205.0, 1e-4)
    assert set(resolved) == {field.name for field in dataclasses.fields(Recipe)}
    assert json.loads(json.dumps(resolved)) == resolved
