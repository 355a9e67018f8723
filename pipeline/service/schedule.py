"""Retrain on a schedule: a service in the foreground that starts `latentline run` when a run is due.

Each run is a process of its own, so that what it leaks or dies of does not matter here. This process only
waits, and passes lines and signals on; it imports neither TensorFlow nor TFX.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import filelock
from apscheduler.triggers.base import BaseTrigger

from pipeline.config import exit_codes
from pipeline.config.errors import HomeInUse, HomeNotWritable, ScheduleInUse
from pipeline.config.notify import FAILURE, Notify
from pipeline.home import journal, lock
from pipeline.home.files import write_json
from pipeline.home.journal import Status
from pipeline.home.layout import Home
from pipeline.home.process import command, environment, identity
from pipeline.runs import hooks, record
from pipeline.service import cron

BEAT = 60.0
"""Seconds between looks at the clock on the wall. A sleeping machine's timers stop; the clock does not."""
POLL = 5.0
"""Seconds between looks at whether a home that another run holds is free again."""


@dataclasses.dataclass
class State:
    """Hold what the service writes to the home about itself.

    Attributes:
      cron: when it is due.
      arguments: of the runs.
      host, pid, process: where the service runs (pipeline.home.process.identity).
      since: when there first was a schedule here.
      stopped: when the service last stopped; empty while it has not.
      next: when it is due next.
      started, ended, exit_code: of the last run that it started; empty and None where there is none.
      error: the last line of a run that failed before it had a record in the journal.
      home: where the service retrains. A copy of a home has the file of a service that is not its own.
    """

    cron: str
    arguments: list[str]
    host: str
    pid: int
    process: str
    since: str
    stopped: str = ""
    next: str = ""
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    error: str = ""
    home: str = ""

    def alive(self, home: Home) -> bool:
        """Return whether the service of a home is there; on another machine that cannot be known."""
        if self.stopped or self.elsewhere(home):
            return False
        return self.host != socket.gethostname() or identity(self.pid) == self.process

    def elsewhere(self, home: Home) -> bool:
        """Return whether this came with a home that was copied or moved: the service retrains another one."""
        return self.home not in ("", str(home.folder))


