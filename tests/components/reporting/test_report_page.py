import dataclasses
import html.parser
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from components.ingest import sources
from components.reporting import environment, page, report_page, words
from components.reporting.panels import Subject
from schemas.records import Change, Gain, Metric, Row, Status, Training, Verdict

Subjects = Callable[..., Subject]
TRAINING = Training(
    family="generative", dataset="mnist", protocol="threshold", profile="quick", seed=0, steps=3000,
    batch_size=32, parameters=69_989, examples=60_000, importance_samples=5, train_seconds=41.0,
    step_seconds=40.0, images_per_second=2_400.0, summary="A model.",
)  # fmt: skip
BETTER = Change("elbo", -164.0, "smoke", 60, 4.07, 0.8, Verdict.BETTER)
UNIT = "nats per image"


def row(variant: str = "cvae", value: float = -155.93, **changes: Any) -> Row:
    training = {key: changes.pop(key) for key in ("family", "dataset", "summary", "config") if key in changes}
    metrics = {"elbo": Metric(value, value - 0.6, value + 0.6, UNIT)}
    facts = {"status": Status.PUSHED, "metrics": metrics, "pushed_version": 17, **changes}
    return Row(variant=variant, training=dataclasses.replace(TRAINING, **training), **facts)


def gain(value: float, half: float = 0.4) -> Gain:
    return Gain(value, value - half, value + half, UNIT, "elbo", "/a/model/3", 17)


def classifier(variant: str = "mlp", value: float = 0.97, **changes: Any) -> Row:
    metrics = {"accuracy": Metric(value, value - 0.004, value + 0.004, "fraction")}
    return row(variant, family="classifier", **{"metrics": metrics, **changes})


class Reader(html.parser.HTMLParser):
    """Collects the tags of a page, and complains of ones that do not close."""

    VOID = ("meta", "link", "img", "br", "input", "wbr")

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

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def rendered(
    about: page.About, subjects: Sequence[Subject], failed: Sequence[Row] = (), **changes: Any
) -> str:
    return report_page.render(page.view(subjects, failed, about._replace(**changes)))


def read(*arguments: Any, **changes: Any) -> Reader:
    return Reader(rendered(*arguments, **changes))


def test_the_page_needs_no_other_file_and_links_are_relative(subject: Subjects, about: page.About) -> None:
    text = rendered(about, [subject(row()), subject(classifier())])
    for tag, attributes in Reader(text).tags:
        assert tag not in ("iframe", "object", "base")
        assert (attributes.get("src") or "data:").startswith("data:")
        if tag in ("link", "a"):
            href = str(attributes["href"])
            assert href == "data:," or not re.match(r"/|[a-z]+:", href), href
        if tag == "script":
            assert "src" not in attributes
    assert all(found.startswith("data:image/png") for found in re.findall(r"url\(([^)]*)\)", text))
    assert "file:" not in text
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.parametrize(
    ("rows", "failed", "title"),
    [
        ([row()], [], "cvae goes to production."),
        ([row(status=Status.REFUSED, why_not="it is worse")], [], "cvae was refused."),
        ([row(status=Status.BLESSED)], [], "cvae was accepted, and production stays as it is."),
        ([], ["aae"], "aae failed."),
        ([row(), row("aae")], [], "Both models go to production."),
        ([row(str(i)) for i in range(16)], [], "All sixteen models go to production."),
        ([row(str(i)) for i in range(40)], [], "All 40 models go to production."),
        (
            [row(), row("aae", status=Status.REFUSED)], ["mlp"],
            "One of three models goes to production. aae is refused and mlp failed.",
        ),
        (
            [row(str(i), status=Status.REFUSED) for i in range(3)], [],
            "No model goes to production. Three are refused.",
        ),
        (
            [row(), *(row(name, status=Status.REFUSED) for name in "ab"), row("c", status=Status.BLESSED)],
            ["d", "e"],
            "One of six models goes to production. c was accepted without a new version, two are refused, "
            "and two failed.",
        ),
    ],
)  # fmt: skip
def test_the_verdict_is_a_sentence(rows: list[Row], failed: list[str], title: str) -> None:
    lost = [Row(name, Status.FAILED, why_not="no disk") for name in failed]
    assert words.headline(rows, lost) == title


