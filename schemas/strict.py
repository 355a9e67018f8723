"""The one loader of settings: YAML and mappings become typed, frozen dataclasses.

Nothing is guessed. An unknown field, a value of another type, a key given twice and a number that YAML reads
in another base are errors, and every error names the path of its value, such as
`experiments.wide.config.latents: no such field; did you mean latent?`.
"""

import dataclasses
import datetime
import difflib
import enum
import math
import os
import re
import reprlib
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

MALFORMED = (
    yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What PyYAML raises for text that is not YAML, or whose explicit tags (`!!int x`) do not fit."""

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_EXPONENT = re.compile(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)")


def from_file(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Read a YAML file as the dataclass `cls`; an empty file gives no fields.

    Raises OSError where the file cannot be read, and ValueError for what it holds.
    """
    with open(path, encoding="utf-8") as file:
        values = parse(file.read())
    return from_mapping(cls, {} if values is None else values)


def parse(text: str) -> Any:
    """Return the one document of a YAML text. Raises ValueError, with the line of the fault where known."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem or error.context}") from error
    except MALFORMED as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error


def from_mapping(cls: type[T], values: Any, at: str = "") -> T:
    """Build the dataclass `cls` from a mapping, or return `values` where it is one already.

    at: path of the mapping, for messages. Raises ValueError for an unknown, missing or wrong field.
    """
    if isinstance(values, cls):
        return values
    typed_values = typed_fields(cls, values, at)
    missing = [
        field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.name not in typed_values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{_prefix(at)}{', '.join(missing)} {verb} missing")
    try:
        return cls(**typed_values)
    except ValueError as error:
        raise ValueError(f"{_prefix(at)}{error}") from error


def typed_fields(cls: type, values: Any, at: str = "") -> dict[str, Any]:
    """Return the values of some fields of the dataclass `cls`, each as the type that the field declares.

    A list becomes a tuple, a whole number a float, a mapping a dataclass, where the field is one. A class may
    have RETIRED: name of a field that it had -> a function from a value to the sentence that replaces it.
    Raises ValueError for an unknown field and for a value of another type.
    """
    if not isinstance(values, Mapping):
        raise _mismatch("`key: value` lines", values, at)
    known = [field.name for field in dataclasses.fields(cls)]
    retired = getattr(cls, "RETIRED", {})
    for name in values:
        _check_key(name, at)
        if name in retired:
            raise ValueError(f"{_prefix(at)}{retired[name](values[name])}")
        if name not in known:
            raise ValueError(f"{_join(at, name)}: no such field; {suggestion(name, known)}")
    hints = typing.get_type_hints(cls)
    return {name: typed(hints[name], value, _join(at, name)) for name, value in values.items()}


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: the known one most like it, or all of them."""
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose from {', '.join(known)}" if known else "there are none"


def typed(wanted: Any, value: Any, at: str) -> Any:
    """Return `value` as the type `wanted`. Raises ValueError that begins with the path `at`."""
    kind, inner = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if kind in (types.UnionType, typing.Union):
        return _one_of_several(inner, value, at)
    if dataclasses.is_dataclass(kind):
        return from_mapping(typing.cast(type, kind), value, at)
    if kind in (tuple, list, Sequence):
        return _sequence(kind, inner, value, at)
    if kind in (Mapping, dict):
        return _mapping(inner, value, at)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(kind, value, at)
    if kind in _WORDS:
        return _scalar(kind, value, at)
    if kind is not Any and isinstance(kind, type) and not isinstance(value, kind):
        raise _mismatch(kind.__name__, value, at)
    return value


def _one_of_several(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    candidates = [kind for kind in kinds if kind is not types.NoneType]
    for kind in candidates[:-1]:
        try:
            return typed(kind, value, at)
        except ValueError:
            continue
    return typed(candidates[-1], value, at)


def _sequence(kind: Any, inner: tuple[Any, ...], value: Any, at: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch("a list", value, at)
    kinds = list(inner)
    if kind is not tuple or kinds[1:] == [...]:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise _mismatch(f"a list of {len(kinds)} values", value, at)
    items = [
        typed(each, item, f"{at}[{index}]")
        for index, (each, item) in enumerate(zip(kinds, value, strict=True))
    ]
    return items if kind is list else tuple(items)


def _mapping(inner: tuple[Any, ...], value: Any, at: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch("`key: value` lines", value, at)
    keys, values = inner
    for key in value:
        if keys is str:
            _check_key(key, at)
    return {key: typed(values, item, _join(at, key)) for key, item in value.items()}


def _check_key(key: Any, at: str) -> None:
    if not isinstance(key, str):
        raise ValueError(f"{_join(at, key)}: the key must be text; put it in quotes")


def _member(kind: type[enum.Enum], value: Any, at: str) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise _mismatch(f"one of {choices}", value, at) from None


def _scalar(kind: type, value: Any, at: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str and (number or isinstance(value, bool | datetime.date)):
        raise ValueError(f'{at} must be text, got {value!r}; put it in quotes: "{value}"')
    if kind is float and number:
        return _finite(value, at)
    if kind in (int, float) and isinstance(value, str):
        raise ValueError(f"{_mismatch(_WORDS[kind], value, at)}{_number_hint(value)}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _mismatch(_WORDS[kind], value, at)
    return value


def _finite(value: float, at: str) -> float:
    if isinstance(value, int) and abs(value) > 2**1023 or not math.isfinite(value):
        raise _mismatch("a finite number", value, at)
    return float(value)


def _number_hint(text: str) -> str:
    """Return what to write instead of a text that looks like a number; empty where it does not."""
    found = _EXPONENT.fullmatch(text)
    if found:
        whole, fraction, sign, exponent = found.groups()
        fraction = fraction if fraction and fraction != "." else ".0"
        return f"; YAML takes it for text, write {whole}{fraction}e{sign or '+'}{exponent}"
    return "; leave the quotes out" if re.fullmatch(r"[-+]?\d+(\.\d*)?", text) else ""


def _mismatch(expected: str, value: Any, at: str) -> ValueError:
    found = "nothing" if value is None else reprlib.repr(value)
    return ValueError(f"{at or 'the file'} must be {expected}, got {found}")


def _join(at: str, name: Any) -> str:
    return f"{at}.{name}" if at else str(name)


def _prefix(at: str) -> str:
    return f"{at}: " if at else ""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, less what YAML 1.1 reads in silence and nobody means."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping whose keys are given once."""
        first: dict[tuple[str, str], Any] = {}
        for key, _ in getattr(node, "value", []):
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            earlier = first.setdefault((key.tag, key.value), key)
            if earlier is not key:
                line = earlier.start_mark.line + 1
                raise _fault(f"{key.value} is given twice, first on line {line}; keep one of them", key)
        return super().construct_mapping(node, deep)

    def construct_decimal_int(self, node: Any) -> int:
        """Build a whole number written in decimal, or with 0x or 0b."""
        digits = node.value.lstrip("+-").replace("_", "")
        if re.fullmatch(r"0[0-7]+", digits):
            advice = digits.lstrip("0") or "0"
            raise _fault(f'{node.value} is octal in YAML; write {advice}, or "{node.value}" for text', node)
        return self.construct_yaml_int(_decimal(node))

    def construct_decimal_float(self, node: Any) -> float:
        """Build a number written in decimal."""
        return self.construct_yaml_float(_decimal(node))


def _decimal(node: Any) -> Any:
    """Return a node that is not in base 60, as 12:30 is. Raises MarkedYAMLError."""
    if ":" in node.value:
        raise _fault(f'{node.value} is a number in base 60 in YAML; write "{node.value}" for text', node)
    return node


def _fault(problem: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_decimal_float)
