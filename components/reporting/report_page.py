"""Render the report as one HTML page: pictures, style and script inside, nothing loaded from anywhere."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from tfx.dsl.io import fileio

from components.reporting.environment import TEMPLATES, environment
from components.reporting.words import thousands
from schemas.records import Verdict

TEMPLATE = "report.html.j2"
SIGNS = {Verdict.BETTER: "▲", Verdict.WORSE: "▼", Verdict.SAME: "≈"}
"""Shown beside the word, so that no colour is needed to tell verdicts apart."""


def version() -> str:
    """Return a hash of the templates, which TFX's cache does not see."""
    digest = hashlib.sha256()
    for path in sorted(TEMPLATES.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def render(view: Mapping[str, Any]) -> str:
    """Return the page's HTML.

    view: as components.reporting.page.view arranges it. Every text is escaped.
    """
    rendering = environment()
    rendering.filters.update(
        half=half,
        json=script_json,
        thousands=thousands,
        compact=lambda value: json.dumps(value, sort_keys=True),
    )
    return rendering.get_template(TEMPLATE).render(view)


def plain(table: str, reason: str) -> str:
    """Return a page with the leaderboard as text, for a run whose page cannot be drawn for this reason."""
    return Markup(
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>latentline report</title>"
        "<h1>The report page is missing: {}</h1><p>The run itself is complete; these are its figures.</p>"
        "<pre>{}</pre></html>"
    ).format(reason, table)


def half(text: str) -> Markup:
    """Return a figure with what follows its ± in small type."""
    value, sign, rest = text.partition(" ±")
    return Markup('{} <small class="mute">±{}</small>').format(value, rest) if sign else Markup.escape(text)


def script_json(value: Any) -> Markup:
    """Return JSON that stays within the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def data_uri(folder: str, file: str) -> str:
    """Return a PNG of `folder` as the text that stands for it in a page."""
    with fileio.open(os.path.join(folder, file), "rb") as opened:
        return f"data:image/png;base64,{base64.b64encode(opened.read()).decode()}"
