import logging
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainer.loop import checkpoints
from trainer.loop.checkpoints import Checkpoints, folder_of

SURVIVE = pathlib.Path(__file__).parents[1] / "scripts" / "survive.py"


def newest(kept: Checkpoints) -> dict[str, np.ndarray]:
    found = kept.latest()
    assert found is not None
    return found


def arrays(value: int) -> dict[str, np.ndarray]:
    return {"weights": np.full([2, 3], value, np.float32), "step": np.array(value)}


def test_the_newest_checkpoint_comes_back_as_it_was_saved(tmp_path: pathlib.Path) -> None:
    kept = Checkpoints(str(tmp_path / "work"))
    kept.save(9, arrays(9))
    kept.save(10, arrays(10))
    found = newest(Checkpoints(str(tmp_path / "work")))
    np.testing.assert_array_equal(found["weights"], arrays(10)["weights"])
    assert found["step"] == 10


def test_there_is_none_where_nothing_was_saved(tmp_path: pathlib.Path) -> None:
    assert Checkpoints(str(tmp_path / "work")).latest() is None


def test_two_are_kept(tmp_path: pathlib.Path) -> None:
    kept = Checkpoints(str(tmp_path))
    for step in (1, 2, 30):
        kept.save(step, arrays(step))
    assert sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir()) == [2, 30]


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-100], lambda old: b"", lambda old: old[:200] + b"x" + old[201:]]
)
def test_a_damaged_one_gives_way_to_the_one_before_with_a_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    kept = Checkpoints(str(tmp_path))
    kept.save(1, arrays(1))
    kept.save(2, arrays(2))
    last = max(tmp_path.iterdir())
    last.write_bytes(damage(last.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert newest(kept)["step"] == 1
    assert last.name in caplog.text
    assert "damaged" in caplog.text


def test_a_half_written_one_is_not_seen(tmp_path: pathlib.Path) -> None:
    kept = Checkpoints(str(tmp_path))
    kept.save(1, arrays(1))
    whole = next(tmp_path.iterdir())
    (tmp_path / f"{whole.name.replace('1-', '2-')}.77{checkpoints.UNFINISHED}").write_bytes(b"half")
    assert newest(kept)["step"] == 1


def test_clearing_removes_the_folder_and_only_that(tmp_path: pathlib.Path) -> None:
    kept, other = Checkpoints(str(tmp_path / "mine")), Checkpoints(str(tmp_path / "other"))
    kept.save(1, arrays(1))
    other.save(1, arrays(1))
    kept.clear()
    kept.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_only_the_one_that_writes_writes(tmp_path: pathlib.Path) -> None:
    reader = Checkpoints(str(tmp_path), writes=False)
    reader.save(5, arrays(5))
    assert reader.latest() is None
    Checkpoints(str(tmp_path)).save(5, arrays(5))
    assert newest(reader)["step"] == 5
    reader.clear()
    assert newest(reader)["step"] == 5


def test_one_is_due_only_after_its_seconds(tmp_path: pathlib.Path) -> None:
    assert Checkpoints(str(tmp_path), seconds=0.0).due()
    assert not Checkpoints(str(tmp_path), seconds=1e6).due()


@pytest.mark.parametrize(("cost", "interval"), [(0.001, 1.0), (0.1, 5.0), (1.0, 50.0), (60.0, 120.0)])
def test_the_time_between_two_is_fifty_times_what_one_costs_within_limits(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, cost: float, interval: float
) -> None:
    now = [100.0]
    monkeypatch.setattr("trainer.loop.checkpoints.time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(str(tmp_path))
    monkeypatch.setattr(checkpoints, "_write", lambda step, arrays: now.__setitem__(0, now[0] + cost))
    checkpoints.save(1, arrays(1))
    now[0] += 0.99 * interval
    assert not checkpoints.due()
    now[0] += 0.02 * interval
    assert checkpoints.due()


def test_the_folder_depends_on_all_of_the_work_and_on_nothing_else() -> None:
    work: dict[str, Any] = {"job": {"seed": 0, "variant": "mlp"}, "code": "a", "data": ["x"]}
    same = {"data": ["x"], "code": "a", "job": {"variant": "mlp", "seed": 0}}
    assert folder_of("root", "mlp", work) == folder_of("root", "mlp", same)
    others = [{**work, "code": "b"}, {**work, "data": ["y"]}, {**work, "job": {**work["job"], "seed": 1}}]
    assert len({folder_of("root", "mlp", each) for each in [work, *others]}) == 4


def test_folders_that_nothing_was_written_to_for_a_month_are_removed(tmp_path: pathlib.Path) -> None:
    for name, days in (("recent", 29), ("abandoned", 31)):
        Checkpoints(str(tmp_path / name)).save(1, arrays(1))
        [file] = (tmp_path / name).iterdir()
        written = time.time() - days * 24 * 3600
        os.utime(file, (written, written))
    (tmp_path / "new").mkdir()
    checkpoints.remove_abandoned(str(tmp_path))
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["new", "recent"]


def test_no_folder_of_checkpoints_has_no_abandoned_ones(tmp_path: pathlib.Path) -> None:
    checkpoints.remove_abandoned(str(tmp_path / "checkpoints"))


def test_a_trainer_killed_at_five_random_moments_ends_with_the_weights_of_one_that_was_not(
    tmp_path: pathlib.Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(SURVIVE), str(tmp_path)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].endswith("different: []"), done.stdout
    assert "resumed from 0" not in done.stdout
