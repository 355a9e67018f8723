"""Render the page of a run that failed before it had figures: what failed, and the last lines of its log."""

from collections.abc import Sequence
from typing import NamedTuple

from components.reporting.environment import environment

TEMPLATE = "failure.html.j2"


class View(NamedTuple):
    """What the page shows.

    Attributes:
      title: the heading.
      errors: what went wrong, a sentence each.
      outcomes: variant, result and reason of each variant.
      drift: what drift was found, a sentence each.
      spans: the folders of the data, newest first.
      log: the path of the log; empty if there is none.
      tail: its last lines.
    """

    title: str
    errors: Sequence[str]
    outcomes: Sequence[tuple[str, str, str]]
    drift: Sequence[str]
    spans: Sequence[str]
    log: str
    tail: Sequence[str]


def render(view: View, last: str) -> str:
    """Return the page's HTML, one self-contained file; every text is escaped.

    last: relative link to the last report with figures; empty if there is none.
    """
    reasons = {why for _, _, why in view.outcomes}
    shared = [why for why in view.errors if why in reasons]
    outcomes = [(name, result, "" if why in shared else why) for name, result, why in view.outcomes]
    return environment().get_template(TEMPLATE).render({**view._asdict(), "outcomes": outcomes, "last": last})
