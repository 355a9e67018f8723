"""Disks that fill up, folders that cannot be written: a line says where, and the same command goes on."""

import pathlib
import signal
import time
from typing import Any

import pytest
from tallies import Section

pytestmark = [pytest.mark.faults, pytest.mark.section(Section.ROOM)]
FULL = "disk full in {}"


class Disk:
    """A small file system at a folder, seen by the processes of `mounting` and through them."""

    def __init__(self, mounting: Any, folder: pathlib.Path, kilobytes: int) -> None:
        self._mounting, self._folder = mounting, folder
        folder.mkdir(parents=True)
        mounting.run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))

    def make_room(self) -> None:
        self._mounting.run("mount", "-o", "remount,size=64m", str(self._folder))


def inside(mounting: Any, path: pathlib.Path) -> pathlib.Path:
    """The path as the processes of `mounting` see it."""
    return pathlib.Path(f"/proc/{mounting.pid}/root", *path.parts[1:])


def fill_and_rerun(
    home: Any, disk: Disk, mounting: Any, place: pathlib.Path, make_reader: Any, counted: Any
) -> None:
    """The run fails and says where the disk is full; with room made, the rerun completes and pushes once."""
    child = home.start().wait()
    assert child.code == 1, child.out + child.err
    assert child.err, child.out
    assert all(f"the disk is full at {place}" in line for line in child.err.splitlines()), child.err
    reader = make_reader(inside(mounting, home.serving), inside(mounting, pathlib.Path("/")))
    reader.stop()
    counted.partial += len(reader.partial)
    assert not reader.partial
    disk.make_room()
    home.run()
    assert len(list(inside(mounting, home.serving).glob("linear/[0-9]*"))) == 1
    assert not list(inside(mounting, home.serving).glob("linear/.*"))


@pytest.mark.parametrize(
    ("stage", "place", "kilobytes"),
    [
        ("example generation", "artifacts/IdxExampleGen", 16),
        ("training (export)", "artifacts/Trainer.linear", 64),
        ("push", "serving", 64),
    ],
)
def test_a_full_disk_is_told_in_a_line_and_the_rerun_completes(
    new_home: Any, mounting: Any, tally: Any, make_reader: Any, stage: str, place: str, kilobytes: int
) -> None:
    home = new_home(mounting)
    with tally(FULL.format(stage)) as counted:
        disk = Disk(mounting, home.folder / place, kilobytes)
        fill_and_rerun(home, disk, mounting, home.folder / place, make_reader, counted)


@pytest.mark.parametrize(("kilobytes", "jobs"), [(40, 1), (600, 1), (1500, 1), (40, 2), (1200, 2)])
def test_a_home_that_is_full_at_any_moment_is_told_in_a_line(
    new_home: Any, mounting: Any, tally: Any, make_reader: Any, kilobytes: int, jobs: int
) -> None:
    home = new_home(mounting)
    home.jobs = jobs
    with tally(FULL.format("the whole home")) as counted:
        disk = Disk(mounting, home.folder, kilobytes)
        fill_and_rerun(home, disk, mounting, home.folder, make_reader, counted)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_under_the_checkpoints_is_told_in_a_line(
    new_home: Any, mounting: Any, tally: Any, tmp_path: pathlib.Path, jobs: int
) -> None:
    """SIGTERM makes training leave a checkpoint."""
    home = new_home(mounting)
    home.jobs = jobs
    settings = tmp_path / "settings.yaml"
    settings.write_text("variants: [linear]\nexperiments: {linear: {recipe: {steps: 60000}}}\n")
    with tally(FULL.format("training (checkpoint)")):
        disk = Disk(mounting, home.artifacts / "checkpoints", 4)
        child = home.start(f"--settings={settings}")
        while not child.gone.is_set() and not list(home.artifacts.glob("Trainer.linear/model_run/*/train/*")):
            time.sleep(0.05)
        child.kill(signal.SIGTERM)
        told = child.error() if jobs == 1 else child.wait().out  # the other run was stopped, and says so
        assert child.code == (1 if jobs == 1 else 143)
        assert f"the disk is full at {home.artifacts / 'checkpoints'}" in told
        disk.make_room()
        home.run(f"--settings={settings}")
        assert len(home.versions()) == 1
        home.check()


def test_a_serving_folder_that_is_read_only_is_told_in_a_line(
    new_home: Any, mounting: Any, tally: Any
) -> None:
    home = new_home(mounting)
    with tally("read-only serving folder"):
        home.serving.mkdir(parents=True)
        mounting.run("mount", "--bind", str(home.serving), str(home.serving))
        mounting.run("mount", "-o", "remount,bind,ro", str(home.serving))
        line = home.start().error()
        assert f"{home.serving}/linear is on a read-only file system" in line
        mounting.run("umount", str(home.serving))
        home.run()
        assert len(home.versions()) == 1
        home.check()


def test_a_file_in_place_of_the_serving_folder_is_told_in_a_line(
    new_home: Any, warm: Any, tally: Any
) -> None:
    home = new_home(warm)
    with tally("a file in place of the serving folder"):
        home.folder.mkdir()
        home.serving.write_text("")
        line = home.start().error()
        assert str(home.serving) in line
        home.serving.unlink()
        home.run()
        assert len(home.versions()) == 1
        home.check()
