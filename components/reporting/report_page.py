"""The report as one HTML page: pictures, style and script inside, nothing loaded from anywhere."""

import base64
import hashlib
import json
import math
import os
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup
from tfx.dsl.io import fileio

from components.evaluation.eval_config import HEADLINE
from components.reporting import display
from schemas.records import Gain, Metric

TEMPLATES = pathlib.Path(__file__).parent / "templates"
TEMPLATE = "report.html.j2"
MIME = {".png": "image/png", ".gif": "image/gif"}
SIGNS = {"better": "▲", "worse": "▼", "within noise": "≈"}
"""Said beside the word, so that no colour is needed to tell verdicts apart."""


def version() -> str:
    """A hash of the templates, which TFX's cache does not see."""
    digest = hashlib.sha256()
    for path in sorted(TEMPLATES.glob("*.j2")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def render(page: Mapping[str, Any], folder: str) -> str:
    """The page's HTML.

    page: `made`, `sections` (row, gallery, by_label, card and links of a variant each), rows of what
    `failed`, `metrics` and their `units`, `data`, `anomalies`, `drift` (None where nothing was compared),
    `links` and `previous`, as components.reporting.leaderboard puts them together.
    folder: what the pictures' files are relative to. Every text is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        interval=lambda metric: display.interval(Metric(**metric)),
        gain=lambda gain: display.gain(Gain(**gain)),
        against=lambda gain: display.against(Gain(**gain)),
        count=display.count,
        seconds=display.seconds,
        words=lambda name: name.replace("_", " "),
        compact=lambda value: json.dumps(value, sort_keys=True),
        sortable=sortable,
        link=link,
    )
    environment.globals.update(signs=SIGNS, headline=headline, picture=lambda file: data_uri(folder, file))
    return environment.get_template(TEMPLATE).render(page)


def headline(row: Mapping[str, Any]) -> list[str]:
    """The metrics that a variant of this family is judged by, as far as they were measured."""
    families = ("generative", "classifier") if row["family"] == "both" else (row["family"],)
    return [HEADLINE[family] for family in families if HEADLINE[family] in row["metrics"]]


def data_uri(folder: str, file: str) -> str:
    """A picture of `folder` as the text that stands for it in a page."""
    with fileio.open(os.path.join(folder, file), "rb") as opened:
        content = base64.b64encode(opened.read()).decode()
    return f"data:{MIME[os.path.splitext(file)[1]]};base64,{content}"


def sortable(value: float | None) -> str:
    """What a cell is sorted by: a number, or nothing where there is none."""
    return "" if value is None or math.isnan(value) else repr(value)


def link(place: str) -> Markup:
    """A local folder as a link that a browser follows from a page on the same disk; other places as text."""
    shown = Markup("<code>{}</code>").format(place)
    if not os.path.isabs(place):
        return shown
    return Markup('<a href="{}">{}</a>').format(f"file://{urllib.parse.quote(place)}", shown)
