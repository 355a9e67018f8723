"""What lies in a folder of pushed versions; for those who must not import TensorFlow or TFX to know it."""

import os
import pathlib

SOURCE = "latentline_source.txt"
"""File in a pushed version that names the model artifact it is a copy of."""
WITHDRAWN = ".withdrawn"
"""File beside the versions that names, one per line, the artifacts that somebody rolled back from."""
UNVERIFIED = ".unverified"
"""File beside the versions that names, one per line, versions of 0.1 that differ from their artifact."""
LARGEST = 2**63 - 1
"""The largest version that a model server can serve."""


def published(base_directory: str) -> list[int]:
    """Return the versions that were pushed to a folder, ascending; none if there is no folder.

    A folder whose name is a number but that does not say what it is a copy of is not ours, and neither is one
    beyond what a model server can serve.
    """
    return [
        number
        for number in _numbers(base_directory)
        if os.path.isfile(os.path.join(base_directory, str(number), SOURCE))
    ]


def strangers(base_directory: str) -> list[int]:
    """Return the folders, ascending, that a model server would take for versions and that nobody pushed."""
    ours = set(published(base_directory))
    return [number for number in _numbers(base_directory) if number not in ours]


def source(base_directory: str, version: int) -> str:
    """Return the model artifact that the version is a copy of; empty if it does not say."""
    try:
        with open(os.path.join(base_directory, str(version), SOURCE)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def by_variant(serving: str) -> dict[str, list[int]]:
    """Return the versions in each folder of `serving`, ascending."""
    if not os.path.isdir(serving):
        return {}
    names = sorted(entry.name for entry in os.scandir(serving) if entry.is_dir() and entry.name[0] != ".")
    return {name: published(os.path.join(serving, name)) for name in names}


def artifact_name(uri: str) -> str:
    """Return what names an artifact wherever its root lies: `Trainer.mlp/model/16`."""
    return "/".join(uri.rstrip("/").split("/")[-3:])


def same_artifact(one: str, other: str) -> bool:
    """Return whether two paths are of the same artifact, also when its home was moved in between."""
    return bool(one) and artifact_name(one) == artifact_name(other)


def withdrawn(base_directory: str) -> set[str]:
    """Return the names of the artifacts that somebody rolled back from. Raises OSError."""
    return _lines(base_directory, WITHDRAWN)


def withdraw(base_directory: str, uri: str) -> None:
    """Note that somebody rolled back from an artifact, so that the gate never pushes it again.

    Raises OSError.
    """
    _add(base_directory, WITHDRAWN, artifact_name(uri))


def unverified(base_directory: str) -> set[int]:
    """Return the versions of 0.1 that differ from the artifact that they are a copy of. Raises OSError."""
    return {int(line) for line in _lines(base_directory, UNVERIFIED) if line.isdecimal()}


def note_unverified(base_directory: str, version: int) -> None:
    """Note that a version of 0.1 differs from what it is a copy of, so that it is not read again and again.

    Raises OSError.
    """
    _add(base_directory, UNVERIFIED, str(version))


def _lines(base_directory: str, name: str) -> set[str]:
    try:
        return set(pathlib.Path(base_directory, name).read_text().split("\n")) - {""}
    except FileNotFoundError:
        return set()


def _add(base_directory: str, name: str, line: str) -> None:
    """Add a line to a file beside the versions, whole or not at all."""
    lines = sorted(_lines(base_directory, name) | {line})
    staging = os.path.join(base_directory, f"{name}.tmp")
    with open(staging, "w") as file:
        file.write("".join(f"{each}\n" for each in lines))
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, os.path.join(base_directory, name))


def _numbers(base_directory: str) -> list[int]:
    """Return the folders that a model server would take for versions, ascending."""
    if not os.path.isdir(base_directory):
        return []
    names = [name for name in os.listdir(base_directory) if name.isascii() and name.isdecimal()]
    numbers = {int(name) for name in names if len(name) <= len(str(LARGEST)) and str(int(name)) == name}
    found = [number for number in numbers if number <= LARGEST]
    return sorted(n for n in found if os.path.isdir(os.path.join(base_directory, str(n))))
