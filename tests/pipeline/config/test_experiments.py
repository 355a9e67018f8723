import argparse
import json
import pathlib
from typing import Any

import pytest
import yaml

from pipeline.commands import run
from pipeline.config.errors import SettingsError
from pipeline.config.experiments import MOST_CHARACTERS, Experiment, folded
from pipeline.config.settings import Settings
from pipeline.home.journal import summary
from schemas import strict

COMPARE = """
data: mnist
protocol: dynamic
profile: full
seeds: [0, 1, 2]
experiments:
  iwae_k1:   {variant: iwae, config: {samples: 1}}
  iwae_k50:  {variant: iwae, config: {samples: 50}, seeds: [0]}
  wide:      {variant: vae_dense, config: {hidden: 512}, recipe: {learning_rate: 0.0005}, protocol: grey}
  vae_dense: {}
"""


def read(text: str) -> Settings:
    return strict.from_mapping(Settings, strict.parse(text))


def names(settings: Settings) -> list[str]:
    return [trial.name for trial in settings.trials]


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_options(parser)
    return parser.parse_args(arguments)


def test_a_run_trains_every_experiment_with_each_of_its_seeds() -> None:
    settings = read(COMPARE)
    assert names(settings) == [
        "iwae_k1.s0", "iwae_k1.s1", "iwae_k1.s2", "iwae_k50", "wide.s0", "wide.s1", "wide.s2",
        "vae_dense.s0", "vae_dense.s1", "vae_dense.s2",
    ]  # fmt: skip
    job = settings.trainings("mnist")[5]
    assert (job.variant, job.seed, job.protocol, job.config) == ("vae_dense", 1, "grey", {"hidden": 512})
    assert job.recipe == {"learning_rate": 0.0005}
    assert settings.trials[5].experiment == "wide"


def test_variants_are_the_experiments_with_their_defaults_and_keep_their_names() -> None:
    settings = Settings(variants=("cvae", "iwae"), seed=3)
    assert names(settings) == ["cvae", "iwae"] == list(settings.endpoints)
    assert [job.to_dict() for job in settings.trainings("d")] == [
        {
            "variant": name, "dataset": "d", "protocol": "threshold", "profile": "quick", "seed": 3,
            "config": {}, "recipe": {},
        }
        for name in ("cvae", "iwae")
    ]  # fmt: skip


def test_variants_choose_among_the_experiments() -> None:
    chosen = Settings(
        variants=("wide", "mlp"), experiments={"wide": Experiment("vae_dense"), "iwae": Experiment()}
    )
    assert names(chosen) == ["wide", "mlp"]


