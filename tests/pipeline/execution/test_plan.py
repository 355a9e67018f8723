import base64
import json
import zlib
from typing import Any

import pytest

from components.identity import DATASET
from components.ingest.example_gen import NAMED
from pipeline.config.cluster import Data
from pipeline.config.notify import Notify
from pipeline.config.settings import Settings
from pipeline.dag import ir
from pipeline.execution.plan import DIGEST_BYTES, BadPlan, Plan, packed


def plan(**settings: Any) -> Plan:
    return Plan(
        settings=Settings(**settings), data=Data("digits", "/data"), root="/root", serving="/serving",
        schema="/schema.pbtxt", beam={"default": ("--direct_running_mode=in_memory",)},
    )  # fmt: skip


def test_the_text_of_a_plan_gives_the_same_pipeline() -> None:
    made = plan(
        variants=("mlp", "cvae"), seed=3, spans=2, data="/nights", max_gain={"accuracy": 0.5}, keep=2,
        experiments={"mlp": {"recipe": {"steps": 12}}},
    )  # fmt: skip
    read = Plan.from_text(made.text())
    assert read.text() == made.text()
    assert ir.digest(read.intermediate()) == ir.digest(made.intermediate())


def test_another_seed_is_another_pipeline() -> None:
    first, other = (plan(variants=("mlp",), seed=seed).intermediate() for seed in (1, 2))
    assert ir.digest(first) != ir.digest(other)


@pytest.mark.parametrize(
    ("settings", "name", "folder"),
    [({}, "digits", "/data"), ({"data": "/nights", "dataset": "scans"}, "scans", "")],
)
def test_a_name_in_the_settings_is_of_any_folder_and_one_in_the_cluster_file_of_its_own(
    settings: dict[str, Any], name: str, folder: str
) -> None:
    compiled = plan(variants=("mlp",), **settings).intermediate()
    own = ir.node_of(compiled, "IdxExampleGen").parameters.parameters
    given = [own[key].field_value.string_value for key in (DATASET, NAMED)]
    assert given == [name, folder]


def test_secrets_and_places_of_one_machine_stay_out_of_the_text() -> None:
    made = plan(variants=("mlp",), home="/home/me", notify=Notify(webhook="https://hooks.example/secret"))
    assert made.text() == plan(variants=("mlp",)).text()


def test_the_text_is_short_and_holds_nothing_that_kubernetes_rewrites() -> None:
    text = plan().text()
    assert len(text) < 600
    assert not set(text) & set("{}$")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variants": ["nobody"]}, "built from other code"),
        ({"added_later": 1}, "built from other code"),
    ],
)
def test_settings_that_this_code_does_not_know_are_refused(settings: dict[str, Any], words: str) -> None:
    values = json.loads(zlib.decompress(base64.b64decode(plan().text())[DIGEST_BYTES:]))
    with pytest.raises(BadPlan, match=words):
        Plan.from_text(packed({**values, "settings": settings}))


def test_a_change_that_the_checksum_of_zlib_does_not_see_is_refused() -> None:
    data = base64.b64decode(plan().text())
    written = zlib.decompress(data[DIGEST_BYTES:])
    changed = base64.b64encode(data[:DIGEST_BYTES] + zlib.compress(written.replace(b"/root", b"/toor"), 9))
    with pytest.raises(BadPlan, match="checksum does not match"):
        Plan.from_text(changed.decode())


@pytest.mark.parametrize("text", ["", "%%%", "aGVsbG8=", packed([])])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(BadPlan):
        Plan.from_text(text)
