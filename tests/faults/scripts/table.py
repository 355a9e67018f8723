"""The table of faults from the tallies of test sessions: table.py TALLIES... [--page FILE]."""

import argparse
import datetime
import json
import os
import pathlib

from rich.console import Console
from rich.table import Table

HEADERS = ("fault", "times tried", "survived", "data lost", "partial models seen")
COUNTS = ("tried", "survived", "lost", "partial")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tallies", nargs="+", type=pathlib.Path)
    parser.add_argument("--page", type=pathlib.Path)
    options = parser.parse_args()
    found = rows([json.loads(path.read_text()) for path in options.tallies])
    table = Table(title="faults")
    for header in HEADERS:
        table.add_column(header, justify="left" if header == "fault" else "right")
    for row in found:
        table.add_row(*row, end_section=row is found[-2])
    Console(width=100).print(table)
    if options.page:
        options.page.write_text(page(found))


def rows(sessions: list[dict[str, dict[str, int]]]) -> list[tuple[str, ...]]:
    """A row a fault, and the sums."""
    tallies: dict[str, dict[str, int]] = {}
    for session in sessions:
        for fault, tally in session.items():
            known = tallies.setdefault(fault, dict.fromkeys(COUNTS, 0))
            for name in COUNTS:
                known[name] += tally[name]
    total = {name: sum(tally[name] for tally in tallies.values()) for name in COUNTS}
    return [
        (fault, *(str(tally[name]) for name in COUNTS)) for fault, tally in [*tallies.items(), ("all", total)]
    ]


def page(found: list[tuple[str, ...]]) -> str:
    """The table as a page of the documentation."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        "# Faults that were tried",
        "",
        f"Made by `make faults TABLE=docs/FAULTS.md` on {datetime.date.today():%Y-%m-%d}, on a machine with "
        f"{os.cpu_count()} CPU cores and {memory:.0f} GiB of memory, Linux.",
        "Each fault is done to a real run of the whole pipeline (one small variant, the digits of",
        "scikit-learn), which is then run again as a user would. *Survived*: the error, where there has",
        "to be one, is one line that names the cause; the rerun completes; ML Metadata is consistent; and",
        "exactly the versions that should be pushed are. *Data lost*: pushed versions that are not what they",
        "were. *Partial models seen*: by a reader that looks at the serving folder all the time and compares",
        "each version with what it is a copy of.",
        "",
        f"| {' | '.join(HEADERS)} |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in found),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
