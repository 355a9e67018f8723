"""Crontab expressions of five fields, read as cron reads them."""

import datetime

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
EXPECTED = 'expected minute, hour, day, month and weekday, such as "0 3 * * *" for every night at 3:00'


class CronError(ValueError):
    """An expression that cannot be read, or never comes due; the message has an example."""


def trigger(cron: str, zone: datetime.tzinfo | None = None) -> BaseTrigger:
    """When `cron` is due, in the time zone `zone`, by default the machine's. Raises CronError.

    APScheduler numbers weekdays from Monday and wants day and weekday both to fit; cron numbers them from
    Sunday, and where both are given one is enough.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise CronError(f"{cron!r} has {len(fields)} fields; {EXPECTED}")
    minute, hour, day, month, weekday = fields
    try:
        weekday = _weekdays(weekday.lower())
        pairs = [(day, weekday)] if "*" in (day[0], weekday[0]) else [(day, "*"), ("*", weekday)]
        triggers = [
            CronTrigger(minute=minute, hour=hour, day=d, month=month, day_of_week=w, timezone=zone)
            for d, w in pairs
        ]
        found = triggers[0] if len(triggers) == 1 else OrTrigger(triggers)
        never = due(found, datetime.datetime.now().astimezone()) is None
    except ValueError as error:
        raise CronError(f"{cron!r} cannot be read ({' '.join(str(error).split())}); {EXPECTED}") from error
    if never:
        raise CronError(f"{cron!r} never comes due; {EXPECTED}")
    return found


def due(found: BaseTrigger, after: datetime.datetime) -> datetime.datetime | None:
    """The first time after `after` at which the trigger is due; None for never."""
    moment: datetime.datetime | None = found.get_next_fire_time(
        None, after + datetime.timedelta(microseconds=1)
    )
    return moment


def _weekdays(field: str) -> str:
    """A weekday field of cron as APScheduler takes it: the days by name."""
    if field == "*":
        return field
    chosen = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = ("0-6" if span == "*" else span).partition("-")
        begin = _number(first)
        end = _number(last) if last else (6 if step else begin)
        if end < begin or (step and int(step) < 1):
            raise ValueError(f"{part!r} is no range of weekdays")
        chosen |= {day % 7 for day in range(begin, end + 1, int(step) if step else 1)}
    return ",".join(DAYS[day] for day in sorted(chosen))


def _number(day: str) -> int:
    if day in DAYS:
        return DAYS.index(day)
    if not day.isdecimal() or int(day) > 7:
        raise ValueError(f"{day!r} is no weekday; they are 0 (Sunday) to 7, or {', '.join(DAYS)}")
    return int(day)
