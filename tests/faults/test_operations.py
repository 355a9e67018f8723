"""A kill, a power loss and a full disk at every file operation of push, rollback, promote and prune.

Against a small home: each fault is followed by a plain rerun and by the same command again, and each of these
by an independent checker. All of it happens in this process or, with --real-processes, each command in a fork
of it that the fault ends with SIGKILL.
"""

import contextlib
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apart import apart, here
from injection import Faults, Killed, Kind
from ml_metadata import errors
from tallies import Section
from world import World, remembering

from components.serving import publication
from pipeline.config.errors import HomeNotWritable, RunFailed
from pipeline.registry.production import ProductionError

CarryOut = Callable[[Callable[[], Any]], Any]
pytestmark = [pytest.mark.faults, pytest.mark.section(Section.INTENT)]
MEMORY = "/dev/shm"
"""Where fsync costs nothing; the faults decide here what reaches the disk."""
EXPECTED = (Killed, OSError, ProductionError, RunFailed, HomeNotWritable, errors.StatusError)

ACTS = {"push": "run", "rollback": "rollback", "promote": "promote", "prune": "prune"}
BEFORE, AFTER = [1.0, 2.0], {
    "push": [1.0, 2.0, 3.0], "rollback": [1.0, 2.0, 1.0], "promote": [1.0, 2.0, 3.0], "prune": [1.0, 2.0],
}  # fmt: skip
NEVER = 10**9
"""An operation that no command reaches."""
DONE = ("is in production", "nothing to roll back to")
"""What the same command says if all was done but for the last words."""


@pytest.fixture(scope="module")
def carry_out(request: pytest.FixtureRequest) -> CarryOut:
    """Carry out a command and return when it has ended, however it has; an assertion that fails is raised."""
    return apart if request.config.getoption("--real-processes") else here


@pytest.fixture(scope="module")
def world(carry_out: CarryOut) -> Iterator[World]:
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        world = World(pathlib.Path(folder))
        carry_out(world.build)
        yield world


@pytest.fixture
def faults(request: pytest.FixtureRequest, world: World) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(publication, "call_once", remembering())
        yield Faults(patches, world.home.folder, real=request.config.getoption("--real-processes"))


def test_the_injection_loses_what_was_not_synchronized_and_halves_what_it_strikes(
    world: World, faults: Faults, carry_out: CarryOut
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

    def struck() -> None:
        faults.arm(7, kind)
        with contextlib.suppress(Killed, OSError):
            act()
        faults.disarm()

    kept = {Kind.KILL: "content", Kind.POWER: "", Kind.FULL: "content"}
    for kind, content in kept.items():
        world.restore("trained")
        carry_out(struck)
        assert (folder / "synchronized").read_text() == "content"
        assert (folder / "renamed").read_text() == content
        assert (folder / "struck").read_text() == ("" if kind is Kind.POWER else "con")


def struck_at(world: World, faults: Faults, act: str, step: int, kind: Kind) -> int:
    """Let the operation `step` of a command fail; how many operations there were."""
    faults.arm(step, kind)
    try:
        getattr(world, ACTS[act])()
    except EXPECTED:
        pass
    finally:
        faults.disarm()
    return faults.count


def rerun(world: World, act: str) -> None:
    """Run again as a user would, and check what that has left."""
    world.run(push=act == "push")
    assert world.sources() in (BEFORE, AFTER[act])
    assert act != "push" or world.sources() == AFTER[act]


def again(world: World, act: str) -> None:
    """Give the same command again, which may find that all was done; then run."""
    before, refused = world.sources(), ""
    try:
        getattr(world, ACTS[act])()
    except ProductionError as error:
        refused = str(error)
    if refused:
        assert any(words in refused for words in DONE), refused
        assert before == AFTER[act], refused
    assert world.sources() == AFTER[act]
    world.run(push=act == "push")


FOLLOWS = {"a plain rerun": rerun, "the same command": again}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("act", ACTS)
def test_whatever_fails_at_whichever_operation_the_next_command_puts_right(
    world: World, faults: Faults, carry_out: CarryOut, tally: Any, act: str, kind: Kind
) -> None:
    template = "blessed" if act == "push" else "trained"
    world.restore(template)
    steps = carry_out(functools.partial(struck_at, world, faults, act, NEVER, kind))
    assert steps > 20
    assert world.sources() == AFTER[act]
    assert world.disagreements() == []
    wrong = []
    for step in range(steps):
        with tally(f"{kind} at an operation of {act}") as counted:
            world.restore(template)
            carry_out(functools.partial(struck_at, world, faults, act, step, kind))
            world.keep("struck")
            found = {}
            for name, follow in FOLLOWS.items():
                world.restore("struck")
                try:
                    carry_out(functools.partial(follow, world, act))
                    assert world.disagreements() == []
                except (AssertionError, *EXPECTED) as error:
                    found[name] = f"{type(error).__name__} {str(error)[:600]}"
            if found:
                counted.survived -= 1
                wrong.append(f"{kind} at operation {step} of {steps} of {act}: {found}")
    assert not wrong, "\n".join(wrong)
