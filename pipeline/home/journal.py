"""The journal: one file per run, promotion or rollback under <home>/runs, which says how it ended.

A file is written when the run begins and again when it ends, whole each time. A run that was killed leaves
its first file; that its process is gone shows that it crashed.
"""

import contextlib
import dataclasses
import datetime
import enum
import json
import logging
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.config import exit_codes
from pipeline.config.errors import RunFailed
from pipeline.config.settings import Settings
from pipeline.home.files import write_json
from pipeline.home.layout import Home
from pipeline.home.process import identity

log = logging.getLogger(__name__)
BEAT = 10.0
"""Seconds between two writes of the heartbeat, at least, except where a component begins."""
ELSEWHERE = "elsewhere"
"""Process of a record that came with a copy of a home: what goes on there is none of this home's."""


class Command(enum.StrEnum):
    """What has records in the journal."""

    RUN = "run"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    ACCEPT = "accept"
    """Somebody took the level that an alarm was raised at for the new one."""
    RESUME = "resume"
    """Somebody removed the cause of an alarm."""


class Status(enum.StrEnum):
    """How far a run has come, or how it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CRASHED = "crashed"
    """Its process was killed, or the machine went down: nobody wrote down how it ended."""
    STOPPED = "stopped"
    """Somebody stopped it, which is no failure."""


class Result(enum.StrEnum):
    """What a run did about a variant."""

    PUSHED = "pushed"
    CACHED = "cached"
    """Nothing was new; the verdict is that of an earlier run."""
    REFUSED = "refused"
    HELD = "held"
    """Refused by the gate, but no more than chance does among so many variants: nobody has to look."""
    ALARM = "alarm"
    """Not pushed, since an alarm for slow decline stands until somebody ends it."""
    ENDED = "alarm ended"
    """Somebody ended the alarm."""
    EVALUATED = "evaluated"
    """Trained and evaluated in a run that pushes nothing."""
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a run for one variant.

    Attributes:
      result: what the run did.
      version: that was pushed, by this run or, if cached, by an earlier one; 0 for none.
      why: the reason, if there is no version.
      gate: what the gate found, in a line; empty where nothing was compared.
      evaluated: whether the gate judged a candidate, so that `alarm` is known.
      alarm: what the alarm that stands is about; empty if none does.
      raised: whether no alarm stood before.
      warnings: what somebody should look at beside that.
    """

    result: Result
    version: int = 0
    why: str = ""
    gate: str = ""
    evaluated: bool = False
    alarm: str = ""
    raised: bool = False
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run, or one decision of a person.

    Attributes:
      stamp: when it began, local time; the name of its file.
      number: counts the records of a home, since clocks can go back.
      command: run, promote or rollback.
      host, pid, process: where it runs; `process` is the identity of the process (pipeline.home.process).
      started, ended: ISO 8601 with the offset to UTC; `ended` is empty until then.
      status: as it was last written; see `state`.
      seconds: how long it took; 0 until it has ended.
      exit_code: of the command; None until it has ended, and after a crash.
      error: why it failed.
      settings: what was asked for, without the hooks, whose commands and addresses may be secret.
      spans: of the data, newest first; empty for data without spans.
      variants: the outcome of each trained model, by its name: of the variant or experiment, with its seed if
        the experiment has several.
      cached: whether nothing was new, so that the run took no time.
      drift: what was found.
      hooks: which of them failed, and why.
      doing: the component at work, while the run is under way; empty before the first.
      progress: when the run last got on, ISO 8601: a component began or ended, or a training took steps.
      log, report: paths; empty if there is none.
      user, reason: of what a person decided.
      ends_alarm: whether that ends an alarm of the variant.
      run: id of a run on a cluster; empty on one machine.
      home: where it runs. A copy of a home has the records of runs that go on elsewhere.
    """

    stamp: str
    number: int
    command: Command
    host: str
    pid: int
    process: str
    started: str
    ended: str = ""
    status: Status = Status.RUNNING
    seconds: float = 0.0
    exit_code: int | None = None
    error: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    spans: tuple[str, ...] = ()
    variants: Mapping[str, Outcome] = dataclasses.field(default_factory=dict)
    cached: bool = False
    drift: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    doing: str = ""
    progress: str = ""
    log: str = ""
    report: str = ""
    user: str = ""
    reason: str = ""
    ends_alarm: bool = False
    run: str = ""
    home: str = ""

    @property
    def state(self) -> Status:
        """Return the status as of now: a run whose process is gone has crashed.

        Whether a process of another machine exists cannot be known; it is taken to.
        """
        here = self.host == socket.gethostname()
        if self.status is Status.RUNNING and here and identity(self.pid) != self.process:
            return Status.CRASHED
        return self.status

    @property
    def failed(self) -> bool:
        """Return whether somebody should look."""
        return self.state in (Status.FAILED, Status.CRASHED)

    def to_json(self) -> dict[str, Any]:
        """Return the record as values of JSON, with its status as of now."""
        return {**dataclasses.asdict(self), "status": self.state}


class Writer:
    """Writes the record of what this process does, from its beginning to its end; nobody else writes one."""

    def __init__(self, home: Home, record: RunRecord) -> None:
        self._home = home
        self._discarded = False
        self._lock = threading.Lock()
        self._beaten = 0.0
        self.record = record

    @classmethod
    def begin(cls, home: Home, command: Command, **facts: Any) -> "Writer":
        """Write the record of what now begins. The caller holds the home. Raises OSError."""
        home.runs.mkdir(exist_ok=True)
        now = datetime.datetime.now().astimezone()
        first = now.strftime("%Y%m%d-%H%M%S")
        stamp, copies = first, 1
        while home.record(stamp).exists():
            copies += 1
            stamp = f"{first}-{copies}"
        record = RunRecord(
            stamp=stamp,
            number=max((record.number for record in read(home)), default=0) + 1,
            command=command,
            host=socket.gethostname(),
            pid=os.getpid(),
            process=identity(os.getpid()),
            started=now.isoformat(timespec="seconds"),
            home=str(home.folder),
            log=str(home.run_log(stamp)) if command is Command.RUN else "",
            **facts,
        )
        _write(home, record)
        return cls(home, record)

    @classmethod
    def resume(cls, home: Home, stamp: str) -> "Writer | None":
        """Take up the record of that stamp, whose process is gone; None if there is none."""
        found = next((record for record in read(home) if record.stamp == stamp), None)
        return cls(home, found) if found else None

    def note(self, **facts: Any) -> None:
        """Add facts to the record, which `write` and `end` put on disk."""
        with self._lock:
            self.record = dataclasses.replace(self.record, **facts)

    def write(self) -> None:
        """Write the record as it is now. Raises OSError."""
        with self._lock:
            if not self._discarded:
                _write(self._home, self.record)

    def beat(self, doing: str = "") -> None:
        """Write that the run gets on, by any thread and however often: on disk at most once per BEAT seconds.

        doing: the component that begins, if one does. A full disk is for the run to report, not for this.
        A process that the run has forked for a component only touches the file, which `read` sees: its own
        copy of the record is out of date.
        """
        now = time.monotonic()
        if self.record.status is not Status.RUNNING or (not doing and now - self._beaten < BEAT):
            return
        self._beaten = now
        if os.getpid() != self.record.pid:
            with contextlib.suppress(OSError):
                os.utime(self._home.record(self.record.stamp))
            return
        moment = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self.note(progress=moment, **({"doing": doing} if doing else {}))
        with contextlib.suppress(OSError):
            self.write()

    def end(self, seconds: float, error: BaseException | None) -> None:
        """Write how it ended: with `error`, or well. Raises OSError."""
        code = exit_code(error)
        status = Status.STOPPED if code in exit_codes.STOPS else _ended(code)
        self.note(
            status=status,
            seconds=round(seconds, 1),
            ended=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            exit_code=code,
            error=str(error) if status is Status.FAILED else "",
            doing="",
        )
        self.write()

    def discard(self) -> None:
        """Remove the record of what turned out not to be a run."""
        self._discarded = True
        self._home.record(self.record.stamp).unlink(missing_ok=True)


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of a command that ends with `error`."""
    if error is None:
        return 0
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    if isinstance(error, RunFailed):
        return error.exit_code
    return exit_codes.INTERRUPTED if isinstance(error, KeyboardInterrupt) else exit_codes.FAILED


