"""What lies in a folder of pushed versions; for those who must not import TensorFlow or TFX to know it."""

import os

SOURCE = "latentline_source.txt"
"""File in a pushed version that names the model artifact it is a copy of."""


def published(base_directory: str) -> list[int]:
    """The versions a model server would see, ascending; none where there is no folder."""
    if not os.path.isdir(base_directory):
        return []
    return sorted(int(name) for name in os.listdir(base_directory) if name.isdigit())


def source(base_directory: str, version: int) -> str:
    """The model artifact that the version is a copy of; empty where it does not say."""
    try:
        with open(os.path.join(base_directory, str(version), SOURCE)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def by_variant(serving: str) -> dict[str, list[int]]:
    """The versions in each folder of `serving`, ascending."""
    if not os.path.isdir(serving):
        return {}
    names = sorted(entry.name for entry in os.scandir(serving) if entry.is_dir() and entry.name[0] != ".")
    return {name: published(os.path.join(serving, name)) for name in names}
