"""Read the YAML files that users write."""

from typing import TypeVar

from pipeline.config.errors import SettingsError
from schemas import strict

T = TypeVar("T")


def read(cls: type[T], path: str, what: str, error_type: type[SettingsError]) -> T:
    """Return the record `cls` of a YAML file. what: of the file, for messages. Raises `error_type`."""
    try:
        return strict.from_file(cls, path)
    except OSError as error:
        raise error_type(f"cannot read the {what} file {path}: {error}") from error
    except ValueError as error:
        raise error_type(f"{path}: {error}") from error
