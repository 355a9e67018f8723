import html
import json
from typing import Any

import pytest
from tallies import Section

from components.ingest import sources
from components.reporting import model_card
from schemas.records import Row

METRIC = {"value": -155.93, "lower": -156.5, "upper": -155.3, "unit": "nats per image"}
DATA = [{"split": "train", "examples": 60_000}, {"split": "eval", "examples": 10_000}]


def row(**changes: Any) -> Row:
    values = {
        "variant": "cvae", "family": "generative", "dataset": "mnist", "protocol": "threshold",
        "profile": "quick", "seed": 3, "steps": 2000, "batch_size": 32, "parameters": 69_989,
        "importance_samples": 5, "train_seconds": 12.5, "recipe": {"learning_rate": 0.001}, "config": {},
        "metrics": {"elbo": METRIC}, "blessed": True, "why_not": "", "pushed_version": 17,
        "examples": 60_000, "step_seconds": 9.0, "images_per_second": 2_000.0, **changes,
    }  # fmt: skip
    return Row.from_json(values)


READING = {"pixels": "grey", "subset": "", "resize": "", "scale": False}


def card(**changes: Any) -> dict[str, Any]:
    data = model_card.Data(changes.get("dataset", "mnist"), "/data/images", DATA, READING)
    return model_card.card(row(**changes), {"0": {"elbo": METRIC}}, data, source="/a/model/7")


def test_the_card_says_what_the_model_is_and_where_it_comes_from() -> None:
    found = card()
    assert found["model"]["version"] == 17
    assert found["model"]["source"] == "/a/model/7"
    assert found["data"] == {
        "dataset": "mnist", "title": "mnist", "source": "/data/images", "reading": READING, "classes": 10,
        "splits": {"train": 60_000, "eval": 10_000},
    }  # fmt: skip
    assert found["training"]["protocol"] == "threshold"
    assert found["metrics"]["elbo"] == METRIC
    assert json.loads(json.dumps(found)) == found


def test_the_embedded_digits_are_marked_as_a_demonstration_wherever_the_card_names_them() -> None:
    found = card(dataset="digits")
    assert found["data"]["title"] == sources.DEMONSTRATION
    assert model_card.markdown(found).count(sources.DEMONSTRATION) == 2
    assert sources.DEMONSTRATION not in model_card.markdown(card())


def test_the_text_has_figures_with_interval_unit_and_slices() -> None:
    text = model_card.markdown(card())
    assert text.startswith("# cvae, version 17\n")
    assert "| elbo | -155.9 | -156.5 to -155.3 | nats per image |" in text
    assert "| 0 | -155.9 ±0.6 |" in text
    assert "mnist (60,000 train, 10,000 eval images; 10 classes), from `/data/images`" in text
    assert '"learning_rate": 0.001' in text
    assert "**Config**" not in text


def test_every_table_row_has_as_many_cells_as_its_heading() -> None:
    lines = [line for line in model_card.markdown(card()).split("\n") if line.startswith("|")]
    assert {line.count("|") for line in lines[:3]} == {5}
    assert {line.count("|") for line in lines[3:]} == {3}


@pytest.mark.parametrize(
    ("family", "said", "unsaid"),
    [
        ("generative", "lower bounds", "not calibrated"),
        ("classifier", "not calibrated", "lower bounds"),
        ("both", "lower bounds", "nothing unsaid"),
    ],
)
def test_the_limits_are_those_of_the_family(family: str, said: str, unsaid: str) -> None:
    text = model_card.markdown(card(family=family))
    assert said in text
    assert unsaid not in text


def test_a_short_budget_is_admitted_and_a_full_one_is_not_blamed() -> None:
    assert "shorter than the source's own budget" in model_card.markdown(card())
    assert "shorter than" not in model_card.markdown(card(profile="full"))


def test_names_cannot_break_out_of_the_text() -> None:
    text = model_card.markdown(card(dataset="a|b<script>\n# x"))
    assert "<script>" not in text
    assert "a\\|b&lt;script&gt; # x" in text


def test_a_model_without_slices_has_no_table_of_them() -> None:
    text = model_card.markdown(model_card.card(row(), {}, model_card.Data("mnist", "/d", DATA, {}), "/a"))
    assert "By label" not in text


@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))",
        "[x]( JavaScript:alert(1))",
        "![x](data:text/html;base64,AA)",
        "[x](file:///etc/passwd)",
        "[x](<javascript:alert(1)>)",
        "[x](\njavascript:alert(1))",
        "[x\\](javascript:alert(1))",
        "[x]: javascript:alert(1)",
        "[x](java\nscript:alert(1))",
        "[x](//host/path)",
    ],
)
@pytest.mark.section(Section.SECRETS)
def test_a_link_to_anything_but_a_web_page_is_text(text: str) -> None:
    found = model_card.cell(text)
    assert "](" not in found.replace(" ", "")
    assert "]:" not in found
    assert "\n" not in found
    assert html.unescape(html.unescape(found)) == " ".join(text.splitlines())  # a reader sees the same


@pytest.mark.parametrize(
    "text", ["[x](https://a.org/b)", "[x](http://a.org)", "weights [0, 1] (two)", "a [b] c"]
)
def test_links_to_web_pages_and_brackets_stay(text: str) -> None:
    assert model_card.cell(text) == text.replace("] (", "&#93; (")
