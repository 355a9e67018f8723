"""The table of faults from the tallies of test sessions: faults_table.py TALLIES... [--page FILE]."""

import argparse
import datetime
import json
import os
import pathlib

from rich.console import Console
from rich.table import Table
from tallies import Section

HEADERS = ("fault", "times tried", "survived", "data lost", "partial models seen")
COUNTS = ("tried", "survived", "lost", "partial")

Row = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tallies", nargs="+", type=pathlib.Path)
    parser.add_argument("--page", type=pathlib.Path)
    options = parser.parse_args()
    found = sections([json.loads(path.read_text()) for path in options.tallies])
    table = Table(title="faults")
    for header in HEADERS:
        table.add_column(header, justify="left" if header == "fault" else "right")
    for section, rows in found.items():
        table.add_section()
        table.add_row(f"[bold]{section}")
        for row in rows:
            table.add_row(*row)
    table.add_section()
    table.add_row(*total(found))
    Console(width=120).print(table)
    if options.page:
        options.page.write_text(page(found))


def sections(sessions: list[dict[str, dict[str, dict[str, int]]]]) -> dict[str, list[Row]]:
    """Return the rows of each section, a row per fault, from the tallies of sessions."""
    sums: dict[str, dict[str, dict[str, int]]] = {section: {} for section in map(str, Section)}
    for session in sessions:
        for section, tallies in session.items():
            for fault, tally in tallies.items():
                known = sums[section].setdefault(fault, dict.fromkeys(COUNTS, 0))
                for name in COUNTS:
                    known[name] += tally[name]
    return {
        section: [(fault, *(str(tally[name]) for name in COUNTS)) for fault, tally in faults.items()]
        for section, faults in sums.items()
        if faults
    }


def total(found: dict[str, list[Row]]) -> Row:
    """Return the sums over all sections."""
    rows = [row for rows in found.values() for row in rows]
    return ("all", *(str(sum(int(row[column]) for row in rows)) for column in range(1, len(HEADERS))))


def page(found: dict[str, list[Row]]) -> str:
    """Return the tables as a page of the documentation."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        "# Faults that were tried",
        "",
        f"Made by `make faults-all` on {datetime.date.today():%Y-%m-%d}, on a machine with "
        f"{os.cpu_count()} CPU cores and {memory:.0f} GiB of memory, Linux.",
        "",
        "Each fault is injected into real code on real files: a run of the whole pipeline (one small",
        "variant, the digits of scikit-learn), a command of an operator, or the part of either that the",
        "fault is about. What follows is what a user would do: the run again, or the same command again.",
        "*Survived*: the error, where there has to be one, is one sentence that names the cause; the next",
        "run completes; ML Metadata, artifacts, manifests, versions and journal agree; and exactly the",
        "versions that should be pushed are. *Data lost*: pushed versions that are not what they were.",
        "*Partial models seen*: by a reader that looks at the serving folder all the time and compares",
        "each version with what it is a copy of.",
        "",
        *summary(found),
    ]
    for section, rows in found.items():
        lines += ["", f"## {section}", "", *markdown(HEADERS, rows)]
    return "\n".join(lines) + "\n"


def summary(found: dict[str, list[Row]]) -> list[str]:
    """Return the sums by section as a table."""
    sums = [(section, *total({section: rows})[1:]) for section, rows in found.items()]
    return markdown(("kind of fault", *HEADERS[1:]), [*sums, total(found)])


def markdown(headers: Row, rows: list[Row]) -> list[str]:
    """Return a table in Markdown, numbers at the right."""
    ruler = "|---|" + "---:|" * (len(headers) - 1)
    return [f"| {' | '.join(headers)} |", ruler, *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    main()
