"""The report as a reader sees it: in a browser, from disk."""

import io
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.evaluation.metrics import UNITS
from components.reporting import figures, leaderboard, model_card, report_page
from schemas import SIDE
from schemas.records import Row

DESKTOP, PHONE = (1280, 900), (360, 780)
LABELS = [str(label) for label in range(10)]
LONG = "a_variant_with_quite_a_long_name"


def metric(name: str, value: float, half: float) -> dict[str, dict[str, Any]]:
    return {name: {"value": value, "lower": value - half, "upper": value + half, "unit": UNITS[name]}}


def generative(variant: str, elbo: float, **changes: Any) -> dict[str, Any]:
    metrics = metric("elbo", elbo, 0.6) | metric("rate", 5.3, 0.02) | metric("active_units", 2, 0)
    return row(variant, "generative", metrics, **changes)


def row(variant: str, family: str, metrics: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "variant": variant, "family": family, "dataset": "mnist", "protocol": "threshold",
        "profile": "quick", "seed": 0, "steps": 3000, "batch_size": 32, "parameters": 69_989,
        "examples": 60_000, "importance_samples": 5, "train_seconds": 41.0, "step_seconds": 40.0,
        "images_per_second": 2_400.0, "metrics": metrics, "blessed": True, "why_not": "",
        "pushed_version": 17, "config": {"objective": "elbo " * 40}, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A page over four variants with pictures of every shape."""
    folder = tmp_path_factory.mktemp("report")
    ink = np.random.default_rng(0).random([20, 20, SIDE, SIDE])
    pictures = {
        "manifold.png": figures.manifold(ink, np.linspace(0.05, 0.95, 20), "x", "y"),
        "interpolation.png": figures.tiles(ink[:5, :13], rows=list("abcde")),
        "training.gif": figures.animation(np.zeros([3, 25, SIDE, SIDE], np.uint8), [1, 2, 3]),
    }
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    slow = generative("slow", -101.25, train_seconds=3_700.0, steps=40_000)
    refused = generative(LONG, -230.0, blessed=False, why_not="elbo -230 is below the floor -205 " * 3)
    rows = [
        generative("cvae", -155.9),
        row("mlp", "classifier", metric("accuracy", 0.97, 0.004), train_seconds=2.5, steps=900),
        slow,
        refused,
    ]
    sections = []
    for entry in rows:
        before = generative(entry["variant"], -160.0)
        typed = leaderboard.compared(Row.from_json(entry), [Row.from_json(before)])
        entry = typed.to_json()
        shown = [
            {"file": name, "title": name, "caption": "What it shows, in a sentence."} for name in pictures
        ]
        sections.append(
            {
                "row": entry,
                "gallery": {"pictures": shown, "left_out": {}},
                "by_label": dict.fromkeys(LABELS, entry["metrics"]),
                "card": model_card.card(typed, {}, [], source="/" + "a_long_folder/" * 20),
                "links": {"SavedModel": "/" + "a_long_folder/" * 20},
            }
        )
    features = [{"name": "image", "type": "bytes", "missing": 0, "bytes": "784"}]
    labels = {label: 100 + 10 * int(label) for label in LABELS}
    page = {
        "made": "2026-01-01 00:00 UTC", "sections": sections, "failed": [],
        "metrics": leaderboard.metric_names(map(Row.from_json, rows)), "units": UNITS, "anomalies": "",
        "drift": None,
        "links": {"statistics": "/a/statistics"}, "previous": "",
        "data": [{"split": "train", "examples": 1450, "labels": labels, "features": features}],
    }  # fmt: skip
    path = folder / leaderboard.PAGE
    path.write_text(report_page.render(page, str(folder)))
    for name in pictures:
        (folder / name).unlink()  # the page has to do without them
    return path


COLUMN = "[...document.querySelectorAll('#rows tbody tr')].map(row => row.cells[0].textContent.trim())"


def click(tab: Any, heading: str) -> None:
    tab.evaluate(
        "[...document.querySelectorAll('#rows thead button')]"
        f".find(button => button.textContent === {heading!r}).click()"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_loads_whole_and_without_complaint(
    tab: Any, report: pathlib.Path, size: tuple[int, int], scheme: str
) -> None:
    tab.open(report, *size, scheme)
    loaded = tab.evaluate("[...document.querySelectorAll('figure img')].map(image => image.naturalWidth)")
    assert len(loaded) == 12
    assert min(loaded) > 0
    assert tab.errors == []
    outside = [url for url in tab.requests if not url.startswith(("data:", report.as_uri()))]
    assert outside == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 700)])
def test_nothing_is_wider_than_the_window(tab: Any, report: pathlib.Path, size: tuple[int, int]) -> None:
    tab.open(report, *size)
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    wide = tab.evaluate(
        "[...document.querySelectorAll('body *')].filter(part => !part.closest('.scroll'))"
        ".filter(part => part.getBoundingClientRect().right > innerWidth + 1)"
        ".map(part => part.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(tab: Any, report: pathlib.Path) -> None:
    tab.open(report, *DESKTOP)
    assert tab.evaluate(COLUMN) == ["cvae", "mlp", "slow", LONG]
    click(tab, "elbo")
    assert tab.evaluate(COLUMN) == [LONG, "cvae", "slow", "mlp"]  # what has no bound is last
    assert tab.evaluate("document.querySelector('[aria-sort]').textContent").startswith("elbo")
    click(tab, "elbo")
    assert tab.evaluate(COLUMN) == ["slow", "cvae", LONG, "mlp"]
    click(tab, "training")
    assert tab.evaluate(COLUMN) == ["mlp", "cvae", LONG, "slow"]  # by number, not by text
    click(tab, "variant")
    assert tab.evaluate(COLUMN) == [LONG, "cvae", "mlp", "slow"]
    assert tab.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert tab.errors == []


def test_a_picture_opens_large_and_closes(tab: Any, report: pathlib.Path) -> None:
    tab.open(report, *DESKTOP)
    tab.evaluate("document.querySelector('figure button').click()")
    assert tab.evaluate("document.querySelector('dialog').open")
    assert tab.evaluate("document.querySelector('dialog img').getBoundingClientRect().width") > 500
    tab.evaluate("document.querySelector('dialog').click()")
    assert not tab.evaluate("document.querySelector('dialog').open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(tab: Any, report: pathlib.Path, scheme: str) -> None:
    tab.open(report, *DESKTOP, scheme)
    pairs = tab.evaluate(
        """[...document.querySelectorAll('h1, h2, p, td, th, .badge, nav a, figcaption p, summary, code')]
        .map(part => {
          let behind = part;
          const back = () => getComputedStyle(behind).backgroundColor;
          while (back() === 'rgba(0, 0, 0, 0)' && behind.parentElement) behind = behind.parentElement;
          return [getComputedStyle(part).color, back()];
        })"""
    )
    for ink, paper in {tuple(pair) for pair in pairs}:
        assert contrast(ink, paper) >= 4.5, (ink, paper)  # WCAG 2.1, level AA


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two CSS colours rgb(r, g, b), 1 to 21; WCAG 2.1."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_dark_and_light_differ_and_the_first_screen_is_not_empty(tab: Any, report: pathlib.Path) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        tab.open(report, *DESKTOP, scheme)
        shown = np.asarray(Image.open(io.BytesIO(tab.screenshot(whole=False))).convert("L"), float)
        assert shown.std() > 10
        brightness[scheme] = np.median(shown)
    assert brightness["light"] > 200 > 60 > brightness["dark"]
