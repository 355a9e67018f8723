"""Find the files that a run takes: those of a folder, or those of its newest spans.

A span is one delivery: a folder span-{NUMBER} or span-{YYYY}-{MM}-{DD}, which holds the IDX files or folders
version-{NUMBER} of them. As in TFX, the number of a dated span is its days since 1970-01-01.
"""

import datetime
import hashlib
import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple

import tensorflow as tf

from components.ingest import formats, idx
from schemas import TEST_SPLIT

SEPARATOR = ", "
EPOCH = datetime.date(1970, 1, 1)
_NUMBERED = re.compile(r"(span|version)-(\d+)")
_DATED = re.compile(r"span-(\d{4})-(\d{2})-(\d{2})")
_SUSPECT = re.compile(r"(span|version).*|\d{4}-?\d{2}-?\d{2}", re.IGNORECASE | re.DOTALL)
"""Names of folders that look like spans or versions."""
_NAMES = {"span": "span-N or span-YYYY-MM-DD", "version": "version-N"}

log = logging.getLogger(__name__)


class SpanError(idx.IdxError):
    """A folder of spans that cannot be used; the one line of the message names span and file."""


class Span(NamedTuple):
    """One delivery of data."""

    number: int
    version: int | None
    folder: str  # relative to the folder of spans


PLAIN = Span(0, None, "")
"""What stands for a folder that holds the files itself."""


def newest_spans(base: str, count: int, subset: str = "") -> list[Span]:
    """Return the newest `count` spans under `base`, newest first, or as many as there are.

    A folder without files, whose delivery has not begun, is skipped with a warning; so is what looks like a
    span and has another name. Raises SpanError if no span has files, if files of a span that is taken are
    missing, and if the order of the spans is ambiguous. subset: as in formats.Choices.
    """
    complete: list[Span] = []
    empty: list[str] = []
    numbered = numbers(base)
    for number, name in sorted(numbered.items(), reverse=True):
        if len(complete) == count:
            break
        found = _newest_version(base, number, name)
        if found:
            complete.append(found)
        else:
            empty.append(name)
    _warn_of_misnamed(base, list(numbered.values()), "span")
    if not complete:
        nothing = (
            f"of {SEPARATOR.join(empty)} none holds files" if empty else "holds no folder span-1, span-2, ..."
        )
        raise SpanError(
            f"{idx.shown(base)}: {nothing}, expected IDX files in folders {_NAMES['span']}; deliver a "
            "span, or give another folder"
        )
    for name in empty:
        log.warning("%s holds no files yet; the newest complete span is %s", name, complete[0].folder)
    for span in complete:
        _check_complete(base, span, subset)
    return complete


def delivered(
    base: str, spans: Sequence[Span], subset: str = "", report: formats.Report = lambda line: None
) -> list[dict[str, formats.Part]]:
    """Return the files of each span by split. Raises idx.IdxError.

    subset: as in formats.Choices. report: gets a line for each decision about the form of the data.
    """
    return [formats.find(_folder(base, span), subset, report) for span in spans]


def files_taken(found: Sequence[Mapping[str, formats.Part]]) -> dict[str, list[formats.Part]]:
    """Return the files that a run takes, by split: of train those of all spans, of eval the newest one's.

    found: the files of each span, newest first.
    """
    return {
        split: [parts[split] for parts in (found[:1] if split == TEST_SPLIT else found)]
        for split in idx.PREFIXES
    }


def warn_of_others(found: Sequence[Mapping[str, formats.Part]]) -> None:
    """Warn, one line per folder, of what looks like data beside the files of the spans and is not taken."""
    paths = {path for parts in found for part in parts.values() for path in _arrays(part)}
    for folder in sorted({os.path.dirname(path) for path in paths}):
        own = {os.path.basename(path) for path in paths if os.path.dirname(path) == folder}
        names = _names(folder)
        others = {name for name in names if _number(name, "span") is not None} | set(
            idx.not_taken(names, own)
        )
        _warn(folder, others, f"only {SEPARATOR.join(sorted(map(idx.shown, own)))}")


def digests(taken: Mapping[str, Sequence[formats.Part]]) -> dict[str, str]:
    """Return the SHA-256 of the stored bytes of each file that is read, by its path. Raises idx.IdxError."""
    paths = list(
        dict.fromkeys(path for parts in taken.values() for part in parts for path in formats.paths(part))
    )
    with futures.ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(idx.stored_digest, paths), strict=True))


def fingerprint(base: str, digests: Mapping[str, str]) -> str:
    """Return one line per file, sorted: its path below `base` and its SHA-256.

    The images of a folder of PNG files share a line: their number, and the SHA-256 of the lines of each.
    """
    lines: list[str] = []
    pictures: dict[str, list[str]] = {}
    for path, digest in digests.items():
        line = f"{idx.shown(path.removeprefix(base).lstrip('/'))} sha256:{digest}"
        if formats.is_png(os.path.basename(path)):
            pictures.setdefault(os.path.dirname(path), []).append(line)
        else:
            lines.append(line)
    for folder, own in pictures.items():
        name = idx.shown(folder.removeprefix(base).lstrip("/"))
        digest = hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()
        lines.append(f"{name}/*.png ({len(own):,} images) sha256:{digest}")
    return "\n".join(sorted(lines))


