"""Scales, ticks and paths of the page's charts; marks sit at percentages, so type keeps its size."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Mantissas of the distance between two ticks."""
OUTLIERS = 3.0
"""Multiples of the middle half's width beyond which a value is off the scale."""
ACCURACY_TICKS = (
    0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99,
    0.992, 0.995, 0.997, 0.998, 0.999,
)  # fmt: skip


class Tick(NamedTuple):
    """A tick: where, in per cent of the axis, and what it says."""

    at: float
    text: str


@dataclasses.dataclass(frozen=True)
class Scale:
    """A map from values to per cent of an axis, monotone in `transform`.

    Attributes:
      low, high: the values at 0 and at 100 per cent.
      transform: applied to values first; the identity by default.
    """

    low: float
    high: float
    transform: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Return where a value lies, in per cent; outside 0 to 100 if it is off the scale."""
        low, high = self.transform(self.low), self.transform(self.high)
        return round(100 * (self.transform(value) - low) / (high - low), 2)

    def clipped(self, value: float) -> float:
        """Return where a value lies, moved to the nearer edge if it is off the scale."""
        return min(100.0, max(0.0, self(value)))

    def side(self, value: float) -> int:
        """Return -1 or 1 for a value off the scale, below or above it, else 0."""
        place = self(value)
        return -1 if place < 0 else 1 if place > 100 else 0


def error_rate(accuracy: float) -> float:
    """Return minus the logarithm of the error rate, so that 0.99 is as far from 0.9 as 0.9 from 0."""
    return -math.log10(max(1 - accuracy, 1e-4))


def padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """Return an interval with room at both ends; never of no width."""
    room = share * (high - low) or max(abs(high), 1.0) * share
    return low - room, high + room


def within(values: Iterable[float]) -> tuple[float, float]:
    """Return the least and greatest of the values that are not outliers.

    An outlier lies further from the middle half of the values than OUTLIERS times its width. The greatest
    value is never one: what is best must be on the scale.
    """
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return 0.0, 1.0
    lower, upper = quantile(ordered, 0.25), quantile(ordered, 0.75)
    least = lower - OUTLIERS * max(upper - lower, 0.05 * abs(upper))
    kept = [value for value in ordered if value >= least]
    return kept[0], ordered[-1]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, interpolated."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def linear_ticks(scale: Scale, most: int = 6) -> list[Tick]:
    """Return ticks at round numbers of a linear scale."""
    step = nice_step(scale.high - scale.low, most)
    first = math.ceil(scale.low / step)
    last = math.floor(scale.high / step)
    return [Tick(scale(i * step), number(i * step, step)) for i in range(first, last + 1)]


def nice_step(width: float, most: int) -> float:
    """Return the least round distance between ticks that gives at most `most` of them."""
    rough = width / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(mantissa * power for mantissa in NICE if mantissa * power >= rough * (1 - 1e-9))


def accuracy_ticks(scale: Scale) -> list[Tick]:
    """Return ticks of an accuracy scale, in per cent, none nearer than 9 per cent of the axis to the last."""
    found: list[Tick] = []
    for value in ACCURACY_TICKS:
        at = scale(value)
        if 0 <= at <= 100 and (not found or at - found[-1].at >= 9):
            found.append(Tick(at, f"{100 * value:g}"))
    return found


def log_ticks(scale: Scale) -> list[Tick]:
    """Return ticks of a logarithmic scale: powers of ten, and in between if the scale is short."""
    decades = math.log10(scale.high / scale.low)
    mantissas = (1, 2, 5) if decades < 3 else (1,)
    found = []
    for power in range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1):
        for mantissa in mantissas:
            value = mantissa * 10.0**power
            if scale.low <= value <= scale.high:
                found.append(Tick(scale(value), f"{value:,.10g}".replace(",", "\N{NARROW NO-BREAK SPACE}")))
    return found


def number(value: float, step: float) -> str:
    """Format a tick with the decimals that its step needs, and a true minus sign."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    text = f"{value:,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.replace("-", "\N{MINUS SIGN}") if float(f"{value:.{decimals}f}") else text.lstrip("-")


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return the `d` of an SVG path through points, in per cent from the left and from the top."""
    return "".join(
        f"{'L' if place else 'M'}{x:.1f} {min(130.0, max(-30.0, y)):.1f}"
        for place, (x, y) in enumerate(points)
    )


class Label(NamedTuple):
    """A label beside a point: its text, and on which side of the point it fits; empty for nowhere."""

    text: str
    side: str


def placed(points: Sequence[tuple[float, float, str]], width: float, height: float) -> list[Label]:
    """Place labels greedily beside points, so that none covers another one or a point.

    points: x and y in per cent and the text, the most important first. width, height: of a character, in per
    cent of the chart.
    """
    taken = [(x - 0.8, y - 1.6, x + 0.8, y + 1.6) for x, y, _ in points]
    labels = []
    for x, y, text in points:
        long = width * len(text)
        boxes = {
            "above": (x - long / 2, y - 2 - height, x + long / 2, y - 2),
            "left": (x - 1.2 - long, y - height / 2, x - 1.2, y + height / 2),
            "right": (x + 1.2, y - height / 2, x + 1.2 + long, y + height / 2),
            "below": (x - long / 2, y + 2, x + long / 2, y + 2 + height),
        }
        side = next((side for side, box in boxes.items() if fits(box, taken)), "")
        if side:
            taken.append(boxes[side])
        labels.append(Label(text, side))
    return labels


Box = tuple[float, float, float, float]


def fits(box: Box, taken: Iterable[Box]) -> bool:
    """Return whether a box lies within the chart and overlaps none of those taken."""
    left, top, right, bottom = box
    if left < 0 or right > 100 or top < -4 or bottom > 104:
        return False
    return all(right <= a or c <= left or bottom <= b or d <= top for a, b, c, d in taken)


def front(points: Iterable[tuple[float, float]]) -> list[int]:
    """Return the indices of the Pareto front: cost x, score y; nothing as cheap scores as high."""
    best, found = -math.inf, []
    for index, (_, score) in sorted(enumerate(points), key=lambda item: (item[1][0], -item[1][1])):
        if score > best:
            best = score
            found.append(index)
    return found
