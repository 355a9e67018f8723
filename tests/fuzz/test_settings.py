"""Any file at all as settings: accepted, or refused in one line that names the file."""

import dataclasses
import datetime
import pathlib
import random
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from pipeline.config.errors import SettingsError
from pipeline.config.settings import Settings
from trainer import variants
from trainer.recipe import PROFILES, PROTOCOLS, Recipe

FIELDS = [field.name for field in dataclasses.fields(Settings)]
NAMES = ["cvae", "mlp", "linear", "iwae", "hypernet"]
VALID: dict[str, Any] = {
    "variants": ["mlp", "cvae"],
    "profile": "smoke",
    "data": "mnist",
    "protocol": "grey",
    "home": "out",
    "seed": 3,
    "experiments": {"mlp": {"recipe": {"steps": 5, "floor": 0.1}}, "cvae": {"config": {"latent": 2}}},
    "name": "nightly",
}


def other_bytes(content: bytes, dice: random.Random) -> bytes:
    """A byte is another, is gone or is added."""
    place = dice.randrange(len(content) + 1)
    inserted = dice.choice([b"", b": ", b"- ", b"\n", b"[", b"}", b"!!", b"\xff", b"seed: ", b"data: "])
    return content[:place] + inserted + content[place + dice.randrange(2) :]


def one_line(error: Exception) -> str:
    """The error's message, which has to be one line."""
    assert str(error).isprintable(), repr(str(error))
    return str(error)


def named(path: pathlib.Path, error: Exception) -> None:
    assert str(path) in one_line(error)


def many(count: int) -> Any:
    """A property's two sizes: with every test run, and for make fuzz."""
    return pytest.mark.parametrize("examples", [200, pytest.param(count, marks=pytest.mark.fuzz)])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.dates(),
    st.sampled_from(
        ["", "~", "~nobody-of-that-name/x", "\0", "..", "/", "all", *FIELDS, *NAMES, *PROFILES, *PROTOCOLS]
    ),
)
KEYS = st.one_of(
    st.sampled_from([*FIELDS, *NAMES, "config", "recipe", *(f.name for f in dataclasses.fields(Recipe))]),
    st.integers(-1, 1),
    st.none(),
    st.text(max_size=3),
    st.just(datetime.date(2026, 1, 1)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def read(path: pathlib.Path, content: bytes) -> None:
    """The property: settings, or one line that names the file."""
    path.write_bytes(content)
    try:
        settings = Settings.from_file(str(path))
    except SettingsError as error:
        named(path, error)
        return
    assert set(settings.variants) <= set(variants.names())
    settings.trainings("data")


@many(3_000)
def test_any_values_for_known_keys_are_accepted_or_refused(
    hold: Any, tmp_path: pathlib.Path, examples: int
) -> None:
    values = st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=2).map(
        lambda v: {**VALID, **v}
    )
    hold(lambda v: read(tmp_path / "s", yaml.dump(v).encode()), values, examples)


@many(3_000)
def test_any_yaml_is_accepted_or_refused(hold: Any, tmp_path: pathlib.Path, examples: int) -> None:
    hold(lambda v: read(tmp_path / "s", yaml.dump(v).encode()), VALUES, examples)


@many(3_000)
def test_a_settings_file_with_a_mistake_is_accepted_or_refused(
    hold: Any, tmp_path: pathlib.Path, examples: int
) -> None:
    text = yaml.safe_dump(VALID).encode()
    places = st.integers(0, len(text))
    more = st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"\t", b"!!python/object:os.system ", b"&a ", b"*a", b"<<: ", b"{", b"[" * 2000, b"? "]
        ),
    )

    def mistake(chosen: tuple[int, int, bytes]) -> None:
        place, length, inserted = chosen
        read(tmp_path / "s", text[:place] + inserted + text[place + length :])

    hold(mistake, st.tuples(places, st.integers(0, 12), more), examples)


@many(2_000)
def test_any_bytes_are_accepted_or_refused(hold: Any, tmp_path: pathlib.Path, examples: int) -> None:
    hold(lambda content: read(tmp_path / "s", content), st.binary(max_size=64), examples, other_bytes)
