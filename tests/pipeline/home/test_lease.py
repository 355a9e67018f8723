"""Locks in the metadata store: one holder, also across processes, and none for ever."""

import pathlib
import subprocess
import sys
import threading
import time

import pytest

from pipeline.config.errors import HomeInUse
from pipeline.home import lease, metadata
from pipeline.home.layout import Home
from pipeline.home.lease import LeaseLost, Times

PATIENT = Times(expires=60.0, beat=0.1, patience=120.0, look=0.05)
HASTY = Times(expires=0.5, beat=0.1, patience=120.0, look=0.05)
"""Takes a lock over whose holder gives no sign of life, soon."""
NAME = "production of vae_dense"

HOLDER = """
import pathlib, sys, time
from pipeline.home import lease, metadata
from pipeline.home.layout import Home
connection = metadata.connection(Home(pathlib.Path(sys.argv[1])))
with lease.held(connection, sys.argv[2], lease.Times(beat=0.1)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def connection(tmp_path: pathlib.Path) -> object:
    made = metadata.connection(Home(tmp_path))
    with metadata.opened(made):  # the tables are made once, before anybody connects at the same time
        return made


def test_a_lock_is_held_by_one_at_a_time_and_can_be_taken_again(connection: object) -> None:
    inside: list[str] = []

    def work(name: str) -> None:
        with lease.held(connection, NAME, PATIENT):
            inside.append(name)
            time.sleep(0.3)
            inside.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(inside) == list("aabb")
    assert inside in (list("aabb"), list("bbaa"))


def test_locks_of_different_names_do_not_wait_for_each_other(connection: object) -> None:
    short = Times(expires=30.0, beat=0.1, patience=0.0, look=0.01)
    with lease.held(connection, NAME, short), lease.held(connection, "production of vae'dense", short):
        pass


def test_whoever_waits_longer_than_its_patience_is_told_who_holds_the_lock(connection: object) -> None:
    impatient = Times(expires=30.0, beat=0.05, patience=0.3, look=0.05)
    with (
        lease.held(connection, NAME, impatient),
        pytest.raises(HomeInUse, match=r"process \d+ on \S+ has held the lock production of vae_dense"),
        lease.held(connection, NAME, impatient),
    ):
        pass


def test_a_holder_that_was_killed_holds_nobody_up_and_one_that_lives_is_left_alone(
    connection: object, tmp_path: pathlib.Path
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), NAME], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        alive = Times(expires=60.0, beat=0.1, patience=1.0, look=0.05)
        with pytest.raises(HomeInUse, match=f"process {child.pid} "), lease.held(connection, NAME, alive):
            pass
    finally:
        child.kill()
        child.wait()
    with lease.held(connection, NAME, HASTY):
        pass


def test_a_holder_whose_lock_was_taken_over_is_told(connection: object) -> None:
    frozen = Times(expires=0.2, beat=60.0, patience=20.0, look=0.05)  # gives no sign of life
    with (
        pytest.raises(LeaseLost, match="taken over"),
        lease.held(connection, NAME, frozen),
        lease.held(connection, NAME, HASTY),
    ):
        pass


def test_of_two_claims_of_one_number_one_is_made(connection: object) -> None:
    with metadata.opened(connection) as store:
        assert store.newest_claim(NAME) is None
        assert store.claim(NAME, 1, "a")
        assert store.claim(NAME, 1, "b") is None
        newest = store.newest_claim(NAME)
    assert newest is not None
    assert (newest.number, newest.holder, newest.released) == (1, "a", False)