def check_unchanged(base: str, expected: str, read: Mapping[str, str]) -> None:
    """Raise idx.IdxError, naming the files, if what was read is not what the fingerprint covers."""
    found = fingerprint(base, read)
    if found != expected:
        differing = set(found.splitlines()) ^ set(expected.splitlines())
        names = sorted({line.rpartition(" sha256:")[0] for line in differing})
        raise idx.IdxError(
            f"{idx.shown(base)}: changed while it was read ({SEPARATOR.join(names)}), expected files "
            "that are complete before a run begins; run again when the delivery is complete"
        )


def numbers(base: str) -> dict[int, str]:
    """Return the folders of spans in `base`, number -> name.

    Raises SpanError if two have one number, or if numbered and dated spans have no common order.
    """
    found = _numbered(base, "span")
    dated = {number for number, name in found.items() if _DATED.fullmatch(name)}
    first = min(dated, default=0)
    late = sorted(number for number in found.keys() - dated if dated and number >= first)
    if late:
        raise SpanError(
            f"{idx.shown(base)}: {found[late[0]]} and {found[first]} have no common order, since a date "
            "counts as its days since 1970-01-01; name all spans by date, or all by number"
        )
    return found


def _newest_version(base: str, number: int, name: str) -> Span | None:
    """Return the span in folder `name`, in its newest version that has files; None if it has no files."""
    folder = os.path.join(base, name)
    versions = _numbered(folder, "version")
    files = _files(folder)
    if files and versions:
        raise SpanError(
            f"{idx.shown(folder)}: holds files ({idx.shown(files[0])}) and versions "
            f"({min(versions.values())}), expected one or the other; move the files into a version folder"
        )
    if files:
        return Span(number, None, name)
    _warn_of_misnamed(folder, list(versions.values()), "version")
    for version, version_name in sorted(versions.items(), reverse=True):
        if _files(os.path.join(folder, version_name)):
            return Span(number, version, os.path.join(name, version_name))
        log.warning("%s/%s holds no files yet; an older version is used", name, version_name)
    return None


def _arrays(part: formats.Part) -> list[str]:
    return formats.paths(part) if isinstance(part, formats.Arrays) else []


def _check_complete(base: str, span: Span, subset: str) -> None:
    try:
        formats.find(os.path.join(base, span.folder), subset)
    except idx.IdxError as error:
        raise SpanError(
            f"{span.folder} is not complete ({error}); deliver the rest, or remove {span.folder} to continue "
            "with the spans before it"
        ) from None


def _numbered(folder: str, kind: str) -> dict[int, str]:
    """Return the folders of a kind, number -> name. Raises SpanError if two have the same number."""
    found: dict[int, str] = {}
    for name in _names(folder):
        number = _number(name, kind)
        if number is None or not tf.io.gfile.isdir(os.path.join(folder, name)):
            continue
        if number in found:
            raise SpanError(
                f"{idx.shown(folder)}: {found[number]} and {name} both are {kind} {number}, expected one; "
                "rename or remove the other"
            )
        found[number] = name
    return found


def _number(name: str, kind: str) -> int | None:
    """Return the number of a span or version by its name; None if it is not the name of one."""
    if (match := _NUMBERED.fullmatch(name)) and match[1] == kind:
        return int(match[2])
    if kind == "span" and (match := _DATED.fullmatch(name)):
        try:
            return (datetime.date(*map(int, match.groups())) - EPOCH).days
        except ValueError:  # such as the 31st of November; it is named as what is not taken
            return None
    return None


def _warn_of_misnamed(folder: str, known: Collection[str], kind: str) -> None:
    """Warn of names in `folder` that look like spans, versions or data and are not `known`."""
    names = _names(folder)
    suspects = {name for name in names if _SUSPECT.fullmatch(name)} | set(idx.not_taken(names, known))
    _warn(folder, suspects - set(known), f"expected folders {_NAMES[kind]}")


def _warn(folder: str, others: Collection[str], expected: str) -> None:
    if others:
        names = SEPARATOR.join(map(idx.shown, sorted(others)))
        verb = "is" if len(others) == 1 else "are"
        log.warning("%s: %s %s not taken, %s; rename or move it", idx.shown(folder), names, verb, expected)


def _folder(base: str, span: Span) -> str:
    return os.path.join(base, span.folder) if span.folder else base


def _files(folder: str) -> list[str]:
    """Return the names of the files delivered into `folder`; copying tools use names with a dot."""
    return [
        name
        for name in _names(folder)
        if not name.startswith(".") and not tf.io.gfile.isdir(os.path.join(folder, name))
    ]


def _names(folder: str) -> Sequence[str]:
    idx.check_scheme(folder)
    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise SpanError(
            f"{idx.shown(folder)}: cannot be listed ({' '.join(error.message.split())}), expected a "
            "folder of folders span-1, span-2, ...; check the path and its permissions"
        ) from None