def test_the_header_names_data_set_counts_protocol_and_seed(subject: Subjects, about: page.About) -> None:
    text = read(about, [subject(row())]).words
    assert "mnist 60 000 train 10 000 test threshold profile quick seed 0" in text


def test_the_embedded_digits_are_marked_as_a_demonstration(subject: Subjects, about: page.About) -> None:
    assert sources.DEMONSTRATION in read(about, [subject(row(dataset="digits"))]).words
    assert "demonstration" not in read(about, [subject(row())]).words


def test_figures_come_with_interval_and_unit(subject: Subjects, about: page.About) -> None:
    text = read(about, [subject(row()), subject(classifier())]).words
    assert f"{words.MINUS}155.9 ±0.6" in text
    assert "97.0 ±0.4" in text
    assert "no anomalies" in text


def test_a_row_has_one_verdict_and_noise_is_never_called_worse(subject: Subjects, about: page.About) -> None:
    change = dataclasses.replace(BETTER, verdict=Verdict.WORSE, change=-4.0)
    text = read(about, [subject(row(gain=gain(-0.1), change=change))]).words
    assert "not distinguishable" not in text  # it is in the tip of the row
    assert "Within noise: cvae" in text
    assert "▼" not in text
    assert "since the last run" not in text
    tips = [
        str(a["data-tip"])
        for _, a in Reader(rendered(about, [subject(row(gain=gain(-0.1)))])).tags
        if "data-tip" in a
    ]
    assert any("not distinguishable from production" in tip for tip in tips)


def test_without_production_the_change_since_the_last_run_is_the_verdict(
    subject: Subjects, about: page.About
) -> None:
    text = read(about, [subject(row(change=BETTER))]).words
    assert "▲ +4.1 ±0.8 nats" in text
    assert "There was no model in production to compare with." in text


def test_why_a_model_is_refused_is_at_the_top_and_in_its_section(
    subject: Subjects, about: page.About
) -> None:
    why = "elbo -300 is below the floor -200"
    refused = row("bad", status=Status.REFUSED, why_not=why, pushed_version=None)
    text = read(about, [subject(row()), subject(refused)]).words
    assert f"bad was refused: {why}." in text
    assert f"Refused: {why}" in text


@pytest.mark.parametrize("subjects", [0, 1])
def test_a_variant_that_failed_has_an_open_section_with_its_reason(
    subjects: int, subject: Subjects, about: page.About
) -> None:
    failed = [
        Row("iwae", Status.FAILED, why_not="the loss <is> not finite"), Row("aae", Status.FAILED, why_not=""),
    ]  # fmt: skip
    text = rendered(about, [subject(row())] * subjects, failed)
    assert "the loss &lt;is&gt; not finite" in text
    assert "the log of the run says why" in text
    sections = [a for tag, a in Reader(text).tags if tag == "details" and a.get("id") in ("iwae", "aae")]
    assert ["open" in section for section in sections] == [True, False]


def test_text_from_outside_is_escaped(subject: Subjects, about: page.About) -> None:
    evil = '<script>alert("x")</script>'
    hostile = subject(
        row(
            evil, dataset=evil, why_not=evil, status=Status.REFUSED, summary=evil, config={"a": evil},
        )
    )  # fmt: skip
    index = {"pictures": [{"title": evil, "file": evil, "caption": evil}], "left_out": {evil: evil}}
    failed = [Row(f"{evil}2", Status.FAILED, why_not=evil)]
    text = rendered(about, [hostile._replace(gallery=index)], failed, made=evil, anomalies=evil, drift=[evil])
    scripts = [a for tag, a in Reader(text).tags if tag == "script"]
    assert [a.get("type") for a in scripts] == [None, "application/json", None]  # the page's own
    assert evil not in text
    assert "alert(" in text


