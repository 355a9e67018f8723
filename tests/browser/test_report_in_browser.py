"""The report as a reader sees it: in a browser, from disk.

With SCREENSHOTS=FOLDER in the environment, a picture of every page, size and colour scheme is left there.
"""

import io
import itertools
import os
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

DESKTOP, PHONE = (1280, 900), (390, 844)
LONG = "a_variant_with_quite_a_long_name"
NAMES = ("0", "1", "4", "16", "failed")
Pages = dict[str, pathlib.Path]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", NAMES)
def test_the_page_loads_whole_and_without_complaint(
    tab: Any, pages: Pages, name: str, size: tuple[int, int], scheme: str
) -> None:
    tab.requests.clear()
    tab.open(pages[name], *size, scheme)
    loaded = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert all(width > 0 for width in loaded)
    assert (name in ("0", "failed")) == (loaded == [])
    assert tab.errors == []
    outside = [url for url in tab.requests if not url.startswith(("data:", pages[name].as_uri()))]
    assert outside == []
    if folder := os.environ.get("SCREENSHOTS"):
        path = pathlib.Path(folder, f"{name}-{size[0]}-{scheme}.png")
        path.write_bytes(tab.screenshot())


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 700)])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_window(tab: Any, pages: Pages, name: str, size: tuple[int, int]) -> None:
    tab.open(pages[name], *size)
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    wide = tab.evaluate(
        "[...document.querySelectorAll('main *, footer *')]"
        ".filter(part => !part.closest('.scroll, svg, .plane, pre, .f, .skip, .vh'))"
        ".filter(part => part.getBoundingClientRect().right > innerWidth + 1)"
        ".map(part => part.outerHTML.slice(0, 80))"
    )
    assert wide == []


COLUMN = (
    "[...document.querySelectorAll('.sortable')][{table}]"
    ".querySelectorAll('tbody tr').values().map(row => row.cells[0].textContent.trim()).toArray()"
)


def click(tab: Any, heading: str) -> None:
    tab.evaluate(
        "[...document.querySelectorAll('.sortable thead button')]"
        f".find(button => button.textContent === {heading!r}).click()"
    )


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(tab: Any, pages: Pages) -> None:
    tab.open(pages["4"], *DESKTOP)
    column = COLUMN.format(table=0)
    assert tab.evaluate(column) == ["slow", "cvae", LONG, "iwae"]  # the best first, what failed last
    click(tab, "training")
    assert tab.evaluate(column) == ["slow", "cvae", LONG, "iwae"]  # by number, not by text
    click(tab, "training")
    assert tab.evaluate(column) == [LONG, "cvae", "slow", "iwae"]  # what has no value stays last
    click(tab, "against production")
    assert tab.evaluate(column)[:2] == ["cvae", "slow"]
    assert tab.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert tab.errors == []


def drawn(tab: Any, canvas: str) -> str:
    """What is on a canvas, as a data URI; empty for nothing."""
    return str(
        tab.evaluate(
            "(c => { const blank = document.createElement('canvas');"
            " blank.width = c.width; blank.height = c.height;"
            " return c.toDataURL() === blank.toDataURL() ? '' : c.toDataURL(); })"
            f"(document.querySelector({canvas!r}))"
        )
    )


def fill(tab: Any, selector: str, value: str, event: str) -> None:
    """Give a control a value as a reader would."""
    tab.evaluate(
        f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event({event!r})); }})"
        f"(document.querySelector({selector!r}))"
    )


def press(tab: Any, key: str) -> None:
    tab.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    tab.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_the_latent_plane_follows_pointer_and_keys(tab: Any, pages: Pages) -> None:
    tab.open(pages["16"], *DESKTOP)
    tab.evaluate("Promise.all([...document.querySelectorAll('#latent img')].map(i => i.decode()))")
    tab.evaluate("document.querySelector('.plane').scrollIntoView({block: 'center'})")
    tab.evaluate("document.querySelector('.plane').focus()")
    seen = {drawn(tab, "#morph")}
    for key in ("ArrowLeft", "ArrowDown", "ArrowRight"):
        for _ in range(5):
            press(tab, key)
        seen.add(drawn(tab, "#morph"))
    assert len(seen) == 4
    assert drawn(tab, "#near")
    assert drawn(tab, "#rebuilt")
    before = tab.evaluate("document.querySelector('#m-text').textContent")
    assert "Nearest test image" in before
    corner = tab.evaluate(
        "(r => [r.left + 20, r.top + 20])(document.querySelector('.plane').getBoundingClientRect())"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=corner[0], y=corner[1])
    assert tab.evaluate("document.querySelector('#m-text').textContent") != before
    names = tab.evaluate("[...document.querySelector('#pick').options].map(option => option.value)")
    assert names == [f"vae_{i}" for i in range(8)]  # the best eight
    fill(tab, "#pick", "vae_1", "change")
    assert "principal components" in tab.evaluate("document.querySelector('#m-text').textContent")
    shown = tab.evaluate(
        "[...document.querySelectorAll('.plane > img:not([hidden])')].map(i => i.dataset.name)"
    )
    assert shown == ["vae_1"]
    assert tab.errors == []


