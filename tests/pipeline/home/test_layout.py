import pathlib

import pytest

from pipeline.home.layout import Home


def test_everything_of_a_home_lies_under_it() -> None:
    home = Home(pathlib.Path("/srv/latentline"))
    places = [getattr(home, name) for name, kind in vars(Home).items() if isinstance(kind, property)]
    places += [home.versions("mlp"), home.run_log("1"), home.record("1"), home.output("Trainer", "model", 1)]
    assert all(place.is_relative_to(home.folder) for place in places)
    assert len(set(places)) == len(places)


def test_a_relative_home_and_one_of_a_user_become_absolute(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.of("out") == Home.of("~/out") == Home(tmp_path / "out")


@pytest.mark.parametrize("path", ["~no-such-user-here/x", "a\0b"])
def test_a_path_that_cannot_be_resolved_is_named(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be found"):
        Home.of(path)


def test_output_folders_are_numbers_only(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path)
    for name in ("7", "7.damaged-1", ".7.sha256", "latest"):
        (home.artifacts / "Trainer.mlp" / "model" / name).mkdir(parents=True)
    assert list(home.outputs()) == home.outputs_of(7) == [home.output("Trainer.mlp", "model", 7)]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("/old/artifacts/Trainer.mlp/model/16", "/new/artifacts/Trainer.mlp/model/16"),
        ("/new/artifacts/Trainer.mlp/model/16", "/new/artifacts/Trainer.mlp/model/16"),
        ("/artifacts/artifacts/Trainer.mlp/model/16/", "/new/artifacts/Trainer.mlp/model/16"),
        ("/old/serving/mlp/1795232659", "/new/serving/mlp/1795232659"),
        ("/old/serving/mlp", "/old/serving/mlp"),
        ("/data/mnist/3", "/data/mnist/3"),
        ("s3://bucket/artifacts/Trainer.mlp/model/16", "s3://bucket/artifacts/Trainer.mlp/model/16"),
        ("", ""),
    ],
)
def test_paths_of_artifacts_and_versions_are_found_in_the_home_that_is_asked(
    written: str, found: str
) -> None:
    assert Home(pathlib.Path("/new")).here(written) == found