def mark_crashed(home: Home) -> list[RunRecord]:
    """Mark the runs that are recorded as running as crashed, and return them. The caller holds the home."""
    found = [
        dataclasses.replace(record, status=Status.CRASHED)
        for record in read(home)
        if record.status is Status.RUNNING
    ]
    for record in found:
        _write(home, record)
    return found


def read(home: Home) -> list[RunRecord]:
    """Return the records of a home, oldest first, without damaged ones, which `unreadable` lists."""
    found = [record for path in home.records() if (record := _parse(home, path)) is not None]
    return sorted(found, key=lambda record: record.number)


def alarms(records: Iterable[RunRecord]) -> dict[str, str]:
    """Return the alarms that stand, by variant, from the records of a home in their order.

    A run that judged no candidate of a variant changes nothing; a decision ends an alarm once it has
    succeeded.
    """
    found: dict[str, str] = {}
    for record in records:
        for name, outcome in record.variants.items():
            if record.command is Command.RUN and outcome.alarm:
                found[name] = outcome.alarm
            elif outcome.evaluated or (record.ends_alarm and record.status is Status.SUCCEEDED):
                found.pop(name, None)
    return found


def unreadable(home: Home) -> list[pathlib.Path]:
    """Return the files of the journal that are damaged."""
    return [path for path in home.records() if _parse(home, path) is None]


