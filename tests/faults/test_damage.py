"""Files that were damaged between two runs: noticed before they are read, and fixed as the documents say."""

import contextlib
import pathlib
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from tallies import Section

pytestmark = [pytest.mark.faults, pytest.mark.section(Section.DAMAGE)]


def cut(path: pathlib.Path) -> None:
    """The first half is left."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def begin(path: pathlib.Path) -> None:
    """The first hundred bytes are left; a gzipped TFRecord file then reads as one without examples."""
    path.write_bytes(path.read_bytes()[:100])


def garble(path: pathlib.Path) -> None:
    """A stretch in the middle has other bytes."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(byte ^ 0x55 for byte in content[middle : middle + 16])
    path.write_bytes(content)


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def withdraw(path: pathlib.Path) -> None:
    path.unlink()


def all_cached(child: Any) -> bool:
    """Whether the run found everything done."""
    lines = [line for line in child.out.splitlines() if line.startswith("+ ")]
    return bool(lines) and all(line.endswith("cached") for line in lines)


Damage = Callable[[pathlib.Path], None]


@pytest.mark.parametrize(
    "damages",
    [
        (
            ("TFRecord", "IdxExampleGen", "examples", "Split-eval/*.gz", begin),
            ("TFRecord", "Transform", "transformed_examples", "Split-train/*.gz", begin),
            ("SavedModel", "Trainer.linear", "model", "Format-Serving/variables/*data*", garble),
        ),
        (
            ("TFRecord", "Transform", "transformed_examples", "Split-eval/*.gz", withdraw),
            ("SavedModel", "Trainer.linear", "model", "Format-Serving/saved_model.pb", cut),
        ),
    ],
    ids=["examples and what came of them", "what came of examples that are whole"],
)
def test_damaged_artifacts_are_noticed_set_aside_and_made_again(
    finished: Any, tally: Any, damages: tuple[tuple[str, str, str, str, Damage], ...]
) -> None:
    home, snapshot = finished
    with contextlib.ExitStack() as trials:
        places = []
        for what, node, key, pattern, damage in damages:
            trials.enter_context(tally(f"corrupted {what}"))
            folder = home.output(node, key)
            file = next(folder.glob(pattern))
            damage(file)
            places.append((node, folder, file.relative_to(folder)))
        child = home.run()
        for node, folder, file in places:
            assert f"! {folder} is damaged ({file}" in child.out
            [line] = [line for line in child.out.splitlines() if line.startswith(f"+ {node} ")]
            assert "cached" not in line
        assert snapshot.lost() == 0
        assert len(home.versions()) == 2
        home.check()


def test_an_artifact_damaged_during_a_run_is_named_and_the_rerun_makes_it_again(
    finished: Any, tally: Any
) -> None:
    """The examples are damaged once the run has begun, so that only a reader of theirs can notice."""
    home, snapshot = finished
    with tally("corrupted TFRecord, during a run") as counted:
        folder = home.output("Transform", "transformed_examples")
        home.nights = 1
        child = home.start()
        while "+ Transform" not in child.out and not child.gone.is_set():
            pass
        for file in folder.glob("Split-*/*.gz"):
            garble(file)
        line = child.error()
        assert f"its input {folder} is damaged" in line
        assert "the same command makes it again" in line
        assert len(home.versions()) == 1
        home.run()
        counted.lost += snapshot.lost()
        assert len(home.versions()) == 2
        home.check()


@pytest.mark.parametrize("damage", [cut, garble, empty, withdraw])
def test_a_damaged_metadata_database_is_named_and_its_copy_brings_it_back(
    finished: Any, tally: Any, damage: Damage
) -> None:
    home, snapshot = finished
    with tally(f"metadata database, {damage.__name__}") as counted:
        content = bytearray(home.database.read_bytes())
        damage(home.database)
        if damage is garble:  # the middle may hold free pages; the schema's page is read by everyone
            content[100:600] = bytes(500)
            home.database.write_bytes(content)
        line = home.start().error()
        assert str(home.database) in line
        command = line.partition("`")[2].partition("`")[0]
        assert command.startswith("cp ")
        subprocess.run(shlex.split(command), check=True)
        before = home.versions()
        assert all_cached(home.run())
        counted.lost += snapshot.lost()
        assert snapshot.lost() == 0
        assert home.versions() == before
        home.check()


def test_a_database_without_a_copy_says_how_to_begin_anew(finished: Any, tally: Any) -> None:
    home, _ = finished
    with tally("metadata database, cut, without its copy"):
        cut(home.database)
        home.database.with_name("metadata.db.bak").unlink()
        line = home.start().error()
        command = line.partition("`")[2].partition("`")[0]
        assert command == f"mv {home.folder} {home.folder}.damaged"
        subprocess.run(shlex.split(command), check=True)
        home.run()
        assert len(home.versions()) == 1
        home.check()
        subprocess.run(["rm", "-r", f"{home.folder}.damaged"], check=True)


