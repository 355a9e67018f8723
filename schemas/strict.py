"""Dictionaries become typed, frozen dataclasses here; unknown keys and values of another type are errors."""

import collections.abc
import dataclasses
import reprlib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list",
    collections.abc.Mapping: "a mapping",
}


def from_mapping(cls: type[T], values: Mapping[Any, Any]) -> T:
    """Build the dataclass `cls` from `values`.

    ValueError names unknown keys and lists the known ones, and names a value of the wrong type.
    """
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in set(values) - set(known))
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}; it takes {', '.join(known)}")
    check_types(cls, values)
    return cls(**values)


def check_types(cls: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError for a value that is not of the type that the dataclass `cls` declares for its key.

    A list may stand for a tuple, a whole number for a number, a mapping for a dataclass.
    """
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name} must be {_in_words(hints[name])}, got {reprlib.repr(value)}")


def _fits(value: Any, hint: Any) -> bool:
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (int, float):
        accepted = int if kind is int else int | float
        return isinstance(value, accepted) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if kind is collections.abc.Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if dataclasses.is_dataclass(kind):
        return isinstance(value, Mapping | typing.cast(type, kind))
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def _in_words(hint: Any) -> str:
    """The type as a user would say it."""
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if inner and kind in _WORDS:
        return f"{_WORDS[kind]} of {_in_words(inner[-1] if kind is not tuple else inner[0])}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