def summary(settings: Settings) -> dict[str, Any]:
    """Return the settings without what must not be written down."""
    values = dataclasses.asdict(settings)
    del values["notify"]
    return values


def _write(home: Home, record: RunRecord) -> None:
    write_json(home.record(record.stamp), dataclasses.asdict(record))


def _parse(home: Home, path: pathlib.Path) -> RunRecord | None:
    try:
        values = json.loads(path.read_text())
        outcomes: Mapping[str, Any] = values.pop("variants")
        for name in ("spans", "drift", "hooks"):
            values[name] = tuple(values.get(name, ()))
        if values.get("log"):  # the home may have been moved since
            values["log"] = str(home.run_log(values["stamp"]))
        if values.get("report"):
            values["report"] = str(home.report)
        if values.get("home", str(home.folder)) != str(home.folder):
            values |= {"host": socket.gethostname(), "process": ELSEWHERE}
        if values.get("status") == Status.RUNNING:
            touched = datetime.datetime.fromtimestamp(path.stat().st_mtime).astimezone()
            values["progress"] = touched.isoformat(timespec="seconds")
        return RunRecord(
            **{
                **values,
                "command": Command(values["command"]),
                "status": _status(values.get("status"), values.get("exit_code")),
                "variants": {name: _outcome(**outcome) for name, outcome in outcomes.items()},
            }
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning("%s is not a record of the journal: %s", path, error)
        return None


def _ended(code: int | None) -> Status:
    return Status.FAILED if code else Status.SUCCEEDED


def _status(word: Any, code: Any) -> Status:
    """Return the status that `word` names, in the words of this version or of 0.1."""
    if word == "ended":
        return Status.STOPPED if code in exit_codes.STOPS else _ended(code)
    return Status.CRASHED if word == "ended without a word" else Status(word)


def _outcome(result: str, warnings: Sequence[str] = (), **others: Any) -> Outcome:
    word = Result.SKIPPED if result == "left out" else Result(result)
    return Outcome(word, warnings=tuple(warnings), **others)