def read(home: Home) -> State | None:
    """Return the state of a home's service; None without a schedule. Raises ValueError if it is damaged."""
    try:
        return State(**json.loads((home.schedule).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{home.schedule} cannot be read ({error}); remove it and start the service"
        ) from error


class Service:
    """Start runs in a home when a crontab expression says so, one at a time, until stopped.

    trigger: when they are due, if that is not what `expression` says.
    """

    def __init__(
        self,
        home: Home,
        expression: str,
        arguments: Sequence[str],
        notify: Notify,
        trigger: BaseTrigger | None = None,
    ) -> None:
        self._home = home
        self._trigger = trigger or cron.trigger(expression)
        self._notify = notify
        now = _now().isoformat(timespec="seconds")
        self._state = State(
            cron=expression,
            arguments=list(arguments),
            host=socket.gethostname(),
            pid=os.getpid(),
            process=identity(os.getpid()),
            since=now,
            home=str(home.folder),
        )
        self._saving = threading.Lock()
        self._wake = threading.Event()
        self._due = False
        self._looked = _now()
        """When the clock on the wall was last looked at: runs that come due after it are not yet known of."""
        self._over = threading.Event()
        self._signals = 0
        self._child: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ScheduleInUse, HomeNotWritable and ValueError."""
        with self._only_one(), _handling((signal.SIGTERM, signal.SIGINT), self._on_signal):
            self._due = self._missed()
            self._looked = _now()
            self._save()
            heart = threading.Thread(target=self._beat, daemon=True)
            self._say(f'scheduled "{self._state.cron}", next at {self._state.next}, home {self._home}')
            heart.start()
            try:
                self._serve()
            finally:
                self._over.set()
                heart.join()
                self._state.stopped = _now().isoformat(timespec="seconds")
                self._save()
            self._say("stopped")

    def _serve(self) -> None:
        while not self._signals:
            self._look()
            if self._due and self._home_is_free():
                self._due = False  # what comes due from here on is another run
                self._run_once()
                self._save()
            else:
                self._wake.wait(POLL if self._due else self._patience())
                self._wake.clear()

    def _missed(self) -> bool:
        """Return whether a run was missed or interrupted, and report it in a line."""
        before = read(self._home)
        runs = [record for record in journal.read(self._home) if record.command is journal.Command.RUN]
        if before is not None:
            self._state = dataclasses.replace(
                before, cron=self._state.cron, arguments=self._state.arguments, host=self._state.host,
                pid=self._state.pid, process=self._state.process, home=self._state.home, stopped="",
            )  # fmt: skip
        if runs and (runs[-1].state is Status.CRASHED or runs[-1].exit_code == exit_codes.STOPPED):
            self._say(f"the run of {runs[-1].started} was interrupted; it resumes")
            return True
        last = runs[-1].started if runs else self._state.since
        due = cron.due(self._trigger, datetime.datetime.fromisoformat(last))
        if due is None or due > _now():
            return False
        self._say(f"the run that was due at {due.isoformat(timespec='seconds')} was missed; it starts now")
        return True

    def _look(self) -> None:
        """Look at the clock on the wall: however many runs have come due since the last look, one begins.

        A clock that was put back makes the next run due by the time it shows now.
        """
        now = _now()
        self._looked = min(self._looked, now)
        due = cron.due(self._trigger, self._looked)
        if due is not None and due <= now:
            self._due = True
        self._looked = now

    def _patience(self) -> float:
        """Return the seconds until the next look: when a run is due, and never after more than BEAT."""
        due = cron.due(self._trigger, self._looked)
        left = (due - _now()).total_seconds() if due else BEAT
        return min(max(left, 0.0) + 0.01, BEAT)

    def _beat(self) -> None:
        """Write the state down every BEAT seconds of the clock that nobody puts right."""
        while not self._over.wait(BEAT):
            self._save()

    def _home_is_free(self) -> bool:
        try:
            if lock.free(self._home):
                return True
        except HomeNotWritable:  # the run will say so, and count as failed
            return True
        self._say("another run is using the home; waiting for it to end")
        while not self._signals and not lock.free(self._home):
            self._wake.wait(POLL)
            self._wake.clear()
        return not self._signals

    def _run_once(self) -> None:
        """Start one run and wait for its end."""
        known = len(journal.read(self._home))
        self._state.started, self._state.ended, self._state.exit_code = _now().isoformat(), "", None
        self._state.error = ""
        self._save()
        self._say("run begins")
        self._child = subprocess.Popen(
            command("run", *self._state.arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(os.environ),
            start_new_session=True,  # Ctrl-C in the terminal is for this process, which passes SIGTERM on
        )
        if self._signals:  # stopped between the last look and here
            self._child.terminate()
        last = ""
        assert self._child.stdout is not None
        for line in self._child.stdout:
            last = line.strip() or last
            self._say(line.rstrip(), plain=True)
        code = self._child.wait()
        self._child = None
        self._state.ended, self._state.exit_code = _now().isoformat(), code if code >= 0 else 128 - code
        self._say(f"run ended with exit code {self._state.exit_code}")
        self._report_failure(code, known, last)

    def _report_failure(self, code: int, known: int, last: str) -> None:
        """Run the hooks for a run that could not do so itself: it was killed, or never began."""
        pending: list[hooks.Event] = []
        if code < 0:
            with contextlib.suppress(HomeInUse), lock.exclusive(self._home):
                pending = [
                    e for crashed in record.mark_crashed(self._home, self._say) for e in hooks.events(crashed)
                ]
        elif exit_codes.failed(code) and len(journal.read(self._home)) == known:
            self._state.error = last
            pending = [{"event": FAILURE, "text": last, "run": None}]
        for problem in hooks.fire(self._notify, pending, os.environ):
            self._say(f"! {problem}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT: the first lets the run leave in good order, the second does not."""
        self._signals += 1
        self._wake.set()
        child = self._child
        if child is None or child.poll() is not None:
            return
        if self._signals == 1:
            child.terminate()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def _save(self) -> None:
        """Write the state to the home."""
        with self._saving:
            due = cron.due(self._trigger, _now())
            self._state.next = due.isoformat(timespec="seconds") if due else ""
            try:
                write_json(self._home.schedule, dataclasses.asdict(self._state), secret=True)
            except OSError as error:  # a full disk must not end the service; the next run will fail of it
                print(
                    f"! {self._home.schedule} cannot be written: {error.strerror}",
                    file=sys.stderr,
                    flush=True,
                )

    def _say(self, line: str, plain: bool = False) -> None:
        """Print a line and add it to the log; plain: a line of a run, as it came."""
        text = line if plain else f"{_now().strftime('%Y-%m-%d %H:%M:%S')} schedule: {line}"
        print(text, flush=True)
        with contextlib.suppress(OSError), open(self._home.schedule_log, "a") as file:
            file.write(text + "\n")

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Hold the home's schedule while the body runs."""
        try:
            self._home.logs.mkdir(parents=True, exist_ok=True)
            held = filelock.FileLock(self._home.schedule_lock)
            held.acquire(timeout=0)
        except filelock.Timeout as error:
            before = read(self._home)
            whose = f" (process {before.pid} on {before.host})" if before else ""
            raise ScheduleInUse(
                f"{self._home} has a schedule service already{whose}; stop it first, or give another --home"
            ) from error
        except OSError as error:
            raise HomeNotWritable(
                f"cannot write to {self._home} ({error.strerror}); free the disk, or give another --home"
            ) from error
        try:
            yield
        finally:
            held.release()


@contextlib.contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()
