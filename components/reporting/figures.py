"""Draw pictures of models as PNG and GIF bytes, in one style, with colours that all readers tell apart.

Images are [..., SIDE, SIDE] with ink from 0 to 1. Nothing here touches pyplot, whose import takes a second
and whose figures outlive their use.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.gate.evidence import wilson
from schemas import SIDE

COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#555555",
)  # fmt: skip
"""One per class: the "muted" scheme of Paul Tol, which colour-blind readers tell apart."""

DOTS_PER_INCH = 110
PALETTE = 96
"""Colours of a PNG."""
BINS = 10
"""Of the reliability diagram, equally wide."""

EARLY = 0.05
"""Share of training whose values need not fit into a panel of curves."""
LINE_COLOURS = (0, 6, 3, 8, 4, 9)
FRAME_MILLISECONDS, LAST_MILLISECONDS = 150, 2000

STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "lines.linewidth": 1.6,
}

Array = npt.NDArray[Any]


class Curve(NamedTuple):
    """A term of the loss over training."""

    term: str
    held_out: bool
    steps: Array  # [T]
    values: Array  # [T]


class Bin(NamedTuple):
    """Predictions of similar confidence: their number and accuracy, with a 95 % interval."""

    images: int
    confidence: float
    accuracy: float
    lower: float
    upper: float


class Picture(NamedTuple):
    """A figure that is ready to be stored."""

    name: str  # of the file, with its ending
    title: str
    caption: str
    content: bytes


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    """Provide a matplotlib Figure of so many inches, in the shared style."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def png(figure: Any) -> bytes:
    """Draw the figure; call it inside `drawing`, whose style it takes."""
    from PIL import Image

    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    # A palette makes a file a third of the size, which matters since reports carry their pictures inside.
    picture.quantize(PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


def mosaic(images: Array, gap: int = 2) -> Array:
    """Place images [R, C, SIDE, SIDE] side by side with `gap` empty (NaN) pixels between: [height, width]."""
    rows, columns = images.shape[:2]
    step = SIDE + gap
    sheet = np.full((rows * step - gap, columns * step - gap), np.nan, np.float32)
    for row in range(rows):
        for column in range(columns):
            sheet[row * step : row * step + SIDE, column * step : column * step + SIDE] = images[row, column]
    return sheet


def tiles(
    images: Array,
    *,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    x_label: str = "",
    y_label: str = "",
    inches: float = 0.5,
    gap: int = 2,
    weights: bool = False,
) -> bytes:
    """Draw images [R, C, SIDE, SIDE] in a grid, with one label per column (below) and per row (left).

    inches: a tile's width. weights: not ink but any values, with a scale beside: purple below and orange
    above zero or, where all have one sign, from the least to the greatest, so that differences show.
    """
    count_rows, count_columns = images.shape[:2]
    limit = float(np.abs(images).max()) or 1.0
    scale: dict[str, Any] = {"cmap": "Greys", "vmin": 0, "vmax": 1}
    if weights:
        scale = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}
        if images.min() >= 0 or images.max() <= 0:
            scale = {"cmap": "cividis"}
    margin = (0.75 if rows or y_label else 0.15) + (0.95 if weights else 0)
    with drawing(inches * count_columns + margin, inches * count_rows + (0.5 if columns else 0.15)) as figure:
        axes = figure.subplots()
        shown = axes.imshow(mosaic(images, gap), interpolation="nearest", **scale)
        shown.cmap.set_bad("white")
        centre, step = (SIDE - 1) / 2, SIDE + gap
        axes.set_xticks([centre + step * i for i in range(len(columns))], columns)
        axes.set_yticks([centre + step * i for i in range(len(rows))], rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if weights:
            figure.colorbar(shown, ax=axes, shrink=0.8, label="weight").formatter.set_useOffset(False)
        return png(figure)


def titled(images: Array, titles: Sequence[str], columns: int) -> bytes:
    """Draw images [N, SIDE, SIDE], each with a short title above it, `columns` per row."""
    rows, gap = -(-len(images) // columns), SIDE // 3
    sheet = np.zeros([rows * columns, SIDE, SIDE])
    sheet[: len(images)] = images
    with drawing(0.92 * columns, 0.92 * rows + 0.1) as figure:
        axes = figure.subplots()
        axes.imshow(
            mosaic(sheet.reshape(rows, columns, SIDE, SIDE), gap), cmap="Greys", vmin=0, vmax=1,
            interpolation="nearest",
        )  # fmt: skip
        for place, title in enumerate(titles):
            row, column = divmod(place, columns)
            centre, top = (SIDE + gap) * column + SIDE / 2, (SIDE + gap) * row - 1
            axes.text(centre, top, title, fontsize=7, ha="center", va="bottom")
        axes.set_ylim((SIDE + gap) * rows - gap, -gap)
        axes.axis("off")
        return png(figure)


def manifold(images: Array, quantiles: Array, x_label: str, y_label: str) -> bytes:
    """Draw images [n, n, SIDE, SIDE] decoded from prior quantiles [n]; the first row is the lowest."""
    count = len(quantiles)
    ticks = np.linspace(0, count - 1, 4).round().astype(int)
    with drawing(5.6, 5.6) as figure:
        axes = figure.subplots()
        axes.imshow(mosaic(images[::-1], gap=0), cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        places = (SIDE - 1) / 2 + SIDE * ticks
        axes.set_xticks(places, [f"{quantiles[i]:.2f}" for i in ticks])
        axes.set_yticks(places, [f"{quantiles[count - 1 - i]:.2f}" for i in ticks])
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return png(figure)


def scatter(points: Array, labels: Array, x_label: str, y_label: str) -> bytes:
    """Draw points [N, 2] as the numerals of their labels [N], in the label's colour."""
    from matplotlib import patheffects

    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    with drawing(5.6, 5.2) as figure:
        axes = figure.subplots()
        for label in np.unique(labels):
            mine = points[labels == label]
            colour = COLOURS[int(label) % len(COLOURS)]
            axes.scatter(*mine.T, s=14, marker=f"${label}$", color=colour, linewidths=0.3, alpha=0.85)
        for label in np.unique(labels):
            centre = np.median(points[labels == label], axis=0)
            axes.text(
                *centre, str(label), fontsize=15, fontweight="bold", color=COLOURS[int(label) % len(COLOURS)],
                ha="center", va="center", path_effects=halo,
            )  # fmt: skip
        # A few far points would otherwise squeeze all others into a corner.
        low, high = np.percentile(points, [0.5, 99.5], axis=0)
        room = 0.08 * np.maximum(high - low, 1e-6)
        axes.set_xlim(low[0] - room[0], high[0] + room[0])
        axes.set_ylim(low[1] - room[1], high[1] + room[1])
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return png(figure)


def curves(panels: Mapping[str, Sequence[Curve]]) -> bytes:
    """Draw one panel per unit; held-out curves are dashed, in their term's colour.

    The view leaves out values that only the first steps reach.
    """
    with drawing(5.6, 0.6 + 2.4 * len(panels)) as figure:
        every = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
        for axes, (unit, lines) in zip(every, panels.items(), strict=True):
            terms = list(dict.fromkeys(line.term for line in lines))
            trained = {line.term for line in lines if not line.held_out}
            settled = [line.values[line.steps > EARLY * line.steps.max()] for line in lines]
            low, high = (find(np.concatenate(settled)) for find in (np.min, np.max))
            for line in lines:
                axes.plot(
                    line.steps, line.values, "--" if line.held_out else "-",
                    marker="o" if len(line.steps) < 4 else "", markersize=4,
                    color=COLOURS[LINE_COLOURS[terms.index(line.term) % len(LINE_COLOURS)]],
                    label="" if line.held_out and line.term in trained else line.term,
                )  # fmt: skip
            room = 0.06 * max(high - low, 1e-6)
            axes.set_ylim(low - room, high + room)
            axes.set_ylabel(unit)
            # Above the panel, where it covers no curve.
            axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
        every[-1].set_xlabel("optimizer steps")
        return png(figure)


def bars(labels: Sequence[str], distortion: Array, rate: Array, margin: Array) -> bytes:
    """Draw -ELBO by label as distortion plus rate [L]; margin [L]: half its 95 % interval."""
    with drawing(5.6, 3.1) as figure:
        axes = figure.subplots()
        places = np.arange(len(labels))
        axes.bar(places, distortion, color=COLOURS[1], label="distortion")
        axes.bar(places, rate, bottom=distortion, color=COLOURS[0], label="rate")
        axes.errorbar(places, distortion + rate, margin, fmt="none", ecolor="black", capsize=3, elinewidth=1)
        for place, total, above in zip(places, distortion + rate, margin, strict=True):
            axes.annotate(
                f"{total:.0f}",
                (place, total + above),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set_xticks(places, labels)
        axes.set_ylim(0, 1.3 * float((distortion + rate).max()))
        axes.set_xlabel("label")
        axes.set_ylabel("-ELBO, nats per image")
        axes.legend(ncols=2, loc="upper right", fontsize=8)
        return png(figure)


def confusion(counts: Array) -> bytes:
    """Draw counts [C, C], true labels down and predicted ones across, in per cent of the true label."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with drawing(5.2, 4.6) as figure:
        axes = figure.subplots()
        shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for row, column in np.argwhere(share >= 0.05):
            value = share[row, column]
            axes.text(
                column, row, f"{value:.1f}" if value < 99.95 else "100", ha="center", va="center", fontsize=7,
                color="white" if value > 55 else "#222222",
            )  # fmt: skip
        axes.set_xticks(range(len(counts)))
        axes.set_yticks(range(len(counts)))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted label")
        axes.set_ylabel("true label")
        figure.colorbar(shown, ax=axes, shrink=0.8, label="% of the true label's images")
        return png(figure)


def reliability(confidence: Array, correct: Array) -> bytes:
    """Draw the accuracy of predictions [N] by their confidence [N], in BINS bins with 95 % intervals."""
    with drawing(4.6, 4.8) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot([0, 1], [0, 1], ":", color="#666666", label="perfectly calibrated")
        found = [*calibration_bins(confidence, correct)]
        middle, right, low, high = np.array([(b.confidence, b.accuracy, b.lower, b.upper) for b in found]).T
        top.errorbar(
            middle, right, (right - low, high - right), fmt="o-", color=COLOURS[0], capsize=3, markersize=4,
            label="this model, 95 % interval",
        )  # fmt: skip
        top.set_ylim(0, 1.02)
        top.set_ylabel("accuracy, fraction")
        top.legend(loc="lower right", fontsize=8)
        shares, edges = np.histogram(confidence, bins=BINS, range=(0, 1))
        bottom.bar(
            edges[:-1], 100 * shares / len(confidence), 1 / BINS, align="edge", color=COLOURS[1], ec="white"
        )
        bottom.set_xlim(0, 1)
        bottom.set_xlabel("confidence: probability of the predicted label")
        bottom.set_ylabel("% of images")
        return png(figure)


def calibration_bins(confidence: Array, correct: Array) -> Iterator[Bin]:
    """Yield the bins that hold predictions, the least confident first; intervals are Wilson's (1927)."""
    where = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for place in np.unique(where):
        inside = where == place
        count, right = int(inside.sum()), float(correct[inside].mean())
        interval = wilson(right * count, count)
        # Rounding may leave an end on the wrong side of the estimate by a hair.
        low, high = min(interval.lower, right), max(interval.upper, right)
        yield Bin(count, float(confidence[inside].mean()), right, float(low), float(high))


def calibration_error(confidence: Array, correct: Array) -> float:
    """Return the expected calibration error, a fraction: |accuracy - confidence| of bins, weighted by size.

    Naeini et al. 2015; confidence [N], correct [N].
    """
    bins = calibration_bins(confidence, correct)
    return sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / len(confidence)


def animation(frames: Array, steps: Sequence[int], zoom: int = 2) -> bytes:
    """Draw a GIF of frames uint8 [T, n * n, SIDE, SIDE] (255 is ink), each under its step."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=14)
    pictures = []
    for frame, step in zip(frames, steps, strict=True):
        side = int(np.sqrt(len(frame)))
        sheet = np.nan_to_num(mosaic(frame[: side * side].reshape(side, side, SIDE, SIDE)))
        grey = 255 - np.kron(sheet, np.ones([zoom, zoom])).astype(np.uint8)
        picture = Image.fromarray(np.pad(grey, ((26, 4), (4, 4)), constant_values=255))
        ImageDraw.Draw(picture).text((6, 4), f"step {step:,}", fill=0, font=font)
        pictures.append(picture)
    file = io.BytesIO()
    waits = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_MILLISECONDS]
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=waits, loop=0, optimize=False
    )
    return file.getvalue()
