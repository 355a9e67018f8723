"""What renders the templates of pages; free of TFX, so that a run that fails at once has its page at once."""

import pathlib

import jinja2

TEMPLATES = pathlib.Path(__file__).parent / "templates"


def environment() -> jinja2.Environment:
    """Return an environment that escapes every text, and to which an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