def test_the_wall_shows_a_digit_large_and_samples_through_training(tab: Any, pages: Pages) -> None:
    tab.open(pages["4"], *DESKTOP)
    tab.evaluate("Promise.all([...document.querySelectorAll('.digits img')].map(i => i.decode()))")
    tab.evaluate("new Promise(done => setTimeout(done, 200))")
    tab.evaluate("document.querySelectorAll('.hit button')[13].focus()")
    assert tab.evaluate("document.querySelector('#c-title').textContent") == "cvae, image 4"
    for pane in range(1, 5):
        assert drawn(tab, f".card figure:nth-of-type({pane}) canvas")
    for mode in ("now", "prod", "diff", "film"):
        tab.evaluate(f"document.querySelector('#mode button[value={mode}]').click()")
        assert tab.evaluate("document.querySelector('.wall').dataset.mode") == mode
    place = "getComputedStyle(document.querySelector('.f img')).transform"
    places = []
    for moment in (0, 5, 11):
        fill(tab, "#moment", str(moment), "input")
        places.append(tab.evaluate(place))
    assert len(set(places)) == 3
    assert tab.evaluate("document.querySelector('#moment-text').textContent") == "100 % of the steps"
    assert tab.errors == []


def test_groups_are_one_tab_stop_with_arrow_keys_inside(tab: Any, pages: Pages) -> None:
    tab.open(pages["16"], *DESKTOP)
    tab.evaluate("new Promise(done => setTimeout(done, 300))")
    stops = tab.evaluate(
        "[...document.querySelectorAll('a, button, input, select, summary, [tabindex]')]"
        ".filter(part => part.tabIndex >= 0 && part.checkVisibility()).length"
    )
    assert stops <= 60  # of some 400 things to reach
    tab.evaluate("document.querySelector('.rank ol a').focus()")
    press(tab, "ArrowDown")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#vae_1"
    press(tab, "End")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#vae_8"
    assert (
        tab.evaluate("document.querySelectorAll('.rank ol')[0].querySelectorAll('[tabindex=\"0\"]').length")
        == 1
    )


def test_a_curve_reads_values_by_arrow_keys(tab: Any, pages: Pages) -> None:
    tab.open(pages["4"], *DESKTOP)
    tab.evaluate("document.querySelector('#curves [data-panel]').focus()")
    press(tab, "ArrowLeft")
    assert "at step" in tab.evaluate("document.querySelector('#tip').textContent")
    press(tab, "Escape")
    assert not tab.evaluate("document.querySelector('#tip').classList.contains('on')")


def test_a_link_opens_the_section_it_leads_to(tab: Any, pages: Pages) -> None:
    tab.open(pages["16"], *DESKTOP)
    tab.evaluate("document.querySelector('.rank ol a').click()")
    assert tab.evaluate("document.getElementById('vae_0').open")
    fill(tab, "#filter", "mlp_3", "input")
    shown = tab.evaluate("[...document.querySelectorAll('.v')].filter(d => !d.hidden).map(d => d.id)")
    assert shown == ["mlp_3"]


def test_controls_pictures_and_tables_have_names_and_headings_have_an_order(tab: Any, pages: Pages) -> None:
    tab.open(pages["16"], *DESKTOP)
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    nameless = tab.evaluate(
        "[...document.querySelectorAll('a, button, select, input, summary')]"
        ".filter(part => !(part.ariaLabel || part.textContent.trim() || part.labels?.length))"
        ".map(part => part.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    assert tab.evaluate("[...document.images].every(image => image.hasAttribute('alt'))")
    unnamed = "[...document.querySelectorAll('[role=img], [role=region], [role=group]')]"
    assert tab.evaluate(f"{unnamed}.every(part => part.ariaLabel)")
    assert tab.evaluate("[...document.querySelectorAll('th')].every(cell => cell.scope)")
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels) if before < 3)
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(part => part.id)")
    assert len(ids) == len(set(ids))


def test_without_script_everything_is_drawn_and_idle_buttons_are_hidden(tab: Any, pages: Pages) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(pages["4"], *DESKTOP)
        shown = "[...document.querySelectorAll({what!r})].filter(part => part.checkVisibility()).length"
        for what in ("h1", ".rrow .dot", ".wrow img.n", ".plane .pts", ".cv path", ".v"):
            assert tab.evaluate(shown.format(what=what)) > 0, what
        assert tab.evaluate(shown.format(what=".needs-js")) == 0
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(tab: Any, pages: Pages, scheme: str) -> None:
    tab.open(pages["4"], *DESKTOP, scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    pairs = tab.evaluate(
        """[...document.querySelectorAll('h1, h2, h3, p, td, th, small, a, li > span, summary, code, dt')]
        .filter(part => part.checkVisibility())
        .map(part => {
          let behind = part;
          const back = () => getComputedStyle(behind).backgroundColor;
          while (back() === 'rgba(0, 0, 0, 0)' && behind.parentElement) behind = behind.parentElement;
          return [getComputedStyle(part).color, back()];
        })"""
    )
    assert len(pairs) > 100
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


def test_dark_and_light_differ_and_the_first_screen_is_not_empty(tab: Any, pages: Pages) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        tab.open(pages["16"], *DESKTOP, scheme)
        shown = np.asarray(Image.open(io.BytesIO(tab.screenshot(whole=False))).convert("L"), float)
        assert shown.std() > 10
        brightness[scheme] = np.median(shown)
    assert brightness["light"] > 200 > 60 > brightness["dark"]
    tab.evaluate("document.querySelector('#theme').click()")  # from auto to light
    shown = np.asarray(Image.open(io.BytesIO(tab.screenshot(whole=False))).convert("L"), float)
    assert np.median(shown) > 200
    tab.evaluate("localStorage.removeItem('latentline-theme')")


def test_sixteen_variants_weigh_at_most_5_mb(pages: Pages) -> None:
    assert pages["16"].stat().st_size <= 5_000_000
