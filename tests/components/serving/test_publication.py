"""The one function that changes production: what it lets through, and what it leaves when it does not."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from tallies import Section
from tfx.types import standard_artifacts

from components.serving import manifests, publication, pushed, pusher, versions
from components.serving.publication import NotPublishable, publish

Damage = Callable[[pathlib.Path], None]


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: pathlib.Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def remove(path: pathlib.Path) -> None:
    path.unlink()


WEIGHTS, INDEX, GRAPH = (
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
    "saved_model.pb",
)


@pytest.fixture
def artifact(tmp_path: pathlib.Path, model: pathlib.Path) -> pathlib.Path:
    """A Model artifact as a trainer leaves it, with its manifest."""
    folder = tmp_path / "artifacts" / "Trainer.mlp" / "model" / "7"
    shutil.copytree(model, folder / "Format-Serving")
    manifests.write(str(folder))
    return folder


@pytest.fixture
def serving(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "serving" / "mlp"


def test_a_version_carries_the_manifest_of_its_model(artifact: pathlib.Path, serving: pathlib.Path) -> None:
    version = publish(str(artifact / "Format-Serving"), str(serving), str(artifact))
    folder = serving / str(version)
    assert manifests.damage_of_version(str(folder), thorough=True) == ""
    listed = manifests.read(folder / manifests.INSIDE)
    assert listed is not None
    assert {WEIGHTS, INDEX, GRAPH} <= set(listed)
    (folder / "model_card.json").write_text("laid beside the model later")
    assert manifests.damage_of_version(str(folder), thorough=True) == ""


@pytest.mark.parametrize("file", [WEIGHTS, INDEX, GRAPH])
@pytest.mark.parametrize("damage", [cut, zero, remove])
@pytest.mark.parametrize("of", ["artifact", "version"])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.section(Section.CHECKS)
def test_a_damaged_model_is_named_and_production_stays_as_it_was(
    artifact: pathlib.Path, serving: pathlib.Path, file: str, damage: Damage, of: str, again: bool
) -> None:
    first = publish(str(artifact / "Format-Serving"), str(serving), str(artifact))
    folder = artifact / "Format-Serving" if of == "artifact" else serving / str(first)
    damage(folder / file)
    other = artifact if again else artifact.with_name("8")  # of a copy of the newest there is nothing to do
    if again:
        shutil.copytree(serving / str(first), serving / str(first + 1))
        (serving / str(first + 1) / versions.SOURCE).write_text("artifacts/Trainer.mlp/model/6")
    else:
        manifests.path_of(str(artifact)).rename(manifests.path_of(str(other)))
    before = sorted(os.listdir(serving))
    with pytest.raises(NotPublishable, match="is damaged") as raised:
        publish(str(folder), str(serving), str(other), again=again)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir(serving)) == before


@pytest.mark.parametrize("file", [INDEX, GRAPH])
@pytest.mark.parametrize("damage", [cut, zero, remove])
@pytest.mark.section(Section.CHECKS)
def test_a_model_without_a_manifest_has_to_load_and_answer(
    artifact: pathlib.Path, serving: pathlib.Path, file: str, damage: Damage
) -> None:
    manifests.path_of(str(artifact)).unlink()
    damage(artifact / "Format-Serving" / file)
    with pytest.raises(NotPublishable, match="cannot be served"):
        publish(str(artifact / "Format-Serving"), str(serving), str(artifact))
    assert os.listdir(serving) == []


@pytest.mark.section(Section.CHECKS)
def test_a_model_that_loads_but_cannot_answer_is_not_published(
    tmp_path: pathlib.Path, serving: pathlib.Path
) -> None:
    class Broken(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"image": tf.io.parse_tensor(examples[0], tf.float32)}

    module = Broken()
    tf.saved_model.save(module, str(tmp_path / "broken"), signatures=module.serve)
    with pytest.raises(NotPublishable, match="cannot be served"):
        publish(str(tmp_path / "broken"), str(serving), "artifacts/Trainer.mlp/model/9")
    assert os.listdir(serving) == []


@pytest.mark.section(Section.CHECKS)
def test_a_version_damaged_while_it_was_written_is_taken_away_again(
    artifact: pathlib.Path, serving: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def damaging(source: Any, target: Any) -> None:
        rename(source, target)
        if pathlib.Path(target).name.isdecimal():
            zero(pathlib.Path(target, WEIGHTS))

    monkeypatch.setattr(os, "rename", damaging)
    with pytest.raises(NotPublishable, match="check the disk"):
        publish(str(artifact / "Format-Serving"), str(serving), str(artifact))
    assert versions.published(str(serving)) == []


def test_a_person_may_publish_the_current_model_again_once_its_version_is_damaged(
    artifact: pathlib.Path, serving: pathlib.Path
) -> None:
    source = str(artifact / "Format-Serving")
    first = publish(source, str(serving), str(artifact))
    assert publish(source, str(serving), str(artifact), again=True) == first
    cut(serving / str(first) / WEIGHTS)
    second = publish(source, str(serving), str(artifact), again=True)
    assert second > first
    assert manifests.damage_of_version(str(serving / str(second)), thorough=True) == ""


@pytest.mark.parametrize("name", ["9" * 25, "9223372036854775808", "0123", "\u00b2", "12x", "7"])
@pytest.mark.section(Section.CHECKS)
def test_a_folder_that_is_not_ours_does_not_steer_the_next_version(
    artifact: pathlib.Path, serving: pathlib.Path, name: str
) -> None:
    (serving / name).mkdir(parents=True)
    version = publish(str(artifact / "Format-Serving"), str(serving), str(artifact))
    assert versions.published(str(serving)) == [version]
    assert version < 2**40
    assert versions.strangers(str(serving)) == ([7] if name == "7" else [])


@pytest.mark.section(Section.MOVED)
def test_a_moved_home_recognizes_its_models_by_name() -> None:
    assert versions.same_artifact("/a/artifacts/Trainer.mlp/model/7", "/b/artifacts/Trainer.mlp/model/7")
    assert not versions.same_artifact("/a/artifacts/Trainer.mlp/model/7", "/a/artifacts/Trainer.mlp/model/8")
    assert not versions.same_artifact("", "")


class Push:
    """The Pusher's executor on a candidate with a blessing."""

    def __init__(self, serving: pathlib.Path, artifact: pathlib.Path, baseline: str = "") -> None:
        self.model = standard_artifacts.Model()
        self.model.uri = str(artifact)
        self.blessing = standard_artifacts.ModelBlessing()
        self.blessing.set_int_custom_property("blessed", 1)
        if baseline:
            self.blessing.set_string_custom_property(pusher.BASELINE, baseline)
        self.pushed = standard_artifacts.PushedModel()
        self.pushed.uri = str(artifact.parent / "pushed")
        self.properties = {
            "push_destination": json.dumps({"filesystem": {"base_directory": str(serving)}}),
            "custom_config": "null",
        }

    def do(self) -> int | None:
        given = {"model": [self.model], "model_blessing": [self.blessing]}
        pusher.Executor().Do(given, {"pushed_model": [self.pushed]}, self.properties)
        return pushed.version(self.pushed)


