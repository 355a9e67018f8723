import os
import pathlib
import threading
import time

import pytest
from tallies import Section
from tfx.utils import io_utils

from components.serving import pusher, versions
from components.serving.publication import REMOVED, publish


def test_a_push_adds_one_whole_version(tmp_path: pathlib.Path, model: pathlib.Path) -> None:
    version = publish(str(model), str(tmp_path / "serving"), "model/1")
    pushed = tmp_path / "serving" / str(version)
    assert (pushed / "saved_model.pb").read_bytes() == (model / "saved_model.pb").read_bytes()
    assert (pushed / "variables" / "variables.index").exists()
    assert os.listdir(tmp_path / "serving") == [str(version)]


def test_all_of_a_version_is_on_disk_before_it_has_its_name(
    tmp_path: pathlib.Path, model: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_rename(source: str, target: str) -> None:
        done.append("renamed")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    version = tmp_path / "serving" / str(publish(str(model), str(tmp_path / "serving"), "model/1"))
    before = {pathlib.Path(path).name for path in done[: done.index("renamed")]}
    assert {path.name for path in version.rglob("*")} <= before
    assert done[-1] == str(tmp_path / "serving")


def test_pushing_the_same_model_twice_adds_nothing(tmp_path: pathlib.Path, model: pathlib.Path) -> None:
    serving = str(tmp_path / "serving")
    assert publish(str(model), serving, "model/1") == publish(str(model), serving, "model/1")
    assert len(versions.published(serving)) == 1


@pytest.mark.section(Section.CLOCK)
def test_versions_ascend_even_when_the_clock_goes_back(
    tmp_path: pathlib.Path, model: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = str(tmp_path / "serving")
    added = []
    for number, now in enumerate([1000.0, 400.0, 400.5, 2000.0]):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        added.append(publish(str(model), serving, f"model/{number}"))
    assert added == [1000, 1001, 1002, 2000] == versions.published(serving)


def test_a_push_that_breaks_off_leaves_no_version_and_no_litter(
    tmp_path: pathlib.Path, model: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(source: str, target: str) -> None:
        os.makedirs(target)
        raise OSError("no space left on device")

    monkeypatch.setattr(io_utils, "copy_dir", break_off)
    with pytest.raises(OSError, match="no space left"):
        publish(str(model), str(tmp_path / "serving"), "model/1")
    assert os.listdir(tmp_path / "serving") == []


def test_a_reader_that_polls_never_sees_a_partial_version(
    tmp_path: pathlib.Path, model: pathlib.Path
) -> None:
    serving = tmp_path / "serving"
    serving.mkdir()
    partial, stop = [], threading.Event()

    def poll() -> None:
        while not stop.is_set():
            for version in versions.published(str(serving)):
                files = {path.name for path in (serving / str(version)).rglob("*") if path.is_file()}
                if not {"saved_model.pb", "variables.index", versions.SOURCE} <= files:
                    partial.append(version)

    reader = threading.Thread(target=poll)
    reader.start()
    for number in range(15):
        publish(str(model), str(serving), f"model/{number}")
    stop.set()
    reader.join()
    assert partial == []
    assert len(versions.published(str(serving))) == 15


def test_a_model_that_somebody_rolled_back_from_is_not_pushed_again_by_itself(
    tmp_path: pathlib.Path, model: pathlib.Path
) -> None:
    serving = str(tmp_path / "serving")
    first, second = (publish(str(model), serving, name) for name in ("model/1", "model/2"))
    back = publish(str(model), serving, "model/1", again=True)
    assert versions.published(serving) == [first, second, back]
    assert publish(str(model), serving, "model/2") == second
    assert publish(str(model), serving, "model/1", again=True) == back
    assert versions.published(serving) == [first, second, back]


@pytest.mark.parametrize(("keep", "left"), [(0, 4), (1, 1), (3, 3), (10, 4)])
def test_the_newest_versions_stay_and_the_others_go_whole(
    tmp_path: pathlib.Path, model: pathlib.Path, keep: int, left: int
) -> None:
    serving = tmp_path / "serving"
    added = [publish(str(model), str(serving), f"model/{number}") for number in range(4)]
    assert pusher.retain(str(serving), keep) == added[: 4 - left]
    assert sorted(os.listdir(serving)) == sorted(map(str, added[4 - left :]))


def test_the_first_copy_of_an_anchor_stays(tmp_path: pathlib.Path, model: pathlib.Path) -> None:
    serving = str(tmp_path / "serving")
    added = [publish(str(model), serving, f"/a/Trainer.mlp/model/{number}") for number in range(5)]
    assert pusher.retain(serving, 2, ["Trainer.mlp/model/1", "Trainer.mlp/model/99"]) == [added[0], added[2]]
    assert versions.published(serving) == [added[1], *added[3:]]


def test_what_a_broken_off_removal_left_goes_with_the_next_one(
    tmp_path: pathlib.Path, model: pathlib.Path
) -> None:
    serving = tmp_path / "serving"
    version = publish(str(model), str(serving), "model/1")
    (serving / f"{REMOVED}7-abc" / "variables").mkdir(parents=True)
    assert pusher.retain(str(serving), 5) == []
    assert os.listdir(serving) == [str(version)]


def test_a_reader_that_polls_never_sees_half_of_a_version_that_is_removed(
    tmp_path: pathlib.Path, model: pathlib.Path
) -> None:
    serving = tmp_path / "serving"
    serving.mkdir()
    partial, stop = [], threading.Event()

    def poll() -> None:
        while not stop.is_set():
            for version in versions.published(str(serving)):
                # Held open by its folder, as a server that loads it would: a rename does not take files away.
                try:
                    handle = os.open(serving / str(version), os.O_RDONLY)
                except FileNotFoundError:
                    continue
                names = set(os.listdir(handle))
                os.close(handle)
                if names and (serving / str(version)).exists() and "saved_model.pb" not in names:
                    partial.append(version)

    reader = threading.Thread(target=poll)
    reader.start()
    for number in range(15):
        publish(str(model), str(serving), f"model/{number}")
        pusher.retain(str(serving), 2)
    stop.set()
    reader.join()
    assert partial == []
    assert len(versions.published(str(serving))) == 2
