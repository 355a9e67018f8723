"""What a run shows while nodes run side by side: a moving line per node on a terminal, nothing in a log."""

import sys
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text


class Display:
    """Context manager that shows the lines of a run, and below them those of what runs at the moment.

    Nothing is drawn but in `say` and `show`: a thread of its own would not survive the forks.
    """

    def __init__(self, say: Callable[[str], None], moving: bool) -> None:
        """say: what shows a line that stays. moving: whether standard output may be drawn upon."""
        self._say = say
        self._live: Live | None = None
        if moving and sys.stdout.isatty():
            self._live = Live(
                console=Console(file=sys.stdout, highlight=False),
                auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Show a line that stays, above those that move."""
        if not self._live:
            self._say(line)
            return
        self._live.stop()  # which erases what moves
        self._say(line)
        self._live.start()

    def show(self, rows: Sequence[str]) -> None:
        """Show these lines in place of those that were shown before."""
        if self._live:
            self._live.update(
                Group(*(Text(row, no_wrap=True, overflow="ellipsis", style="dim") for row in rows)),
                refresh=True,
            )
