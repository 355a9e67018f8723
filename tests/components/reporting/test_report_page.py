import html.parser
import pathlib
from typing import Any

import numpy as np
import pytest

from components.evaluation.metrics import UNITS
from components.reporting import figures, model_card, report_page
from schemas import SIDE
from schemas.records import Row

ELBO = {"value": -155.93, "lower": -156.5, "upper": -155.3, "unit": "nats per image"}
BETTER = {
    "metric": "elbo", "before": -160.0, "before_profile": "smoke", "before_steps": 60, "change": 4.07,
    "margin": 0.8, "verdict": "better",
}  # fmt: skip
DATA = [
    {
        "split": "train",
        "examples": 12,
        "labels": {"0": 5, "7": 7},
        "features": [{"name": "image", "type": "bytes", "missing": 0, "bytes": "784"}],
    }
]


def section(variant: str = "cvae", **changes: Any) -> dict[str, Any]:
    row = {
        "variant": variant, "family": "generative", "dataset": "mnist", "protocol": "threshold",
        "profile": "quick", "seed": 0, "steps": 2000, "batch_size": 32, "parameters": 69_989,
        "examples": 60_000, "importance_samples": 5, "train_seconds": 12.5, "images_per_second": 2_000.0,
        "metrics": {"elbo": ELBO}, "blessed": True, "why_not": "", "pushed_version": 17,
        "comparison": {"why_not": "no earlier run"}, **changes,
    }  # fmt: skip
    left_out = dict.fromkeys(("Latent manifold", "Interpolation"), "there are codes")
    picture = {"file": "a.png", "title": "Samples", "caption": "Drawn at random."}
    return {
        "row": row,
        "gallery": {"pictures": [picture], "left_out": left_out},
        "by_label": {"0": {"elbo": ELBO}},
        "card": model_card.card(Row.from_json({**row, "step_seconds": 9.0}), {}, DATA, source="/a/model/1"),
        "links": {"SavedModel": "/a/model 1", "evaluation": "gs://bucket/evaluation"},
    }


