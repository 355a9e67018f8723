"""Format numbers for people: no more digits than mean something."""

from schemas.records import Gain, Metric

MOST_DIGITS = 6


def interval(metric: Metric) -> str:
    """Format a metric as `-155.9 ±0.6`, to one or two digits of half its 95 % interval."""
    if not metric.half > 0:  # without an interval, or not a number
        return f"{metric.value:.4g}"
    digits = _digits(metric.half)
    return f"{metric.value:.{digits}f} ±{metric.half:.{digits}f}"


def gain(difference: Metric) -> str:
    """Format a difference as `+1.2 [+0.8, +1.6]`, to one or two digits of half its interval."""
    digits = _digits(difference.half) if difference.half > 0 else 3
    lower, upper = (f"{end:+.{digits}f}" for end in (difference.lower, difference.upper))
    return f"{difference.value:+.{digits}f} [{lower}, {upper}]"


def short_gain(difference: Metric) -> str:
    """Format a difference as `+1.2 ±0.4`, to one or two digits of half its interval."""
    digits = _digits(difference.half) if difference.half > 0 else 3
    return f"{difference.value:+.{digits}f} ±{difference.half:.{digits}f}"


def against(difference: Gain) -> str:
    """Format a gain with the version it is over: `+1.2 [+0.8, +1.6] against version 17`."""
    baseline = "an earlier model" if difference.version is None else f"version {difference.version}"
    return f"{gain(difference)} against {baseline}"


def count(number: float) -> str:
    """Format a count in at most five characters: 999, 70.0k, 12.3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 99.95 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def seconds(duration: float) -> str:
    """Format a duration: 0.53 s, 12.3 s, 4 min 05 s, 2 h 10 min."""
    if duration < 59.95:
        return f"{duration:.2f} s" if duration < 0.995 else f"{duration:.1f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _digits(half: float) -> int:
    """Return the decimals that show one or two digits of half an interval."""
    return next((d for d in range(MOST_DIGITS) if half * 10**d >= 3), MOST_DIGITS)
