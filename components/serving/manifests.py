"""Checksum manifests: what a folder held when it was whole, so that damage is noticed before it is read.

A gzipped TFRecord file that was cut short may read as one with fewer examples, without any error. The
manifest of an artifact is a file beside its folder, `.<name>.sha256`; that of a pushed version lies inside
the version. It has one line per file as `sha256sum --check` reads it, after a comment with the size in bytes,
and a last line with the number of files.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SUFFIX = ".sha256"
INSIDE = "latentline_manifest.sha256"
"""Name of the manifest of a pushed version, which covers its SavedModel and not what is added later."""
END = "# end of {} files"
NONE = "it has no checksum manifest"
CUT_SHORT = "its manifest is cut short"
_CHUNK = 1 << 20


class Entry(NamedTuple):
    """What a file was when it was whole."""

    size: int  # bytes
    digest: str  # SHA-256, hexadecimal


Manifest = Mapping[str, Entry]
"""What a folder held, by relative path."""


def path_of(folder: str) -> pathlib.Path:
    """Return the path of the manifest of an artifact's folder."""
    place = pathlib.Path(folder)
    return place.with_name(f".{place.name}{SUFFIX}")


def folder_of(manifest: str) -> str:
    """Return the name of the folder, beside it, of which a file of that name is the manifest."""
    return manifest.removeprefix(".").removesuffix(SUFFIX)


def write(folder: str) -> None:
    """Put the files of an artifact's folder on disk, and then its manifest. Raises OSError."""
    to_disk(folder)
    put(path_of(folder), of(folder, sizes(folder)))


def of(folder: str, names: Iterable[str]) -> Manifest:
    """Return the manifest of the named files of a folder as they are. Raises OSError."""
    root = pathlib.Path(folder)
    return {name: Entry((root / name).stat().st_size, _digest(root / name)) for name in names}


def put(target: pathlib.Path, manifest: Manifest) -> None:
    """Write a manifest to a file, whole or not at all, and onto the disk. Raises OSError."""
    lines = []
    for name, entry in manifest.items():
        lines += [f"# {entry.size}", f"{entry.digest}  {name}"]
    staging = target.with_name(f"{target.name}.tmp")
    with open(staging, "w") as file:
        file.write("\n".join([*lines, END.format(len(manifest))]) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, target)
    sync(str(target.parent))


def read(path: pathlib.Path) -> Manifest | None:
    """Return the manifest in a file; None if there is no file. Raises ValueError for one that is damaged."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    lines = text.splitlines()
    if not text.endswith("\n") or lines.pop() != END.format(len(lines) // 2) or len(lines) % 2:
        raise ValueError(CUT_SHORT)
    found = {}
    for comment, line in zip(lines[::2], lines[1::2], strict=True):
        digest, separator, name = line.partition("  ")
        size = comment.removeprefix("# ")
        if not separator or not size.isdecimal():
            raise ValueError("its manifest is damaged")
        found[name] = Entry(int(size), digest)
    return found


def damage(folder: str, thorough: bool) -> str:
    """Return what is wrong with an artifact's folder in a few words; empty if nothing is.

    Compares names and sizes, and with `thorough` every byte. A folder without a manifest counts as damaged:
    nobody knows whether all of it reached the disk.
    """
    return _against(path_of(folder), folder, thorough)


def damage_of_version(folder: str, thorough: bool) -> str:
    """Return what is wrong with a pushed version in a few words; empty if nothing is. As `damage`."""
    return _against(pathlib.Path(folder, INSIDE), folder, thorough)


def compare(folder: str, manifest: Manifest, thorough: bool = True) -> str:
    """Return how a folder differs from a manifest in a few words; empty if it has all that is listed."""
    for name, entry in manifest.items():
        path = pathlib.Path(folder, name)
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != entry.size:
            return f"{name} has {size:,} bytes, expected {entry.size:,}"
        if thorough and _digest(path) != entry.digest:
            return f"{name} has other bytes than were written"
    return ""


def sizes(folder: str) -> dict[str, int]:
    """Return the size in bytes of every file below a folder, by relative path."""
    files = sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def to_disk(folder: str) -> None:
    """Have the folder's files written, since a power cut may keep a name and lose what it names."""
    for place, _, files in os.walk(folder):
        for path in (*(os.path.join(place, file) for file in files), place):
            sync(path)


def sync(path: str) -> None:
    """Have one file or folder written. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _against(path: pathlib.Path, folder: str, thorough: bool) -> str:
    try:
        manifest = read(path)
    except ValueError as error:
        return str(error)
    return NONE if manifest is None else compare(folder, manifest, thorough)


def _digest(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
