"""A kill, a power loss and a full disk at every file operation of push, rollback, promote and prune.

In one process, against a small home: each fault is followed by a plain rerun and by the same command again,
and each of these by an independent checker.
"""

import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from injection import Faults, Killed, Kind
from ml_metadata import errors
from world import World, remembering

from components.serving import publication
from pipeline.config.errors import HomeNotWritable, RunFailed
from pipeline.registry.production import ProductionError

pytestmark = pytest.mark.faults
MEMORY = "/dev/shm"
"""Where fsync costs nothing; the faults decide here what reaches the disk."""
EXPECTED = (Killed, OSError, ProductionError, RunFailed, HomeNotWritable, errors.StatusError)

ACTS = {"push": "run", "rollback": "rollback", "promote": "promote", "prune": "prune"}
BEFORE, AFTER = [1.0, 2.0], {
    "push": [1.0, 2.0, 3.0], "rollback": [1.0, 2.0, 1.0], "promote": [1.0, 2.0, 3.0], "prune": [1.0, 2.0],
}  # fmt: skip
DONE = ("is in production", "nothing to roll back to")
"""What the same command says if all was done but for the last words."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield World(pathlib.Path(folder))


@pytest.fixture
def faults(world: World) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(publication, "call_once", remembering())
        yield Faults(patches, world.home.folder)


def test_the_injection_loses_what_was_not_synchronized_and_halves_what_it_strikes(
    world: World, faults: Faults
) -> None:
    folder = world.home.folder

    def write(name: str, sync: bool) -> None:
        with open(folder / name, "w") as file:
            file.write("content")
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def act() -> None:
        write("synchronized", sync=True)
        write("not", sync=False)
        os.rename(folder / "not", folder / "renamed")
        write("struck", sync=True)

    kept = {Kind.KILL: "content", Kind.POWER: "", Kind.FULL: "content"}
    for kind, content in kept.items():
        world.restore("trained")
        faults.arm(7, kind)
        with pytest.raises(OSError if kind is Kind.FULL else Killed):
            act()
        faults.disarm()
        assert (folder / "synchronized").read_text() == "content"
        assert (folder / "renamed").read_text() == content
        assert (folder / "struck").read_text() == ("" if kind is Kind.POWER else "con")


def strike(world: World, faults: Faults, act: str, template: str, step: int, kind: Kind) -> None:
    """Go back to the template, and let the operation `step` of the command fail."""
    world.restore(template)
    faults.arm(step, kind)
    try:
        getattr(world, ACTS[act])()
    except EXPECTED:
        pass
    finally:
        faults.disarm()


def again(world: World, act: str) -> None:
    """Give the same command again, which may find that all was done."""
    before, refused = world.sources(), ""
    try:
        getattr(world, ACTS[act])()
    except ProductionError as error:
        refused = str(error)
    if refused:
        assert any(words in refused for words in DONE), refused
        assert before == AFTER[act], refused


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("act", ACTS)
def test_whatever_fails_at_whichever_operation_the_next_command_puts_right(
    world: World, faults: Faults, tally: Any, act: str, kind: Kind
) -> None:
    template = "blessed" if act == "push" else "trained"
    world.restore(template)
    faults.arm(10**9, kind)
    getattr(world, ACTS[act])()
    steps = faults.count
    faults.disarm()
    assert steps > 20
    assert world.sources() == AFTER[act]
    assert world.disagreements() == []
    wrong = []
    for step in range(steps):
        with tally(f"{kind} at an operation of {act}") as counted:
            strike(world, faults, act, template, step, kind)
            world.keep("struck")
            found = {}
            for follow in ("a plain rerun", "the same command"):
                world.restore("struck")
                try:
                    if follow == "a plain rerun":
                        world.run(push=act == "push")
                        assert world.sources() in (BEFORE, AFTER[act])
                        assert act != "push" or world.sources() == AFTER[act]
                    else:
                        again(world, act)
                        assert world.sources() == AFTER[act]
                        world.run(push=act == "push")
                    assert world.disagreements() == []
                except (AssertionError, *EXPECTED) as error:
                    found[follow] = f"{type(error).__name__} {str(error)[:600]}"
            if found:
                counted.survived -= 1
                wrong.append(f"{kind} at operation {step} of {steps} of {act}: {found}")
    assert not wrong, "\n".join(wrong)
