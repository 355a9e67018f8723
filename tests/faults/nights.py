"""Ten nights of retraining, some of them bad: a transcript of what an operator would read in the morning.

    python tests/faults/nights.py [--data mnist|digits] [--home FOLDER] [--page FILE]

Each night brings a span, which `latentline run --spans 1` is then given, as cron would. One span has wrong
labels, one is inverted, one is cut short, one is empty; then comes a good one, every time.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import platformdirs

from components.ingest import idx, sources
from schemas import CLASSES, SIDE, TEST_SPLIT, TRAIN_SPLIT

PREFIX = {TRAIN_SPLIT: "train", TEST_SPLIT: "t10k"}
SIZES = {TRAIN_SPLIT: 6_000, TEST_SPLIT: 1_000}
FURTHEST = 2
"""Pixels that an image is moved by where there are too few images for ten spans."""

Pair = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What a night brings: a phrase for it, and what was done to its images and labels; None: no file."""

    what: str
    spoil: Callable[[Pair], Pair] | None = lambda pair: pair
    cut: bool = False
    good: bool = True


def wrong_labels(pair: Pair) -> Pair:
    """Every label is the next digit's, in training and test alike."""
    return pair[0], ((pair[1] + 1) % CLASSES).astype(np.uint8)


def inverted(pair: Pair) -> Pair:
    """Black on white."""
    return 255 - pair[0], pair[1]


NORMAL = Delivery("as usual")
NIGHTS = (
    NORMAL,
    NORMAL,
    Delivery("every label is that of the next digit, in both splits", wrong_labels, good=False),
    NORMAL,
    Delivery("black on white instead of white on black", inverted, good=False),
    NORMAL,
    Delivery("the file of training images is cut short", cut=True, good=False),
    NORMAL,
    Delivery("the folder is empty", None, good=False),
    NORMAL,
)


@dataclasses.dataclass(frozen=True)
class Morning:
    """What one night left: its delivery, what `run` and `status` printed, and their exit codes."""

    span: int
    delivery: Delivery
    code: int
    out: str
    err: str
    seconds: float
    status: Mapping[str, Any]
    status_code: int
    status_text: str


def deliver(folder: pathlib.Path, span: int, delivery: Delivery, images: Mapping[str, idx.Images]) -> None:
    """Write the span's folder as the delivery has it."""
    target = folder / f"span-{span}"
    target.mkdir(parents=True)
    if delivery.spoil is None:
        return
    for split, prefix in PREFIX.items():
        pixels, labels = delivery.spoil(part(images[split], span, SIZES[split]))
        idx.write(str(target / f"{prefix}-images-idx3-ubyte"), pixels)
        idx.write(str(target / f"{prefix}-labels-idx1-ubyte"), labels)
    if delivery.cut:
        path = target / f"{PREFIX[TRAIN_SPLIT]}-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def part(pair: idx.Images, span: int, size: int) -> Pair:
    """The images and labels of one span: the next ones, or moved copies where there are not enough."""
    count = len(pair.labels)
    if count >= len(NIGHTS) * size:
        chosen = slice((span - 1) * size, span * size)
        return pair.images[chosen], pair.labels[chosen]
    draw = np.random.default_rng(span)
    found = draw.integers(count, size=count)
    padded = np.pad(pair.images, [(0, 0), (FURTHEST, FURTHEST), (FURTHEST, FURTHEST)])
    moves = draw.integers(2 * FURTHEST + 1, size=[count, 2])
    moved = [padded[i, y : y + SIDE, x : x + SIDE] for i, (y, x) in zip(found, moves, strict=True)]
    return np.stack(moved), pair.labels[found]


def nights(home: pathlib.Path, images: Mapping[str, idx.Images], options: list[str]) -> Iterator[Morning]:
    """Live through them; options: of `latentline run`, beside --data, --spans and --home."""
    spans = home / "spans"
    run = ["run", "--data", str(spans), "--spans", "1", "--home", str(home / "out"), *options]
    for span, delivery in enumerate(NIGHTS, 1):
        deliver(spans, span, delivery, images)
        started = time.perf_counter()
        done = latentline(*run)
        seconds = time.perf_counter() - started
        told = latentline("status", "--home", str(home / "out"))
        status = latentline("status", "--home", str(home / "out"), "--json")
        yield Morning(
            span, delivery, done.returncode, done.stdout, done.stderr, seconds,
            json.loads(status.stdout), told.returncode, told.stdout,
        )  # fmt: skip


def latentline(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as a process of its own."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def transcript(mornings: list[Morning], options: list[str], home: pathlib.Path) -> str:
    """A page of what was printed; lines of components that went well are left out."""

    def block(lines: list[str]) -> list[str]:
        shown = [line.replace(str(home), "").rstrip() for line in lines if not line.startswith("+ ")]
        return ["```text", *"\n".join(shown).strip("\n").split("\n"), "```", ""]

    page = [
        "# Ten nights",
        "",
        "Written by `make nights PAGE=docs/NIGHTS.md`. Each night brought a span of 6,000 training and 1,000",
        f"test images of MNIST, and `latentline run --data spans --spans 1 {' '.join(options)}`",
        "was started, then `latentline status`. Lines of components that went well are left out.",
        "",
    ]
    for morning in mornings:
        page += [
            f"## Night {morning.span}: {morning.delivery.what}",
            "",
            f"`latentline run`: exit {morning.code}, {morning.seconds:.0f} s",
            "",
            *block([*morning.out.splitlines(), *morning.err.splitlines()]),
            f"`latentline status`: exit {morning.status_code}",
            "",
            *block(morning.status_text.splitlines()),
        ]
    return "\n".join(page).rstrip() + "\n"


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=("mnist", "digits"))
    parser.add_argument("--home", type=pathlib.Path, default=pathlib.Path("out/nights"))
    parser.add_argument("--variants", default="mlp,vae_dense")
    parser.add_argument("--page", type=pathlib.Path, help="write the transcript to this file")
    given = parser.parse_args(arguments)
    options = ["--variants", given.variants, "--profile", "quick"]
    home = given.home.resolve()
    mornings = []
    for morning in nights(home, images_of(given.data), options):
        mornings.append(morning)
        print(f"night {morning.span}: {morning.delivery.what}: exit {morning.code}", flush=True)
    text = transcript(mornings, options, home)
    if given.page:
        given.page.write_text(text)
    else:
        print(text)


def images_of(name: str) -> Mapping[str, idx.Images]:
    """The images that the spans are cut from, by split."""
    if name == "digits":
        return sources.digits()
    cache = pathlib.Path(platformdirs.user_cache_dir("latentline"))
    dataset = sources.locate(name, environment=os.environ, cache=cache, report=print)
    return {split: idx.read_pair(*idx.find_pair(dataset.folder, prefix)) for split, prefix in PREFIX.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
