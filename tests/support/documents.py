"""The commands that documents show: in blocks of code, in units and crontabs, and in the text itself.

A block of the language `sh`, or of none, holds commands, one per line; where lines begin with `$ `, only
those are commands and the rest is what they print. Blocks of output alone are marked `text`.
"""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "NIGHTS"),
)
"""All documents but the transcript of `make nights`, which a program writes."""
PROGRAMS = (
    "latentline",
    "make",
    "tfx",
    "python",
    "pytest",
    "tensorboard",
    "kubectl",
    "docker",
    "saved_model_cli",
)
"""What the commands in the text are found by."""
INSTALLED = "/opt/latentline/.venv/bin/latentline"
"""What the commands in units, crontabs and the files of monitors are found by."""


class Block(NamedTuple):
    """A block of code: its language, which may be empty, and its text."""

    language: str
    text: str


def text(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\S*)\n(.*?)^```", text(document), re.M | re.S)]


def shown(document: str) -> list[str]:
    """The commands in a document's blocks, in their order, each once."""
    found = []
    for block in blocks(document):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language in ("", "sh", "console"):
            prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            found += prompted or [line for line in lines if line and not line.startswith("#")]
        else:
            found += [line[line.index(INSTALLED) :] for line in lines if INSTALLED in line]
    return list(dict.fromkeys(tidy(line) for line in found))


def of_a_cluster() -> list[str]:
    """The commands that a cluster is for, each once: README's, then those of the cluster's own page."""
    first = [line for line in shown("README.md") if line.startswith("python kubeflow/")]
    return list(dict.fromkeys([*first, *shown("docs/KUBEFLOW.md")]))


def mentioned(document: str) -> list[str]:
    """The commands in a document's text that have arguments, each once."""
    prose = re.sub(r"^```.*?^```", "", text(document), flags=re.M | re.S)
    spans = [tidy(span) for span in re.findall(r"`([^`]+)`", prose)]
    return list(
        dict.fromkeys(
            span for span in spans if pathlib.Path(span.split()[0]).name in PROGRAMS and " " in span
        )
    )


def tidy(line: str) -> str:
    """A command without its comment and superfluous space."""
    return " ".join(re.sub(r"\s#\s.*", "", line).split())
