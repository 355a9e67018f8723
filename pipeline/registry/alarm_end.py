"""The end of an alarm for slow decline: a person accepts the new level, or has removed the cause."""

import time
from typing import NamedTuple

from components.gate.line import METRICS
from components.gate.record import Record
from pipeline.home import journal, metadata, recovery
from pipeline.home.journal import Command
from pipeline.home.layout import Home
from pipeline.home.lock import exclusive, production
from pipeline.registry import alarms
from pipeline.registry.production import ProductionError, Say, check_known, current_user, put_in_order


class Ended(NamedTuple):
    """An alarm that was ended: of which variant, with which word, and what the gate goes on from."""

    variant: str
    command: Command
    record: Record | None


def end(home: Home, variant: str, command: Command, reason: str, say: Say) -> Ended:
    """End the alarm of a variant with the word ACCEPT or RESUME, in ML Metadata and in the journal.

    Raises ProductionError, HomeInUse, HomeNotWritable and MetadataDamaged.
    """
    check_known(home)
    if not reason.strip():
        raise ProductionError(f"an alarm is ended with a reason; give --reason to {command}")
    with exclusive(home):
        put_in_order(home, say)
        noted = journal.alarms(journal.read(home))
        with production(home, variant), metadata.opened(home) as store:
            found = alarms.newest(store)
            standing = sorted({*noted, *(name for name, each in found.items() if each.record.alarm)})
            if variant not in standing:
                listed = f"alarms stand of {', '.join(standing)}" if standing else "none stands in this home"
                raise ProductionError(f"no alarm of {variant} stands; {listed}")
            user, started = current_user(), time.perf_counter()
            writer = journal.Writer.begin(home, command, user=user, reason=reason, ends_alarm=True)
            writer.note(variants={variant: journal.Outcome(journal.Result.ENDED)})
            record = None
            try:
                newest = found.get(variant)
                if newest and newest.record.alarm:
                    record = alarms.end(store, newest, command, user, reason, str(home.artifacts))
            except BaseException as error:
                writer.end(time.perf_counter() - started, error)
                raise
            writer.end(time.perf_counter() - started, None)
            recovery.keep_copy(home)
    return Ended(variant, command, record)


def description(done: Ended) -> str:
    """Describe in words what was ended, and what the next run does."""
    ended = f"{done.variant}: the alarm is ended ({done.command})"
    if done.command is Command.RESUME:
        return f"{ended}; the next nights count against the level before the decline"
    past = done.record.past if done.record else None
    if past is None:
        return ended
    lost = ", ".join(METRICS[name].number(loss) for name, loss in past.loss.items())
    times = "once" if past.accepted == 1 else f"{past.accepted} times"
    return f"{ended}; a new era begins, {lost} lost since the first era of {past.since}, accepted {times}"