class Reader(html.parser.HTMLParser):
    """Collects the tags of a page, and complains of ones that do not close."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "a.png").write_bytes(figures.tiles(np.zeros([1, 2, SIDE, SIDE])))
    return tmp_path


def page(folder: pathlib.Path, *sections: dict[str, Any], **changes: Any) -> str:
    values = {
        "made": "2026-01-01 00:00 UTC", "sections": list(sections), "failed": [], "metrics": ["elbo"],
        "units": UNITS, "data": DATA, "anomalies": "", "drift": None,
        "links": {"statistics": "/a/statistics"}, "previous": "", **changes,
    }  # fmt: skip
    return report_page.render(values, str(folder))


def test_the_page_needs_no_other_file(folder: pathlib.Path) -> None:
    read = Reader(page(folder, section()))
    for tag, attributes in read.tags:
        assert tag not in ("iframe", "object", "base")
        assert (attributes.get("src") or "data:").startswith("data:")
        if tag == "link":
            assert attributes["href"] == "data:,"
        if tag == "script":
            assert "src" not in attributes
    pictures = [a for tag, a in read.tags if tag == "img" and a.get("src")]
    assert len(pictures) == 1
    assert str(pictures[0]["src"]).startswith("data:image/png;base64,iVBOR")
    assert "url(" not in page(folder, section())


def test_figures_come_with_interval_and_unit(folder: pathlib.Path) -> None:
    text = " ".join(Reader(page(folder, section())).text)
    assert "-155.9 ±0.6" in text
    assert "nats per image" in text
    assert "no anomalies" in text
    assert "Left out: Latent manifold, Interpolation (there are codes)." in text


def test_what_failed_is_a_row_of_the_table_with_its_reason(folder: pathlib.Path) -> None:
    failed = [{"variant": "iwae", "failed": "the loss <is> not finite"}, {"variant": "aae", "failed": ""}]
    found = page(folder, section(), failed=failed)
    assert found.count("✗ failed") == 2
    assert "the loss &lt;is&gt; not finite" in found
    assert "aae failed; why is in the run&#39;s log." in found
    assert "✗ failed" not in page(folder, section())


def test_why_a_model_is_not_blessed_is_in_its_row_and_its_section(folder: pathlib.Path) -> None:
    refused = section("bad", blessed=False, why_not="elbo -300 is below the floor -200", pushed_version=None)
    found = page(folder, section(), refused)
    assert found.count("elbo -300 is below the floor -200") == 2
    assert found.count("✗ not blessed") == 2
    assert "why not blessed" not in page(folder, section())


def test_a_comparison_says_verdict_change_and_noise(folder: pathlib.Path) -> None:
    text = " ".join(Reader(page(folder, section(comparison=BETTER), previous="/a/report/1")).text)
    assert "▲ better" in text
    assert "+4.07 since the run before" in " ".join(text.split())
    assert "±0.8 is noise" in text
    assert "/a/report/1" in text


def test_text_from_outside_is_escaped(folder: pathlib.Path) -> None:
    evil = '<script>alert("x")</script>'
    hostile = section(evil, dataset=evil, why_not=evil, blessed=False, summary=evil, config={"a": evil})
    hostile["gallery"]["pictures"][0]["caption"] = evil
    hostile["gallery"]["left_out"] = {evil: evil}
    hostile["links"] = {evil: f"/tmp/{evil}", "remote": evil}
    found = page(folder, hostile, anomalies=evil, made=evil, previous=evil)
    scripts = [tag for tag, _ in Reader(found).tags if tag == "script"]
    assert scripts == ["script"]  # the page's own
    assert "alert(" in found
    assert evil not in found


def test_local_folders_are_links_and_remote_ones_are_text(folder: pathlib.Path) -> None:
    read = Reader(page(folder, section()))
    targets = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    assert "file:///a/model%201" in targets
    assert not any("bucket" in str(target) for target in targets)
    assert "gs://bucket/evaluation" in " ".join(read.text)


def test_a_value_that_is_not_a_number_sorts_as_missing(folder: pathlib.Path) -> None:
    nan = float("nan")
    broken = section(metrics={"elbo": {"value": nan, "lower": nan, "upper": nan, "unit": "nats per image"}})
    cells = [a for tag, a in Reader(page(folder, broken)).tags if tag == "td" and a.get("class") == "number"]
    assert cells[0]["data-sort"] == ""


def test_the_version_follows_the_template(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    before = report_page.version()
    changed = (report_page.TEMPLATES / report_page.TEMPLATE).read_text() + "<!-- -->"
    (tmp_path / report_page.TEMPLATE).write_text(changed)
    monkeypatch.setattr(report_page, "TEMPLATES", tmp_path)
    assert report_page.version() != before


def test_drift_is_told_where_something_was_compared(folder: pathlib.Path) -> None:
    assert "drift" not in " ".join(Reader(page(folder, section())).text)
    assert "✓ no drift" in page(folder, section(), drift=[])
    found = page(folder, section(), drift=["ink <of> the eval split has drifted"])
    assert "✗ drifted" in found
    assert "ink &lt;of&gt; the eval split has drifted." in found


def test_the_gain_over_production_comes_with_interval_unit_and_version(folder: pathlib.Path) -> None:
    gain = {
        "metric": "elbo", "unit": "nats per image", "value": 1.2, "lower": 0.8, "upper": 1.6,
        "model": "/a/model/3", "version": 17,
    }  # fmt: skip
    text = " ".join(Reader(page(folder, section(gain=gain))).text)
    assert "elbo +1.2 [+0.8, +1.6] against version 17, in nats per image." in text
    assert "against production" in text
    assert "against production" not in " ".join(Reader(page(folder, section())).text)


def test_where_a_training_started_is_told(folder: pathlib.Path) -> None:
    assert "warm, from the weights of" in page(folder, section(warm_start={"base": "/a/model/3"}))
    assert "cold: no model" in page(folder, section(warm_start={"why_cold": "no model"}))
