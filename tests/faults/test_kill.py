"""SIGKILL at 20 moments, of first runs and of retraining, each followed by a plain rerun."""

import dataclasses
import pathlib
import random
import time
from typing import Any

import pytest

pytestmark = pytest.mark.faults
SEED = 7
HOMES = 10


@dataclasses.dataclass(frozen=True)
class Moment:
    """When to kill: after a share of an uninterrupted run, and then when a new file fits `sight`."""

    share: float = 0.0
    sight: str = ""

    def __str__(self) -> str:
        return f"after {self.share:.0%} of a run" + (f", when {self.sight} is seen" if self.sight else "")

    def await_(self, home: Any, child: Any, seconds: float) -> None:
        """Return at the moment, or when the run has ended without it."""
        known = set(home.folder.glob(self.sight)) if self.sight else set()
        child.gone.wait(self.share * seconds)
        while self.sight and not child.gone.is_set() and not set(home.folder.glob(self.sight)) - known:
            time.sleep(0.0002)


SIGHTS = (
    Moment(0.0, "metadata.db*"),
    Moment(0.1, "metadata.db-journal"),
    Moment(0.0, "artifacts/Pusher.linear/pushed_model/*"),
    Moment(0.5, "metadata.db-journal"),
    Moment(0.0, "serving/linear/.*"),
    Moment(0.3, "metadata.db-journal"),
    Moment(0.0, "artifacts/Leaderboard/report/*"),
    Moment(0.0, "serving/linear/[0-9]*"),
)
"""The first half is for first runs, the second for retraining, too; where a kill is most likely to hurt."""


def moments() -> list[tuple[Moment, Moment]]:
    """For each home, when to kill its first run and when its second."""
    dice = random.Random(SEED)
    drawn = [Moment(share=dice.uniform(0.0, 0.95)) for _ in range(2 * HOMES - len(SIGHTS))]
    firsts, seconds = [*SIGHTS[:4], *drawn[::2]], [*drawn[1::2], *SIGHTS[4:]]
    return list(zip(firsts, seconds, strict=True))


def test_a_run_killed_at_any_of_20_moments_completes_when_it_is_run_again(
    scratch: pathlib.Path,
    digits_folder: pathlib.Path,
    ready: Any,
    warm: Any,
    tally: Any,
    make_home: Any,
    make_reader: Any,
) -> None:
    began = time.monotonic()
    whole = make_home(scratch / "uninterrupted", digits_folder, warm)
    whole.run()
    seconds = time.monotonic() - began
    failures = []
    for number, pair in enumerate(moments()):
        home = make_home(scratch / f"killed-{number}", digits_folder, warm)
        for nights, moment in enumerate(pair):
            home.nights = nights
            try:
                kill_and_rerun(home, moment, seconds, tally, make_reader)
            except Exception as error:
                failures.append(f"{moment}, night {nights}, {home.folder}: {type(error).__name__} {error}")
    assert not failures, "\n".join(failures)
    every_version_loads(scratch)


def kill_and_rerun(home: Any, moment: Moment, seconds: float, tally: Any, make_reader: Any) -> None:
    fault = "SIGKILL when something is seen on disk" if moment.sight else "SIGKILL at a random moment"
    with tally(fault) as counted:
        before = home.versions()
        reader = make_reader(home.serving)
        try:
            child = home.start()
            moment.await_(home, child, seconds)
            child.kill()
            child.wait()
            assert child.code == -9, f"not killed: exit {child.code}\n{child.out}\n{child.err}"
            home.run()
        finally:
            reader.stop()
            counted.partial += len(reader.partial)
        assert not reader.partial
        assert reader.looks > 100
        counted.lost += sum(not (home.serving / "linear" / str(version)).exists() for version in before)
        assert home.versions()[: len(before)] == before
        assert len(home.versions()) == len(before) + 1, f"{before} became {home.versions()}"
        home.check()


def every_version_loads(scratch: pathlib.Path) -> None:
    import tensorflow as tf

    versions = list(scratch.glob("killed-*/serving/linear/*"))
    assert len(versions) == 2 * HOMES
    for version in versions:
        model = tf.saved_model.load(str(version))
        assert model.signatures["classify"](tf.constant([], tf.string))["label"].shape == (0,)