def test_a_grid_is_one_named_experiment_per_point() -> None:
    settings = read(
        "seed: 4\nexperiments: {k: {variant: iwae, config: {samples: {grid: [1, 50]}, hidden: {grid: [[9],"
        " [8, 7]]}}, recipe: {learning_rate: {grid: [0.0005]}}}}"
    )
    assert names(settings) == [
        f"k-samples-{samples}-hidden-{hidden}-learning_rate-0.0005"
        for samples in (1, 50)
        for hidden in ("9", "8x7")
    ]
    assert settings.trials[3].config == {"samples": 50, "hidden": [8, 7]}
    assert settings.trials[3].recipe == {"learning_rate": 0.0005}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{wide: {}}", "experiments.wide: there is no variant of this name; name one, as in wide: {variant:"),
        ("{wide: {variant: iwea}}", "experiments.wide.variant: unknown variant 'iwea'; did you mean iwae"),
        ("{wide: {varaint: iwae}}", "experiments.wide.varaint: no such field; did you mean variant"),
        ("{wide: {variant: iwae, config: {sample: 2}}}", "wide.config.sample: no such field; did you mean"),
        ("{wide: {variant: iwae, config: {samples: 0}}}", "wide.config: samples must be at least 1, got 0"),
        ("{wide: {variant: iwae, protocol: dinamic}}", "unknown protocol 'dinamic'"),
        ("{wide: {variant: iwae, seeds: [1, 1]}}", "experiments.wide.seeds: a seed is given twice"),
        ("{wide: {variant: iwae, seeds: [-1]}}", "seed must be between 0 and"),
        ("{cvae: {variant: iwae}}", "experiments.cvae: this is the name of a variant"),
        ("{report: {variant: iwae}}", "experiments.report: nodes of the pipeline have this name"),
        ("{night: {variant: iwae}}", "experiments.night: nodes of the pipeline have this name"),
        ("{a.b: {variant: iwae}}", "experiments: 'a.b' must begin with a letter and hold letters, digits"),
        ("{../a: {variant: iwae}}", "experiments: '../a' must begin with a letter"),
        ("{ä: {variant: iwae}}", "experiments: 'ä' must begin with a letter"),
        ("{Wide: {variant: iwae}, wide: {variant: cvae}}", "Wide and wide differ only by what Kubernetes or"),
        ("{a_b: {variant: iwae}, a-b: {variant: cvae}}", "a_b and a-b differ only by what Kubernetes or"),
        ("{a-s1: {variant: iwae}, a: {variant: cvae, seeds: [1, 2]}}", "a-s1 and a.s1 differ only by what"),
        ("{k-samples-2: {variant: mlp}, k: {variant: iwae, config: {samples: {grid: [2]}}}}", "two train"),
        ("{k: {variant: iwae, config: {samples: {grid: 3}}}}", "k.config.samples.grid must be a list of val"),
        ("{k: {variant: iwae, config: {samples: {grid: []}}}}", "k.config.samples.grid must be a list of va"),
        ("{k: {variant: iwae, config: {samples: {grid: [1], b: 2}}}}", "config.samples.b: no such field be"),
        ("{k: {variant: iwae, config: {gradient: {grid: [a b]}}}}", "'a b' cannot be part of a name"),
        ("{a: {variant: iwae}, b: {variant: iwae, config: {samples: 5}}}", "a and b would train the same"),
        ("{" + "a" * 51 + ": {variant: iwae}}", "has 51 characters; Kubernetes takes at most 50"),
    ],
)  # fmt: skip
def test_a_wrong_experiment_is_named_by_its_path(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(f"experiments: {text}")
    assert str(caught.value).isprintable()


def test_an_experiment_that_is_not_chosen_is_checked_as_well() -> None:
    with pytest.raises(SettingsError, match="experiments.wide.config.samplse: no such field"):
        Settings(variants=("mlp",), experiments={"wide": Experiment("iwae", config={"samplse": 1})})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variants": ("wid",), "experiments": {"wide": {"variant": "iwae"}}}, "did you mean wide"),
        ({"seed": 1, "seeds": (0, 1)}, "give seed or seeds, not both; got seed 1 and seeds .0, 1."),
        ({"seeds": (2, 2)}, "a seed is given twice in seeds 2, 2"),
        ({"push": "all"}, "unknown push 'all'; choose from each, none"),
        (
            {"seeds": (0, 1), "push": "each"},
            "push: each serves one model per experiment, and aae has several",
        ),
        ({"seeds": (0, 1), "warm_start": True}, "warm_start begins with the model in production"),
        ({"push": "none", "warm_start": True}, "push: none puts none there"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings(**values)


def test_the_former_overrides_are_refused_with_the_new_form() -> None:
    with pytest.raises(ValueError, match="overrides is now called experiments") as caught:
        read("variants: [cvae]\noverrides: {cvae: {config: {latent: 3}, recipe: {steps: 9}}}")
    told = str(caught.value).split("`")[1]
    settings = read(f"variants: [cvae]\n{told}")
    assert settings.trials[0].config == {"latent": 3}
    assert settings.trials[0].recipe == {"steps": 9}


def test_what_is_pushed_follows_from_the_seeds_unless_it_is_said() -> None:
    assert Settings(variants=("mlp",)).pushed == "each"
    assert Settings(variants=("mlp",), seeds=(2,)).pushed == "each"
    assert Settings(variants=("mlp",), seeds=(0, 1)).pushed == "none"
    assert Settings(variants=("mlp",), seeds=(0, 1)).endpoints == ()
    assert Settings(variants=("mlp",), push="none").endpoints == ()


def test_the_settings_that_a_check_prints_are_the_same_settings() -> None:
    settings = read(COMPARE)
    printed = yaml.safe_dump(json.loads(json.dumps(summary(settings))))
    assert read(printed) == settings


@pytest.mark.parametrize("name", ["iwae_k50.s2", "Wide", "k-lr-0.0005", "a" * MOST_CHARACTERS])
def test_a_folded_name_is_what_kubernetes_takes(name: str) -> None:
    assert set(folded(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert folded(folded(name)) == folded(name)


def test_options_set_fields_of_experiments_over_those_of_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "compare.yaml"
    path.write_text(COMPARE)
    given = options(
        "--settings", str(path), "--seeds", "5,6", "--set", "wide.recipe.learning_rate=0.001",
        "--set", "iwae_k50.config.samples={grid: [50, 60]}", "--set", "iwae_k50.seeds=[7]", "--push", "none",
    )  # fmt: skip
    settings = run.settings_of(given)
    wide = [trial for trial in settings.trials if trial.experiment == "wide"]
    assert [(t.seed, t.config, t.recipe) for t in wide] == [
        (seed, {"hidden": 512}, {"learning_rate": 0.001}) for seed in (5, 6)
    ]
    assert {"iwae_k50-samples-50", "iwae_k50-samples-60"} <= set(names(settings))
    again = options(*run.arguments_of(given))
    assert run.settings_of(again) == settings


def test_options_configure_a_plain_variant() -> None:
    given = options("--variants", "iwae,mlp", "--set", "iwae.config.samples=50")
    [iwae, mlp] = run.settings_of(given).trials
    assert (iwae.name, iwae.config, mlp.config) == ("iwae", {"samples": 50}, {})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("iwae.config.samples", "--set iwae.config.samples: expected NAME.config.FIELD=VALUE"),
        ("iwae=5", "expected NAME.config.FIELD=VALUE"),
        ("iwae.config.samples.x=5", "expected NAME.config.FIELD=VALUE"),
        ("iwea.config.samples=5", "this run does not train iwea; did you mean iwae"),
        ("iwae.configs.samples=5", "configs: no such part; did you mean config"),
        ("iwae.config.sample=5", "experiments.iwae.config.sample: no such field; did you mean samples"),
        ("iwae.recipe.learning_rate=1e-4", "write 1.0e-4"),
        ("iwae.config.samples=[", "--set iwae.config.samples=.: "),
        ("iwae.seeds=x", "experiments.iwae.seeds must be a list"),
    ],
)
def test_a_wrong_assignment_says_what_is_accepted(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        run.settings_of(options("--variants", "iwae", "--set", assignment))


def test_seeds_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--seeds", "0,x")
    assert "expected whole numbers, as in 0,1,2; got '0,x'" in capsys.readouterr().err
