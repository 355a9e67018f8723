import dataclasses
import enum
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from schemas import strict


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Leaf:
    size: int
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


@dataclasses.dataclass(frozen=True)
class Tree:
    name: str = ""
    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    named: Mapping[str, Leaf] = dataclasses.field(default_factory=dict)
    pair: tuple[int, int] = (1, 2)
    widths: Sequence[int] = ()
    colour: Colour = Colour.RED
    either: int | str = 0
    anything: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    deep: bool = False


def read(text: str) -> Tree:
    return strict.from_mapping(Tree, strict.parse(text))


def test_values_become_the_types_that_the_fields_declare() -> None:
    tree = read(
        "name: oak\nleaf: {size: 1, rate: 2}\nleaves: [{size: 3}]\nnamed: {a: {size: 4}}\npair: [5, 6]\n"
        "widths: [7]\ncolour: blue\neither: x\nanything: {deep: [1]}\ndeep: on\n"
    )
    assert tree == Tree(
        "oak", Leaf(1, 2.0), (Leaf(3),), {"a": Leaf(4)}, (5, 6), (7,), Colour.BLUE, "x", {"deep": [1]}, True
    )
    assert isinstance(tree.leaf, Leaf)
    assert type(tree.leaf.rate) is float


def test_a_dataclass_is_taken_as_it_is() -> None:
    assert strict.from_mapping(Tree, {"leaf": Leaf(1)}).leaf == Leaf(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: x", "nam: no such field; did you mean name?"),
        ("leaf: {sizes: 1}", "leaf.sizes: no such field; did you mean size?"),
        ("leaf: {x: 1}", "leaf.x: no such field; choose from size, rate"),
        ("leaf: {}", "leaf: size is missing"),
        ("leaf: {size: 0}", "leaf: size must be at least 1, got 0"),
        ("leaves: [{size: 1}, {size: big}]", "leaves[1].size must be a whole number, got 'big'"),
        ("named: {a: {size: true}}", "named.a.size must be a whole number, got True"),
        ("named: {1: {size: 1}}", "named.1: the key must be text; put it in quotes"),
        ("pair: [1, 2, 3]", "pair must be a list of 2 values, got [1, 2, 3]"),
        ("widths: '12'", "widths must be a list, got '12'"),
        ("colour: green", "colour must be one of red, blue, got 'green'"),
        ("name: 12", 'name must be text, got 12; put it in quotes: "12"'),
        ("name: yes", 'name must be text, got True; put it in quotes: "True"'),
        ("leaf: 3", "leaf must be `key: value` lines, got 3"),
        ("name:", "name must be text, got nothing"),
        ("deep: 1", "deep must be true or false, got 1"),
        ("on: 1", "True: the key must be text; put it in quotes"),
        ("leaf: {size: 1, rate: .nan}", "leaf.rate must be a finite number, got nan"),
        ("leaf: {size: 1, rate: -.inf}", "leaf.rate must be a finite number, got -inf"),
        ("leaf: {size: 1, rate: 1e-4}", "got '1e-4'; YAML takes it for text, write 1.0e-4"),
        ("leaf: {size: 1, rate: 1.5E3}", "got '1.5E3'; YAML takes it for text, write 1.5e+3"),
        ("leaf: {size: '7'}", "leaf.size must be a whole number, got '7'; leave the quotes out"),
        ("[1]", "the file must be `key: value` lines, got [1]"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read(text)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ValueError, match="leaf.rate must be a finite number"):
        read(f"leaf: {{size: 1, rate: {'9' * 400}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a is given twice, first on line 1"),
        ("a: {x: 1, 'x': 2}", "x is given twice"),
        ("a: 010", 'line 1: 010 is octal in YAML; write 10, or "010" for text'),
        ("- 1\n- -0_17", "line 2: -0_17 is octal"),
        ("a: 12:30", "12:30 is a number in base 60"),
        ("a: 1:30.5", "1:30.5 is a number in base 60"),
        ("a: [", "line 1: "),
        ("a: 1\n---\nb: 2", "line 2: "),
        ("a: !!int x", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!python/object:os.system x", "line 1: could not determine a constructor"),
        ("\0", "not valid YAML"),
        ("&a [*b]", "found undefined alias"),
    ],
)
def test_what_yaml_would_read_in_silence_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        strict.parse(text)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-7", -7), ("1_000", 1000), ("0x1F", 31), ("1.0e-4", 1e-4), ("0.5", 0.5), ("08", "08")],
)
def test_numbers_that_mean_one_thing_are_read(text: str, value: Any) -> None:
    assert strict.parse(f"a: {text}") == {"a": value}


def test_merged_keys_may_be_given_again() -> None:
    assert strict.parse("base: &b {x: 1}\nmore: {<<: *b, x: 2}")["more"] == {"x": 2}


def test_an_empty_file_gives_the_defaults(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert strict.from_file(Tree, tmp_path / "empty.yaml") == Tree()
