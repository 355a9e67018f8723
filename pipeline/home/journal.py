"""The journal: a file for each run under <home>/runs, which says what came of it.

A file is written when the run begins and again when it ends, whole each time. A run that was killed leaves
its first file, from which `alive` tells that it ended without a word. Promotions and rollbacks have entries
of their own, for they change what is in production too.
"""

import dataclasses
import datetime
import json
import logging
import os
import pathlib
import socket
from collections.abc import Mapping
from typing import Any

from pipeline.config.settings import Settings
from pipeline.home.files import write_json
from pipeline.home.layout import Home
from pipeline.home.process import identity

RUN, PROMOTE, ROLLBACK = "run", "promote", "rollback"
RUNNING, ENDED, DIED, DISCARDED = "running", "ended", "ended without a word", "discarded"
PUSHED, CACHED, REFUSED, FAILED, LEFT_OUT = "pushed", "cached", "refused", "failed", "left out"
"""What can come of a variant. Cached: nothing was new; its verdict is that of an earlier run."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one variant.

    Attributes:
      result: pushed, cached, refused, failed or left out.
      version: that was pushed, by this run or where cached by an earlier one; 0 for none.
      why: why not, where there is no version.
    """

    result: str
    version: int = 0
    why: str = ""


@dataclasses.dataclass
class Entry:
    """One run, promotion or rollback.

    Attributes:
      stamp: when it began, local time; the name of its file.
      number: counts the entries of a home, for clocks can go back.
      command: run, promote or rollback.
      host, pid, process: where it runs; `process` is the identity of the process (pipeline.home.process).
      started, ended: ISO 8601 with the offset to UTC; `ended` is empty until then.
      status: running, ended, or ended without a word.
      seconds: that it took; 0 until it has ended.
      exit_code: of the command; None until it has ended, and where it died.
      error: what it failed of.
      settings: what was asked for, without the hooks, whose commands and addresses may be secret.
      spans: of the data, as far as it comes in spans, newest first.
      variants: what came of each.
      drift: what was found.
      hooks: which of them failed, and of what.
      log, report: paths; empty where there is none.
      user, reason: of a promotion or rollback.
    """

    stamp: str
    number: int
    command: str
    host: str
    pid: int
    process: str
    started: str
    ended: str = ""
    status: str = RUNNING
    seconds: float = 0.0
    exit_code: int | None = None
    error: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    spans: list[str] = dataclasses.field(default_factory=list)
    variants: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    drift: list[str] = dataclasses.field(default_factory=list)
    hooks: list[str] = dataclasses.field(default_factory=list)
    log: str = ""
    report: str = ""
    user: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process that does the work still exists; on another machine that cannot be known."""
        if self.status != RUNNING:
            return False
        return self.host != socket.gethostname() or identity(self.pid) == self.process

    @property
    def died(self) -> bool:
        """Whether it ended without a word: killed, or the machine went down."""
        return self.status == DIED or (self.status == RUNNING and not self.alive)

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop, which is no failure."""
        return self.exit_code in (130, 143)

    @property
    def failed(self) -> bool:
        """Whether somebody should look."""
        return self.died or (self.status == ENDED and self.exit_code != 0 and not self.stopped)

    def path(self, home: Home) -> pathlib.Path:
        """Of its file."""
        return home.record(self.stamp)


def begin(home: Home, command: str, **facts: Any) -> Entry:
    """Write the entry of what now begins, and return it. The caller holds the home. Raises OSError."""
    home.runs.mkdir(exist_ok=True)
    now = datetime.datetime.now().astimezone()
    stamp, copies = now.strftime("%Y%m%d-%H%M%S"), 1
    while home.record(stamp).exists():
        copies += 1
        stamp = f"{now.strftime('%Y%m%d-%H%M%S')}-{copies}"
    entry = Entry(
        stamp=stamp,
        number=max((entry.number for entry in read(home)), default=0) + 1,
        command=command,
        host=socket.gethostname(),
        pid=os.getpid(),
        process=identity(os.getpid()),
        started=now.isoformat(timespec="seconds"),
        **facts,
    )
    write(home, entry)
    return entry


def end(home: Home, entry: Entry, seconds: float, error: BaseException | None) -> None:
    """Write how it ended, with `error` where that was not well. Raises OSError."""
    if entry.status == DISCARDED:
        return
    entry.status, entry.seconds = ENDED, round(seconds, 1)
    entry.ended = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    entry.exit_code = exit_code(error)
    entry.error = str(error) if error is not None and not entry.stopped else ""
    write(home, entry)


def discard(home: Home, entry: Entry) -> None:
    """Forget what turned out not to be a run."""
    entry.status = DISCARDED
    entry.path(home).unlink(missing_ok=True)


def exit_code(error: BaseException | None) -> int:
    """The status with which a command ends that `error` ends."""
    if error is None:
        return 0
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def bury(home: Home) -> list[Entry]:
    """Mark the entries of runs that ended without a word; those entries. The caller holds the home."""
    found = [entry for entry in read(home) if entry.status == RUNNING]
    for entry in found:
        entry.status = DIED
        write(home, entry)
    return found


def read(home: Home) -> list[Entry]:
    """The entries of a home, oldest first. A file that is none is passed over; see `unreadable`."""
    entries = [entry for path in home.records() if (entry := _parse(path)) is not None]
    return sorted(entries, key=lambda entry: entry.number)


def unreadable(home: Home) -> list[pathlib.Path]:
    """Files of the journal that are damaged."""
    return [path for path in home.records() if _parse(path) is None]


def write(home: Home, entry: Entry) -> None:
    """Write the entry's file. Raises OSError."""
    write_json(entry.path(home), dataclasses.asdict(entry))


def summary(settings: Settings) -> dict[str, Any]:
    """Of the settings what may be written down."""
    values = dataclasses.asdict(settings)
    del values["notify"]
    return values


def _parse(path: pathlib.Path) -> Entry | None:
    try:
        values = json.loads(path.read_text())
        outcomes: Mapping[str, Any] = values.pop("variants")
        return Entry(**values, variants={name: Outcome(**outcome) for name, outcome in outcomes.items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s is no entry of the journal: %s", path, error)
        return None
