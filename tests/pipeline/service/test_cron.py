"""Crontab expressions against dates worked out by hand."""

import datetime

import pytest

from pipeline.service import cron

UTC = datetime.UTC
SUNDAY = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def times(expression: str, count: int) -> list[str]:
    found, moment = [], SUNDAY
    trigger = cron.trigger(expression, UTC)
    for _ in range(count):
        due = cron.due(trigger, moment)
        assert due is not None
        found.append(due.strftime("%a %d %H:%M"))
        moment = due
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", ["Mon 23 03:00", "Tue 24 03:00"]),
        ("30 2 * * 0", ["Sun 29 02:30", "Sun 06 02:30"]),
        ("30 2 * * 7", ["Sun 29 02:30", "Sun 06 02:30"]),
        ("0 0 * * 1-3", ["Mon 23 00:00", "Tue 24 00:00", "Wed 25 00:00", "Mon 30 00:00"]),
        ("30 2 * * MON-fri", ["Mon 23 02:30", "Tue 24 02:30"]),
        ("0 0 * * 5-7", ["Fri 27 00:00", "Sat 28 00:00", "Sun 29 00:00", "Fri 04 00:00"]),
        ("0 0 * * */3", ["Wed 25 00:00", "Sat 28 00:00", "Sun 29 00:00"]),
        ("*/20 14 * * *", ["Sun 22 14:00", "Sun 22 14:20", "Sun 22 14:40", "Mon 23 14:00"]),
        # Day and weekday both given: either is enough, as crontab(5) says.
        ("0 4 25 * 1", ["Mon 23 04:00", "Wed 25 04:00", "Mon 30 04:00"]),
    ],
)  # fmt: skip
def test_an_expression_is_due_when_cron_would_have_it(expression: str, expected: list[str]) -> None:
    assert times(expression, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 3 * *", "has 4 fields"),
        ("0 0 3 * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("61 3 * * *", "cannot be read"),
        ("0 3 * * 8", "'8' is no weekday"),
        ("0 3 * * fri-mon", "is no range of weekdays"),
        ("0 3 * * 1/0", "is no range of weekdays"),
        ("at 3 every night please", "cannot be read"),
        ("0 0 31 2 *", "never comes due"),
    ],
)
def test_what_is_no_expression_is_refused_in_a_line_with_an_example(expression: str, message: str) -> None:
    with pytest.raises(cron.CronError, match=message) as caught:
        cron.trigger(expression)
    assert '"0 3 * * *"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_time_that_the_clock_skips_in_spring_is_not_lost() -> None:
    import zoneinfo

    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    eve = datetime.datetime(2026, 3, 28, 12, 0, tzinfo=zone)
    first = cron.due(cron.trigger("30 2 * * *", zone), eve)
    assert first is not None
    assert first.astimezone(UTC) == datetime.datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