@pytest.mark.section(Section.STALE)
def test_the_gate_never_pushes_a_model_again_that_somebody_rolled_back_from(
    artifact: pathlib.Path, serving: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving.mkdir(parents=True)
    versions.withdraw(str(serving), str(artifact))
    assert Push(serving, artifact).do() is None
    assert versions.published(str(serving)) == []
    assert "only `promote` pushes it" in caplog.text
    publish(str(artifact / "Format-Serving"), str(serving), str(artifact), again=True)
    assert len(versions.published(str(serving))) == 1


@pytest.mark.parametrize("baseline", ["", "artifacts/Trainer.mlp/model/3"])
@pytest.mark.section(Section.STALE)
def test_a_verdict_against_a_model_that_no_longer_serves_pushes_nothing(
    artifact: pathlib.Path, model: pathlib.Path, serving: pathlib.Path, baseline: str
) -> None:
    first = publish(str(model), str(serving), "artifacts/Trainer.mlp/model/2")
    with pytest.raises(pusher.StaleVerdict, match="run again"):
        Push(serving, artifact, baseline).do()
    assert versions.published(str(serving)) == [first]
    assert Push(serving, artifact, "elsewhere/artifacts/Trainer.mlp/model/2").do() is not None
    assert len(versions.published(str(serving))) == 2


def test_examples_of_the_trial_batch_have_the_size_of_real_ones() -> None:
    [image] = tf.io.parse_example([publication.example(3)], {"image": tf.io.FixedLenFeature([], tf.string)})[
        "image"
    ].numpy()
    assert set(image) == {3}
    assert len(image) == 784
