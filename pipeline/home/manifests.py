"""Checksum manifests: what a folder held when it was whole, so that damage is noticed before it is read.

A gzipped TFRecord file that was cut short may read as one with fewer examples, without any error. A manifest
is a file beside the folder, `.<name>.sha256`: a line for every file as `sha256sum --check` reads it, after a
comment with its size in bytes, and a last line that says how many files there are.
"""

import hashlib
import os
import pathlib

SUFFIX = ".sha256"
END = "# end of {} files"
_CHUNK = 1 << 20


def path_of(folder: str) -> pathlib.Path:
    """Where the manifest of `folder` is."""
    place = pathlib.Path(folder)
    return place.with_name(f".{place.name}{SUFFIX}")


def write(folder: str) -> None:
    """Write the manifest of the folder as it is, unless it is listed. Raises OSError."""
    target = path_of(folder)
    if target.exists():
        return
    lines = []
    for name, size in sizes(folder).items():
        lines += [f"# {size}", f"{_digest(pathlib.Path(folder, name))}  {name}"]
    lines.append(END.format(len(lines) // 2))
    staging = target.with_name(f"{target.name}.tmp")
    staging.write_text("\n".join(lines) + "\n")
    os.replace(staging, target)


def damage(folder: str, thorough: bool) -> str:
    """What is wrong with a listed folder in a few words; empty where nothing is, or where it has no manifest.

    Compares names and sizes, and with `thorough` every byte.
    """
    try:
        text = path_of(folder).read_text()
    except FileNotFoundError:
        return ""
    lines = text.splitlines()
    if not text.endswith("\n") or lines.pop() != END.format(len(lines) // 2):
        return "its manifest is cut short"
    found = sizes(folder)
    for comment, line in zip(lines[::2], lines[1::2], strict=True):
        size = int(comment.removeprefix("# "))
        digest, _, name = line.partition("  ")
        if name not in found:
            return f"{name} is missing"
        if found[name] != size:
            return f"{name} has {found[name]:,} bytes, expected {size:,}"
        if thorough and _digest(pathlib.Path(folder, name)) != digest:
            return f"{name} has other bytes than were written"
    return ""


def sizes(folder: str) -> dict[str, int]:
    """Relative path -> bytes, of every file."""
    files = sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _digest(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