def test_a_copy_from_before_the_last_push_meets_no_outputs_of_the_lost_time(
    finished: Any, tally: Any
) -> None:
    """Numbers of executions since the copy are given out again; their folders have to be out of the way."""
    home, snapshot = finished
    with tally("metadata database, older copy restored") as counted:
        copy = home.database.with_name("metadata.db.bak")
        older = copy.read_bytes()
        home.nights = 1
        home.run()
        home.database.write_bytes(older)
        child = home.run()
        assert "is unknown to metadata.db; set aside" in child.out
        counted.lost += snapshot.lost()
        assert snapshot.lost() == 0
        home.check()


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    new_home: Any, warm: Any, tally: Any, tmp_path: pathlib.Path
) -> None:
    home = new_home(warm)
    settings = tmp_path / "settings.yaml"
    settings.write_text("variants: [linear]\nexperiments: {linear: {recipe: {steps: 60000}}}\n")
    with tally("corrupted checkpoint"):
        child = home.start(f"--settings={settings}")
        while not child.gone.is_set() and not list(home.artifacts.glob("Trainer.linear/model_run/*/train/*")):
            time.sleep(0.02)
        child.kill(signal.SIGTERM)
        child.wait()
        [checkpoint] = home.artifacts.glob("checkpoints/*/*.npz")
        garble(checkpoint)
        child = home.run(f"--settings={settings}")
        assert f"the checkpoint {checkpoint} is damaged" in child.out
        assert len(home.versions()) == 1
        home.check()


@pytest.mark.parametrize(
    ("file", "damage"), [("saved_model.pb", cut), ("variables/variables.data-00000-of-00001", cut)]
)
def test_a_damaged_pushed_model_is_named_by_evaluate(
    finished: Any, warm: Any, tally: Any, file: str, damage: Damage
) -> None:
    home, _ = finished
    with tally("corrupted SavedModel, pushed"):
        [version] = home.versions()
        damage(home.serving / "linear" / str(version) / file)
        child = warm.start(["evaluate", str(home.serving / "linear"), "--data", str(home.data)]).wait()
        assert child.code in (1, 2)
        [line] = child.err.splitlines()
        assert str(home.serving / "linear" / str(version)) in line


@pytest.mark.parametrize("damage", [cut, empty, withdraw])
def test_damaged_data_is_named_and_nothing_is_pushed(
    finished: Any, tally: Any, tmp_path: pathlib.Path, damage: Damage
) -> None:
    home, snapshot = finished
    data, home.data = home.data, tmp_path / "data"
    shutil.copytree(data, home.data)
    try:
        with tally("corrupted or withdrawn data file"):
            file = home.data / "train-images-idx3-ubyte"
            damage(file)
            line = home.start().error()
            assert str(file if damage is not withdraw else home.data) in line
            assert len(home.versions()) == 1
            assert snapshot.lost() == 0
    finally:
        home.data = data
    assert all_cached(home.run())


def test_a_data_folder_withdrawn_between_two_runs_is_named(
    finished: Any, tally: Any, tmp_path: pathlib.Path
) -> None:
    home, snapshot = finished
    data, home.data = home.data, tmp_path / "withdrawn"
    try:
        with tally("data folder withdrawn between two runs"):
            line = home.start().error()
            assert str(home.data) in line
            assert snapshot.lost() == 0
    finally:
        home.data = data
    assert all_cached(home.run())


def test_a_span_withdrawn_between_two_runs_leaves_production_as_it_is(
    new_home: Any, warm: Any, tally: Any, tmp_path: pathlib.Path, digits_folder: pathlib.Path
) -> None:
    spans = tmp_path / "spans"
    shutil.copytree(digits_folder, spans / "span-1")
    home = new_home(warm, data=spans)
    with tally("data span withdrawn between two runs") as counted:
        home.run("--spans=1")
        shutil.copytree(spans / "span-1", spans / "span-2")
        home.run("--spans=1")
        snapshot = home.snapshot()
        pushed = home.versions()
        shutil.rmtree(spans / "span-2")
        home.run("--spans=1")
        counted.lost += snapshot.lost()
        assert snapshot.lost() == 0
        assert home.versions() == pushed
        shutil.rmtree(spans / "span-1")
        line = home.start("--spans=1").error()
        assert str(spans) in line
        assert snapshot.lost() == 0
        home.check()