def test_a_value_that_is_not_a_number_is_drawn_nowhere(subject: Subjects, about: page.About) -> None:
    nan = Metric(math.nan, math.nan, math.nan, UNIT)
    text = rendered(about, [subject(row()), subject(row("broken", metrics={"elbo": nan}))])
    assert 'cx="nan' not in text
    assert "nan%" not in text
    embedded = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert embedded
    json.loads(embedded[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_variants_without_pictures_have_their_rows(subject: Subjects, about: page.About) -> None:
    bare = subject(row(), pictures=False)
    bare = bare._replace(gallery={"pictures": [], "left_out": {"Pictures": "the disk is full"}}, record={})
    text = read(about, [bare]).words
    assert f"{words.MINUS}155.9 ±0.6" in text
    assert "Left out: Pictures; the disk is full." in text
    assert "Latent space" not in text


@pytest.mark.parametrize("count", [1, 2, 4, 16, 40])
def test_pages_of_any_number_of_variants_hold_every_row(
    count: int, subject: Subjects, about: page.About
) -> None:
    made = [subject(row(f"v{i}", -100.0 - i), pictures=i < 4) for i in range(count)]
    text = rendered(about, made)
    ids = [a["id"] for tag, a in Reader(text).tags if tag == "details" and "id" in a]
    assert ids == [f"v{i}" for i in range(count)]
    assert len(text) < 3_000_000
    assert ("Filter" in Reader(text).words) == (count >= page.FILTER_FROM)


def test_the_version_follows_every_template(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    before = report_page.version()
    for source in environment.TEMPLATES.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(report_page, "TEMPLATES", tmp_path)
    assert report_page.version() == before
    seen = {before}
    for copy in sorted(tmp_path.iterdir()):
        copy.write_text(copy.read_text() + "\n")
        seen.add(report_page.version())
    assert len(seen) == 1 + len(list(tmp_path.iterdir()))


def test_drift_and_anomalies_are_said_at_the_top(subject: Subjects, about: page.About) -> None:
    assert "drift was not compared" in read(about, [subject(row())]).words
    assert "no drift" in read(about, [subject(row())], drift=[]).words
    found = rendered(about, [subject(row())], drift=["labels <of> the eval split have drifted"])
    assert "labels &lt;of&gt; the eval split have drifted." in found
    assert "Anomalies in the data: a|b." in read(about, [subject(row())], anomalies="a|b").words


def test_what_the_gate_warns_of_is_said_at_the_top_with_the_model_that_it_is_about(
    subject: Subjects, about: page.About
) -> None:
    warned = row("aae", warnings=("unusual gain: elbo +90 <nats>", "the anchor's own elbo has fallen"))
    text = rendered(about, [subject(row()), subject(warned)])
    top = text[: text.index('class="out"')]
    assert '<a href="#aae">aae</a>: unusual gain: elbo +90 &lt;nats&gt;.' in top
    assert "own elbo has fallen." in top
    assert "bad-news" not in rendered(about, [subject(row())]).partition("</style>")[2]


def test_where_a_training_started_is_said(subject: Subjects, about: page.About) -> None:
    for start, said in (
        ({"base": "/a/model/3"}, "warm, from the weights in production"),
        ({"why_cold": "no model"}, "cold: no model"),
    ):
        entry = row()
        entry = dataclasses.replace(entry, training=dataclasses.replace(entry.trained, warm_start=start))
        assert said in read(about, [subject(entry)]).words


def test_a_page_that_cannot_be_drawn_still_has_the_figures() -> None:
    text = report_page.plain("| cvae | <b> |", "it could not be drawn (OSError: disk)")
    assert "&lt;b&gt;" in text
    assert "OSError: disk" in text
    Reader(text.replace("<meta charset=utf-8>", ""))
