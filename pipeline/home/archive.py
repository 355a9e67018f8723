"""The reports of a home: the newest in <home>/report, and each run's own in <home>/report/runs/<stamp>."""

import os
import pathlib
import shutil

from pipeline.home import journal
from pipeline.home.layout import FIGURES, PAGE, Home


def publish(home: Home, source: pathlib.Path, stamp: str) -> None:
    """Put the report in the folder `source` in place as the newest one, and archive it as that of a run.

    Files are replaced one by one, the page last, so that a reader finds a page at any time. The archive holds
    the same files by further names, which takes no space where the file system has hard links.
    Raises OSError.
    """
    staging, target = home.report_staging, home.report
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source, staging)
    _archive(home, staging, stamp)
    target.mkdir(exist_ok=True)
    names = {path.name for path in staging.iterdir()}
    for path in target.iterdir():
        if path.name not in names and path != home.report_archive:
            _remove(path)
    for name in sorted(names, key=lambda name: name == PAGE):
        if (staging / name).is_dir():
            _remove(target / name)
        os.replace(staging / name, target / name)
    shutil.rmtree(staging)


def publish_failure(home: Home, newest: str, archived: str, stamp: str) -> None:
    """Put the page of a failed run in place of the newest one, and archive it. Raises OSError.

    newest, archived: the HTML for either place, whose links differ. The other files of the report stay: they
    are the figures of the last run that had some.
    """
    staging = home.report_staging
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    (staging / PAGE).write_text(archived)
    _archive(home, staging, stamp)
    (staging / PAGE).unlink()
    (staging / PAGE).write_text(newest)
    home.report.mkdir(exist_ok=True)
    os.replace(staging / PAGE, home.report / PAGE)
    shutil.rmtree(staging)


def archived(home: Home) -> list[str]:
    """Return the stamps of the runs whose report is archived, oldest first by the journal's count."""
    numbers = {record.stamp: record.number for record in journal.read(home)}
    if not home.report_archive.is_dir():
        return []
    found = [path.name for path in home.report_archive.iterdir() if path.name[0] != "." and path.is_dir()]
    return sorted(found, key=lambda stamp: (numbers.get(stamp, 0), stamp))


def last_with_figures(home: Home) -> str:
    """Return the stamp of the newest archived report that has a leaderboard; empty if there is none."""
    return next((stamp for stamp in reversed(archived(home)) if _has_figures(home, stamp)), "")


def outdated(home: Home, runs: int) -> list[pathlib.Path]:
    """Return the archived reports that are older than the newest `runs` that have a leaderboard.

    Those of failed runs are not counted, as their artifacts are not: a week of failed nights removes nothing.
    """
    stamps = archived(home)
    newest = [place for place, stamp in enumerate(stamps) if _has_figures(home, stamp)][-runs:]
    return [home.report_of(stamp) for stamp in stamps[: newest[0]]] if len(newest) == runs else []


def _has_figures(home: Home, stamp: str) -> bool:
    return (home.report_of(stamp) / FIGURES).is_file()


def _archive(home: Home, source: pathlib.Path, stamp: str) -> None:
    """Give the files of `source` names in the archive; a run's folder appears there complete."""
    place = home.report_of(stamp)
    staging = place.with_name(f".{stamp}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, staging, copy_function=_linked)
    shutil.rmtree(place, ignore_errors=True)
    staging.rename(place)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links
        shutil.copy2(source, target)
    return target


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
