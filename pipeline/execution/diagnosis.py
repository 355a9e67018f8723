"""Explain a failure in one line to whoever has to fix it."""

import errno
import re
import shutil
from collections.abc import Iterable, Iterator

from components.serving import manifests

FULL = ("No space left on device", "database or disk is full", "Disk quota exceeded")
"""How the system, SQLite and quotas say that nothing more can be written, through whatever library."""
ROLLED_BACK = "cannot commit - no transaction is active"
"""SQLite rolls a transaction back by itself when the disk is full; ML Metadata may then report only this."""
LITTLE = 1 << 20
"""Free bytes below which a transaction that was rolled back is taken for one that found no room."""
DENIED = {errno.EROFS: "is on a read-only file system", errno.EACCES: "may not be written to"}
_PATH = re.compile(r"(?<![\w.:/])/[^\s'\",;:\])]+")


def explain(error: BaseException, home: str = "", inputs: Iterable[str] = ()) -> str:
    """Return the error in one sentence, with what to do about it where that is known.

    home: to be named where the error names no file. inputs: folders that were read when it happened; where
    one of them is damaged, that is the cause.
    """
    if circumstance := of_the_disk(error, home):
        return circumstance
    for folder in inputs:
        wrong = manifests.damage(folder, thorough=True)
        if wrong and wrong != manifests.NONE:
            return f"its input {folder} is damaged ({wrong}); the same command makes it again and goes on"
    return _one_line(next(_chain(error)))


def of_the_disk(error: BaseException, home: str = "") -> str:
    """Return where the disk is full or not writable, and what to do; empty if the error is about neither."""
    chain = list(_chain(error))
    words = [_one_line(each) for each in chain]
    full = any(full in text for full in FULL for text in words)
    lost = any(ROLLED_BACK in text for text in words)
    if full or (lost and home and shutil.disk_usage(home).free < LITTLE):
        place = _path(chain, words) or home
        return f"the disk is full at {place}; make room there, then the same command goes on from here"
    for each, text in zip(chain, words, strict=True):
        if isinstance(each, OSError) and each.errno in DENIED:
            place = _path([each], [text]) or home
            return f"{place} {DENIED[each.errno]}; make it writable, then the same command goes on from here"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The cause at the bottom first, then what was made of it, then what was being handled meanwhile."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    yield from reversed(causes)
    context = error.__context__
    while context is not None:
        if context not in causes:
            yield context
        context = context.__context__


def _one_line(error: BaseException) -> str:
    """The error's own words without the traceback that Beam and TFX wrap around them."""
    text = str(error).split(" [while running")[0].strip()
    return " ".join(text.split()) or type(error).__name__


def _path(chain: Iterable[BaseException], words: Iterable[str]) -> str:
    """The first path that an error names."""
    for error in chain:
        for name in (getattr(error, "filename2", None), getattr(error, "filename", None)):
            if isinstance(name, str | bytes):
                return name if isinstance(name, str) else name.decode(errors="replace")
    for text in words:
        if found := _PATH.search(text):
            return found[0].rstrip(".")
    return ""
