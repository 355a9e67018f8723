import pathlib

import pytest

from pipeline.config.errors import SettingsError
from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from trainer import variants


def test_the_defaults_train_every_variant() -> None:
    assert list(Settings().variants) == variants.names()


def test_a_file_gives_settings_and_its_experiments_reach_the_job(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "variants: [cvae]\nseed: 7\nexperiments: {cvae: {recipe: {steps: 5}, config: {latent: 3}}}\n"
    )
    [job] = Settings.from_file(str(path)).trainings("mnist")
    assert (job.seed, job.recipe, job.config, job.dataset) == (7, {"steps": 5}, {"latent": 3}, "mnist")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variants": ("vae9",)}, "unknown variant 'vae9'; did you mean hvae. Otherwise choose from .*cvae"),
        ({"variants": ("mlp", "mlp")}, "named twice"),
        ({"profile": "fast"}, "unknown profile 'fast'; choose from smoke, quick, full"),
        ({"protocol": "x"}, "unknown protocol 'x'"),
        ({"mlflow": "https://eve:secret@host"}, "MLFLOW_TRACKING_PASSWORD in the environment"),
        (
            {"experiments": {"cvae": {"config": {"latents": 2}}}},
            "experiments.cvae.config.latents: no such field; did you mean latent.$",
        ),
        (
            {"experiments": {"cvae": {"recipe": {"epochs": 2}}}},
            "experiments.cvae.recipe.epochs: no such field; choose from steps",
        ),
        (
            {"experiments": {"cvae": {"recipe": {"steps": -3}}}},
            "experiments.cvae.recipe: steps must be a whole",
        ),
        (
            {"experiments": {"cvae": {"recipe": {"steps": 1.5}}}},
            "experiments.cvae.recipe: steps must be a whole",
        ),
        ({"experiments": {"cvae": {"recipe": {"optimizer": "adma"}}}}, "optimizer must be one of adam, rms"),
        ({"experiments": {"cvae": {"recipe": {"learning_rate": "1e-4"}}}}, "learning_rate must be a number"),
        (
            {"experiments": {"cvae": {"configs": {}}}},
            "experiments.cvae.configs: no such field; did you mean conf",
        ),
        (
            {"experiments": {"cvae": {"config": {"latent": 0}}}},
            "experiments.cvae.config: latent must be at least 1, got 0",
        ),
        ({"spans": True, "data": "d"}, "spans must be a whole number, got True"),
        ({"spans": -1, "data": "d"}, "spans must be a whole number, 0 for none, got -1"),
        ({"spans": 1}, "give it as data .--data DIR., got 'auto'"),
        ({"dataset": "scans"}, "'auto' has a name of its own; leave dataset out, or give a folder"),
        ({"dataset": "mnist", "data": "d"}, "other than mnist, digits, auto, which .*; got 'mnist'"),
        ({"dataset": "a\nb", "data": "d"}, "dataset must be a name in one line"),
        ({"drift": "ignore"}, "unknown drift 'ignore'; choose from stop, warn"),
        ({"warm_start": 1}, "warm_start must be true or false, got 1"),
        ({"max_gain": {"rate": 1.0}}, "max_gain.rate: no such field; choose from accuracy, elbo"),
        ({"max_gain": {"elbo": 0}}, "max_gain.elbo must be a number above 0, got 0"),
        ({"keep": -1}, "keep must be a number of versions, or 0 for all, got -1"),
        ({"keep": True}, "keep must be a whole number, got True"),
        ({"notify": "ops@example.org"}, "notify must be `key: value` lines, got 'ops"),
        ({"notify": {"on_push": ["echo"]}}, "notify.on_push must be text"),
        ({"notify": {"on_success": "true"}}, "notify.on_success: no such field; choose from on_failure"),
        ({"notify": {"webhook": "example.org"}}, "notify: webhook must begin with http"),
    ],
)
def test_a_wrong_setting_says_what_is_accepted(values: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings(**values)


def test_hooks_of_a_file_become_typed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("keep: 3\nnotify: {on_push: echo pushed, webhook: $HOOK, timeout: 5}\n")
    settings = Settings.from_file(str(path))
    assert settings.keep == 3
    assert settings.notify == Notify(on_push="echo pushed", webhook="$HOOK", timeout=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant: cvae\n", "variant: no such field; did you mean variants"),
        ("- cvae\n", "the file must be `key: value` lines, got .'cvae'."),
        ("a: [\n", "line 2: expected the node content"),
        ("seed: 010\n", "line 1: 010 is octal in YAML; write 10"),
        ("seed: 1\nhome: out\nseed: 2\n", "line 3: seed is given twice, first on line 1"),
        ("experiments: {cvae: {recipe: {learning_rate: 1e-4}}}", "write 1.0e-4"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: pathlib.Path, text: str, message: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.from_file(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot read the settings file nowhere.yaml"):
        Settings.from_file("nowhere.yaml")


@pytest.mark.parametrize("name", ["b [v2]", "a*", "a?b", "back\\slash"])
def test_a_home_that_tfx_would_read_as_a_pattern_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SettingsError, match="reads as a pattern of file names; choose a folder without"):
        Settings(home=str(tmp_path / name))
    assert Settings(home=str(tmp_path / "with space {x,y}")).home.endswith("{x,y}")
