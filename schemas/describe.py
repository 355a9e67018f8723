"""Dataclasses described for people and editors: the meaning of each field, and a JSON Schema."""

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def meanings(cls: type) -> dict[str, str]:
    """Return what the `Attributes:` of a dataclass's docstring say of each field, in one line each."""
    text = inspect.getdoc(cls) or ""
    _, _, listed = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in listed.split("\n"):
        entry = re.fullmatch(r"  (\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry.group(1).split(", ")
            found |= dict.fromkeys(names, entry.group(2))
        elif names and line.startswith("    "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON Schema of a mapping that schemas.strict would read as the dataclass `cls`."""
    hints, about = typing.get_type_hints(cls), meanings(cls)
    properties: dict[str, Any] = {}
    required = []
    for field in dataclasses.fields(cls):
        properties[field.name] = _type_schema(hints[field.name])
        if field.name in about:
            properties[field.name]["description"] = about[field.name]
        if field.default is not dataclasses.MISSING and _plain(field.default):
            properties[field.name]["default"] = field.default
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": required} if required else schema


def _type_schema(hint: Any) -> dict[str, Any]:
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return {"anyOf": [_type_schema(each) for each in inner]}
    if kind is types.NoneType:
        return {"type": "null"}
    if dataclasses.is_dataclass(kind):
        return json_schema(typing.cast(type, kind))
    if kind in (tuple, list, Sequence):
        if kind is tuple and inner[1:] != (...,):
            return {"type": "array", "prefixItems": [_type_schema(each) for each in inner], "items": False}
        return {"type": "array", "items": _type_schema(inner[0])}
    if kind is Mapping:
        return {"type": "object", "additionalProperties": _type_schema(inner[1])}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    return {"type": JSON_TYPES[kind]} if kind in JSON_TYPES else {}


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
