"""Any arguments and any environment for a node's process: taken, or refused in a line with exit code 2."""

import contextlib
import io
import pathlib
import random
from typing import Any

import pytest
from hypothesis import strategies as st
from tfx.proto.orchestration import pipeline_pb2

from pipeline.config.cluster import Cluster
from pipeline.config.settings import Settings
from pipeline.dag import ir
from pipeline.execution import node, plan

REPOSITORY = pathlib.Path(__file__).parents[2]
PLANNED = ("root", "serving", "schema", "beam", "data")


def one_line(error: Exception) -> str:
    """The error's message, which has to be one line."""
    assert str(error).isprintable(), repr(str(error))
    return str(error)


def other_words(words: list[str], dice: random.Random) -> list[str]:
    """One word is another, is gone or is there twice; or their order is another."""
    pool = [*words, *OPTIONS, "--init-metadata", "--parameter=a=INT:1", "--", "-", "--n", "x"]
    kind, place = dice.randrange(4), dice.randrange(len(words) + 1)
    if kind == 0:
        return dice.sample(words, len(words))
    return words[:place] + [dice.choice(pool)] * (kind - 1) + words[place + (kind != 3) :]


def other_text(text: str, dice: random.Random) -> str:
    """A character is another, is gone or is added."""
    place = dice.randrange(len(text) + 1)
    return (
        text[:place]
        + dice.choice(["", "=", ":", "{{", "INT", "\n", "9", "é"])
        + text[place + dice.randrange(2) :]
    )


def other_place(chosen: tuple[int, int, str], dice: random.Random) -> tuple[int, int, str]:
    """The same change elsewhere."""
    return dice.randrange(len(PLAN) + 1), dice.randrange(5), chosen[2]


def secret(error: Exception) -> None:
    assert "password-that-is-secret" not in one_line(error)


def ended(end: SystemExit, words: list[str]) -> None:
    """With exit code 2, or with 0 after the help that was asked for."""
    asked_for_help = {word for word in words if word in ("-h", "--h", "--he", "--hel", "--help")}
    assert end.code == 2 or (end.code == 0 and asked_for_help)


def many(count: int) -> Any:
    """A property's two sizes: with every test run, and for make fuzz."""
    return pytest.mark.parametrize("examples", [200, pytest.param(count, marks=pytest.mark.fuzz)])


EMPTY = pipeline_pb2.Pipeline(pipeline_info={"id": "latentline"})
SHA256 = ir.digest(EMPTY)
PLAN = plan.Plan.of(
    Settings(variants=("mlp",)), Cluster.from_file(str(REPOSITORY / "kubeflow" / "cluster.yaml"))
).text()
OPTIONS = [
    "--nodes", "--ir-sha256", "--plan", "--run-id", "--tfx-root", "--parameter", "--log-format", "--attempts",
    "--wait",
]  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(
        [
            *OPTIONS,
            "--verbose",
            "--init-metadata",
            "--go-on",
            "--verdict",
            "json",
            "a=INT:1",
            "30s",
            "3",
            PLAN,
            SHA256,
            "",
        ]
    ),
    st.text(max_size=12),
    st.just("{{$.pipeline_job_uuid}}"),
)
TEXTS = st.one_of(
    st.text(max_size=24), st.sampled_from(["INT", "a=INT:", "a=DOUBLE:nan", "a=STRING:", "=INT:1"])
)


@many(2_500)
def test_any_arguments_are_parsed_or_refused_with_exit_code_2(hold: Any, examples: int) -> None:
    parser = node._parser()

    def parse(words: list[str]) -> None:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            try:
                options = parser.parse_args(words)
            except SystemExit as end:
                ended(end, words)
                return
        assert not (options.nodes and options.init_metadata)
        assert 0 <= options.attempts <= 100
        assert options.wait >= 0

    hold(parse, st.lists(WORDS, max_size=8), examples, other_words)


@many(3_000)
def test_any_parameter_is_parsed_or_refused(hold: Any, examples: int) -> None:
    def parse(text: str) -> None:
        try:
            name, value = node.parsed(text)
        except node.BadRequest as error:
            one_line(error)
        else:
            assert name
            assert type(value) in node.TYPES.values()

    built = st.builds("{}={}:{}".format, TEXTS, st.sampled_from([*node.TYPES, "BOOL"]), st.text(max_size=12))
    hold(parse, st.one_of(TEXTS, built), examples, other_text)


@many(3_000)
def test_a_plan_that_was_changed_on_its_way_is_refused(hold: Any, examples: int) -> None:
    def unpack(chosen: tuple[int, int, str]) -> None:
        place, length, inserted = chosen
        text = PLAN[:place] + inserted + PLAN[place + length :]
        try:
            found = plan.Plan.from_text(text)
        except plan.BadPlan as error:
            one_line(error)
        else:
            assert found.text() == PLAN

    letters = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", max_size=6)
    inputs = st.tuples(st.integers(0, len(PLAN)), st.integers(0, 6), st.one_of(letters, st.text(max_size=4)))
    hold(unpack, inputs, examples, other_place)


@many(1_000)
def test_any_values_are_a_plan_or_refused(hold: Any, examples: int) -> None:
    values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from([*PLANNED, "settings", "name", "variants"]), inner, max_size=4),
        ),
        max_leaves=8,
    )

    def unpack(value: Any) -> None:
        with contextlib.suppress(plan.BadPlan):
            plan.Plan.from_text(plan.packed(value))

    hold(unpack, values, examples)


@many(4_000)
def test_any_environment_names_a_metadata_store_or_is_refused(hold: Any, examples: int) -> None:
    names = [node.PREFIX + name for name in ("HOST", "PORT", "DATABASE", "USER", "PASSWORD", "SQLITE")]

    def connect(environment: dict[str, str]) -> None:
        try:
            node.connection_from(environment)
        except node.BadRequest as error:
            secret(error)

    values = st.one_of(st.text(max_size=12), st.sampled_from(["3306", "\u0661", "99999999999", "-1", ""]))
    environments = st.dictionaries(st.sampled_from(names), values).map(
        lambda found: {**found, f"{node.PREFIX}PASSWORD": "password-that-is-secret"}
        if len(found) % 2
        else found
    )
    hold(connect, environments, examples)


@many(1_000)
def test_any_run_id_and_root_are_bound_or_refused(hold: Any, examples: int) -> None:
    texts = st.one_of(st.text(max_size=12), st.sampled_from(["", "{{x}}", "run", "/volume"]))

    def bind(chosen: tuple[str, str, list[str]]) -> None:
        run_id, root, parameters = chosen
        pipeline = type(EMPTY)()
        pipeline.CopyFrom(EMPTY)
        try:
            node.bind(pipeline, run_id, root, parameters)
        except node.BadRequest as error:
            one_line(error)

    hold(bind, st.tuples(texts, texts, st.lists(TEXTS, max_size=2)), examples)
