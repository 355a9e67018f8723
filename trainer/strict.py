"""Dictionaries become typed, frozen dataclasses here, and unknown keys are an error."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass `cls` from `values`; ValueError names unknown keys and lists the known ones."""
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}; it takes {', '.join(known)}")
    return cls(**values)
