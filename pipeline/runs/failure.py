"""Write the page of a run that failed before it had a report; free of TFX, so that it takes no time."""

import os
import pathlib

from components.reporting import failure_page
from pipeline.home import archive
from pipeline.home.journal import RunRecord
from pipeline.home.layout import ARCHIVE, PAGE, Home

LINES, TAIL_BYTES = 40, 20_000
"""Most of a log that the page shows."""


def publish(home: Home, record: RunRecord, error: str) -> None:
    """Write the page of a run that failed before it had a report, in place of the newest one. Raises OSError.

    error: what went wrong, in a sentence per line.
    """
    last = archive.last_with_figures(home)
    log = pathlib.Path(record.log) if record.log else None
    view = failure_page.View(
        title=f"The run of {record.started[:16].replace('T', ' ')} failed",
        errors=error.splitlines(),
        outcomes=[(name, str(outcome.result), outcome.why) for name, outcome in record.variants.items()],
        drift=record.drift,
        spans=record.spans,
        log=record.log,
        tail=tail(log) if log else [],
    )
    archive.publish_failure(
        home,
        newest=failure_page.render(view, last and f"{ARCHIVE}/{last}/{PAGE}"),
        archived=failure_page.render(view, last and f"../{last}/{PAGE}"),
        stamp=record.stamp,
    )


def tail(log: pathlib.Path) -> list[str]:
    """Return the last lines of a log, LINES at most; none if it cannot be read."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LINES:]
    except OSError:
        return []
