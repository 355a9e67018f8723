import dataclasses

from schemas.describe import json_schema, meanings


@dataclasses.dataclass(frozen=True)
class Thing:
    """A thing.

    Attributes:
      size: how large it is, in
        metres.
      left, right: its sides.

    Text that is of no field: at all.
    """

    size: int
    left: float = 0.5
    right: tuple[str, ...] = ()
    undocumented: bool = True


def test_meanings_are_read_from_the_docstring() -> None:
    assert meanings(Thing) == {
        "size": "how large it is, in metres.",
        "left": "its sides.",
        "right": "its sides.",
    }


def test_a_field_without_a_default_is_required() -> None:
    schema = json_schema(Thing)
    assert schema["required"] == ["size"]
    assert schema["properties"]["left"] == {"type": "number", "description": "its sides.", "default": 0.5}
    assert schema["properties"]["undocumented"] == {"type": "boolean", "default": True}
