"""How a home is doing, in the terms of monitoring plugins: OK, WARNING, CRITICAL or UNKNOWN.

Reads the journal, the schedule and the serving folder, and neither imports TensorFlow nor opens the metadata.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from components.serving import manifests
from components.serving.versions import by_variant, strangers, unverified
from pipeline.config import exit_codes
from pipeline.config.notify import EVENTS
from pipeline.home import journal
from pipeline.home.journal import Command, Outcome, Result, RunRecord
from pipeline.home.journal import Status as State
from pipeline.home.layout import Home
from pipeline.service import schedule

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
SECRET = ("--webhook", *(f"--on-{event}" for event in EVENTS))
"""Options of runs whose values are not shown."""
MOST_NAMED = 4
"""Variants that were skipped and are named; of more, the number is given."""
GRACE = datetime.timedelta(minutes=10)
"""How late a run may begin, or end, before it is called overdue."""
STILL = datetime.timedelta(hours=1)
"""How long a run may go without progress, if none has ever taken longer."""
RECENT = 10
"""How many of the newest runs that succeeded tell the usual duration."""
LONGER = 2
"""How many times the usual duration a run may take."""


@dataclasses.dataclass(frozen=True)
class Status:
    """How a home is doing.

    Attributes:
      code: OK, WARNING, CRITICAL or UNKNOWN.
      reasons: why it is not OK.
      now: the run under way, if there is one.
      last: the last run that is over, if there is one.
      pushes: by variant, the newest record of the journal that changed what is in production.
      production: by variant, the newest version in the serving folder.
      schedule: what the service has written down, if there is one.
      service_alive: whether it is there.
    """

    code: int
    reasons: list[str]
    now: RunRecord | None
    last: RunRecord | None
    pushes: dict[str, RunRecord]
    production: dict[str, int]
    schedule: schedule.State | None
    service_alive: bool

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "status": NAMES[self.code],
            "code": self.code,
            "reasons": self.reasons,
            "now": self.now and self.now.to_json(),
            "last": self.last and self.last.to_json(),
            "pushes": {name: record.to_json() for name, record in self.pushes.items()},
            "production": self.production,
            "schedule": self.schedule and _redacted(self.schedule),
            "service_alive": self.service_alive,
        }


def find(home: Home, now: datetime.datetime) -> Status:
    """The status of a home at `now`, a time with its zone. Raises ValueError for an unreadable schedule."""
    records = journal.read(home)
    runs = [record for record in records if record.command is Command.RUN]
    under_way = next((record for record in reversed(runs) if record.state is State.RUNNING), None)
    last = next((record for record in reversed(runs) if record.state is not State.RUNNING), None)
    plan = schedule.read(home)
    versions = by_variant(str(home.serving))
    pushes = {
        name: record
        for record in records
        for name, outcome in record.variants.items()
        if outcome.result is Result.PUSHED
    }
    grave = [
        *_of_serving(home),
        *_of_run(last),
        *[f"{name}: {words}" for name, words in journal.alarms(records).items()],
        *(_of_progress(under_way, runs, now) if under_way else []),
        *(_of_schedule(home, plan, under_way, last, now) if plan else []),
    ]
    slight = (
        _of_intent(home, records)
        + _of_models(last)
        + [f"{path} is damaged and was passed over; remove it" for path in journal.unreadable(home)]
    )
    if not runs and not grave:
        code, reasons = UNKNOWN, ["no run yet", *slight]
    else:
        code, reasons = (CRITICAL if grave else WARNING if slight else OK), grave + slight
    return Status(
        code=code,
        reasons=reasons,
        now=under_way,
        last=last,
        pushes=pushes,
        production={name: found[-1] for name, found in versions.items() if found},
        schedule=plan,
        service_alive=plan is not None and plan.alive(home),
    )


def _redacted(plan: schedule.State) -> dict[str, Any]:
    """Return the state of the service as values of JSON, without the values of its hooks."""
    shown, hide = [], False
    for argument in plan.arguments:
        shown.append("(hidden)" if hide and argument else argument)
        hide = argument in SECRET
    return {**dataclasses.asdict(plan), "arguments": shown}


def _of_intent(home: Home, records: list[RunRecord]) -> list[str]:
    """Return what is said of a promotion or rollback that was interrupted."""
    busy = any(r.command is not Command.RUN and r.state is State.RUNNING for r in records)
    if not home.intent.exists() or busy:
        return []
    return ["a promotion or rollback was interrupted; the next command finishes or undoes it, and says so"]


def _of_serving(home: Home) -> list[str]:
    """Return what is wrong with the versions that serve."""
    found = []
    for name, versions in by_variant(str(home.serving)).items():
        if not versions:
            continue
        base = home.versions(name)
        wrong = manifests.damage_of_version(str(base / str(versions[-1])), thorough=True)
        if wrong == manifests.NONE and versions[-1] in unverified(str(base)):
            wrong = "its files are not those of the model that it is a copy of"
        if wrong and wrong != manifests.NONE:
            found.append(
                f"version {versions[-1]} of {name} is damaged ({wrong}); `latentline promote {name}` or "
                f"`latentline rollback {name}` replaces it"
            )
        if strange := [number for number in strangers(str(base)) if number > versions[-1]]:
            found.append(
                f"{base / str(strange[-1])} was not pushed, and model servers take it for the newest version "
                f"of {name}; remove it"
            )
    return found


def _of_run(last: RunRecord | None) -> list[str]:
    if last is None or not last.failed:
        return []
    if last.state is State.CRASHED:
        return ["the last run crashed: it was killed, or the machine went down"]
    return [f"the last run failed: {' '.join(last.error.split())}"]


def usual(runs: Sequence[RunRecord], like: RunRecord) -> datetime.timedelta | None:
    """Return the longest time that the newest runs such as `like` took; None if none has succeeded.

    Runs are alike if they train the same variants with the same profile. Those that found nothing new tell
    nothing.
    """
    alike = [
        run.seconds
        for run in runs
        if run.status is State.SUCCEEDED
        and not run.cached
        and any(outcome.result is not Result.CACHED for outcome in run.variants.values())
        and all(run.settings.get(name) == like.settings.get(name) for name in ("variants", "profile"))
    ]
    return datetime.timedelta(seconds=max(alike[-RECENT:])) if alike else None


def _of_progress(run: RunRecord, runs: Sequence[RunRecord], now: datetime.datetime) -> list[str]:
    """Return what is said of a run under way that makes no progress, or takes much longer than usual."""
    known = usual(runs, run)
    words = f"; such runs take {_duration(known)}" if known else ""
    sign = datetime.datetime.fromisoformat(run.progress or run.started)
    if now - sign > max(STILL, known or STILL):
        where = f" in {run.doing}" if run.doing else ""
        return [
            f"the run of {run.started} has made no progress for {_duration(now - sign)}{where}{words}; "
            f"look at {run.log}, and stop process {run.pid}: the next run resumes"
        ]
    taken = now - datetime.datetime.fromisoformat(run.started)
    if known and taken > LONGER * known + GRACE:
        return [f"the run of {run.started} has taken {_duration(taken)} so far{words}"]
    return []


def _duration(span: datetime.timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _of_schedule(
    home: Home,
    plan: schedule.State,
    under_way: RunRecord | None,
    last: RunRecord | None,
    now: datetime.datetime,
) -> list[str]:
    if not plan.alive(home):
        since = f" since {plan.stopped}" if plan.stopped else ""
        if plan.elsewhere(home):
            since = f" here, and was started for {plan.home}"
        return [
            f'the service of the schedule "{plan.cron}" is not running{since}; start it, or remove '
            f"{home.schedule} to be without a schedule"
        ]
    found = []
    refused = plan.exit_code is not None and exit_codes.failed(plan.exit_code) and plan.error
    if refused and (last is None or plan.started > last.started):
        found.append(f"the last scheduled run did not begin: {plan.error}")
    begun = datetime.datetime.fromisoformat(plan.started) if plan.started and not plan.ended else None
    ended = datetime.datetime.fromisoformat(last.ended) if last and last.ended else None
    if begun and not under_way and max(begun, ended or begun) + GRACE < now:
        found.append(
            f"the service waits since {plan.started} for a run that is not at work; look at its hooks and at "
            f"{home.schedule_log}"
        )
    busy = under_way is not None or begun
    if plan.next and not busy and datetime.datetime.fromisoformat(plan.next) + GRACE < now:
        found.append(f"the run that was due at {plan.next} has not begun")
    return found


def _of_models(last: RunRecord | None) -> list[str]:
    if last is None:
        return []
    refused = [
        f"{name} was not pushed: {outcome.why}"
        for name, outcome in last.variants.items()
        if outcome.result is Result.REFUSED
    ]
    told = " ".join(last.error.split()) if last.failed else ""
    drifted = [f"drift: {line}" for line in last.drift if line not in told]
    warned = [f"{name}: {words}" for name, outcome in last.variants.items() for words in outcome.warnings]
    return drifted + refused + warned


def text(found: Status) -> str:
    """The status in lines; the first one alone is what monitors show."""
    stopped = found.last is not None and found.last.state is State.STOPPED
    reasons = "; ".join(found.reasons) or f"the last run {'was stopped' if stopped else 'succeeded'}"
    lines = [f"{NAMES[found.code]}: {reasons}"]
    if found.now:
        doing = f", in {found.now.doing}" if found.now.doing else ""
        lines.append(f"now         running since {_when(found.now.started)}{doing}, process {found.now.pid}")
    if found.last:
        lines.append(f"last run    {_when(found.last.started)}, {_ended(found.last)}")
        if found.last.spans:
            lines.append(f"data        {', '.join(found.last.spans)}")
        lines += _of_variants(found.last)
        lines += [f"hook        {problem}" for problem in found.last.hooks]
    if found.schedule:
        state = (
            f"service alive, process {found.schedule.pid}" if found.service_alive else "service not running"
        )
        lines.append(f'next run    {_when(found.schedule.next)}, "{found.schedule.cron}", {state}')
    else:
        lines.append("next run    none: there is no schedule")
    width = max((len(name) for name in found.production), default=0)
    for name, version in found.production.items():
        entry = found.pushes.get(name)
        how = f", pushed {_when(entry.started)}{_by(entry)}" if entry else ""
        lines.append(f"production  {name:<{width}}  {version}{how}")
    if not found.production:
        lines.append("production  nothing yet")
    if found.last and found.last.log:
        lines.append(f"log         {found.last.log}")
    return "\n".join(lines)


def _of_variants(last: RunRecord) -> list[str]:
    """Return the outcome of each variant; those that were skipped for the same reason share a line.

    A reason that the first line of the status has is not repeated.
    """
    told = " ".join(last.error.split()) if last.failed else ""
    skipped: dict[str, list[str]] = {}
    for name, outcome in last.variants.items():
        if outcome.result is Result.SKIPPED:
            skipped.setdefault(" ".join(outcome.why.split()), []).append(name)
    others = {
        name: outcome for name, outcome in last.variants.items() if outcome.result is not Result.SKIPPED
    }
    width = max(map(len, others), default=0)
    lines = []
    for name, outcome in others.items():
        why = " ".join(outcome.why.split())
        shown = dataclasses.replace(outcome, why="" if told and why in told else outcome.why)
        lines.append(f"  {name:<{width}}  {_outcome(shown)}")
        if outcome.gate:
            lines.append(f"  {'':<{width}}  {outcome.gate}")
    for why, names in skipped.items():
        many = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} variants"
        lines.append(f"  {many}  skipped" + ("" if not why or why in told else f": {why}"))
    return lines


def _ended(entry: RunRecord) -> str:
    if entry.state is State.CRASHED:
        return "crashed"
    return f"{entry.state} after {entry.seconds:.0f} s, exit code {entry.exit_code}"


def _outcome(outcome: Outcome) -> str:
    version = f" {outcome.version}" if outcome.version else ""
    words = {Result.CACHED: f"nothing new since{version}"}.get(outcome.result, f"{outcome.result}{version}")
    return words + (f": {outcome.why}" if outcome.why else "")


def _by(entry: RunRecord) -> str:
    if entry.command is Command.RUN:
        return ""
    reason = f": {entry.reason}" if entry.reason else ""
    return f" ({entry.command} by {entry.user}{reason})"


def _when(moment: str) -> str:
    """An ISO 8601 time for people; the zone is the machine's."""
    return moment[:16].replace("T", " ") if moment else "never"
