"""List the runs, promotions and rollbacks of a home, newest first."""

from collections.abc import Sequence
from typing import Any

from pipeline.home import archive, journal
from pipeline.home.journal import Command, Result
from pipeline.home.layout import PAGE, Home

COUNTED = (Result.PUSHED, Result.REFUSED, Result.HELD, Result.FAILED, Result.SKIPPED)
"""Results that a line counts where they are too many to be named."""
NAMED = 3
"""Most variants that a line names per result."""


def find(home: Home, most: int) -> list[dict[str, Any]]:
    """Return the newest `most` records as values of JSON, newest first; 0 for all.

    `page` is the path of the archived report, empty where there is none.
    """
    pages = set(archive.archived(home))
    records = list(reversed(journal.read(home)))
    return [
        {
            **record.to_json(),
            "page": str(home.report_of(record.stamp) / PAGE) if record.stamp in pages else "",
        }
        for record in records[: most or None]
    ]


def text(home: Home, found: Sequence[dict[str, Any]]) -> str:
    """Return a line per record, and where the pages lie."""
    if not found:
        return f"no runs in {home}"
    lines = [f"{'run':<20}  {'status':<9}  {'took':>7}  result"]
    for record in found:
        took = f"{record['seconds']:,.0f} s" if record["seconds"] else ""
        star = "*" if record["page"] else ""
        name = record["stamp"] + star
        lines.append(f"{name:<20}  {record['status']:<9}  {took:>7}  {result(record)}".rstrip())
    if any(record["page"] for record in found):
        lines += ["", f"* has its page: {home.report_archive}/<run>/{PAGE}"]
    return "\n".join(lines)


def result(record: dict[str, Any]) -> str:
    """Return what came of a record, in a few words."""
    if record["command"] != Command.RUN:
        changed = ", ".join(f"{name} {outcome['version']}" for name, outcome in record["variants"].items())
        return f"{record['command']} of {changed} by {record['user']}"
    parts = []
    for kind in COUNTED:
        names = [name for name, outcome in record["variants"].items() if outcome["result"] == kind]
        if names:
            shown = ", ".join(names) if len(names) <= NAMED else f"{len(names)} variants"
            parts.append(f"{kind} {shown}")
    if not parts and record["variants"]:
        parts.append("nothing new")
    if not parts and record["error"]:
        parts.append(" ".join(record["error"].split())[:60])
    return "; ".join(parts)
