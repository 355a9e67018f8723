"""Numbers as people read them: no more digits than mean something."""

from collections.abc import Mapping
from typing import Any

MOST_DIGITS = 6


def interval(metric: Mapping[str, Any], plus_minus: str = "±") -> str:
    """A metric {value, lower, upper} as `-155.9 ±0.6`, to one or two digits of half its 95 % interval."""
    value, half = metric["value"], (metric["upper"] - metric["lower"]) / 2
    if not half > 0:  # without an interval, or not a number
        return f"{value:.4g}"
    digits = next((d for d in range(MOST_DIGITS) if half * 10**d >= 3), MOST_DIGITS)
    return f"{value:.{digits}f} {plus_minus}{half:.{digits}f}"


def gain(difference: Mapping[str, Any]) -> str:
    """A difference {value, lower, upper} as `+1.2 [0.8, 1.6]`, to one or two digits of half its interval."""
    half = (difference["upper"] - difference["lower"]) / 2
    digits = next((d for d in range(MOST_DIGITS) if half * 10**d >= 3), MOST_DIGITS) if half > 0 else 3
    lower, upper = (f"{difference[end]:+.{digits}f}" for end in ("lower", "upper"))
    return f"{difference['value']:+.{digits}f} [{lower}, {upper}]"


def against(difference: Mapping[str, Any]) -> str:
    """A gain with the version it is over: `+1.2 [0.8, 1.6] against version 17`."""
    version = difference["version"]
    baseline = "an earlier model" if version is None else f"version {version}"
    return f"{gain(difference)} against {baseline}"


def count(number: float) -> str:
    """A count in at most five characters: 999, 70.0k, 12.3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 99.95 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def seconds(duration: float) -> str:
    """A duration: 0.53 s, 12.3 s, 4 min 05 s, 2 h 10 min."""
    if duration < 59.95:
        return f"{duration:.2f} s" if duration < 0.995 else f"{duration:.1f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
