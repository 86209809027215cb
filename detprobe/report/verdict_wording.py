"""The sentences and numbers of a comparison, and its plot as shares of an axis, as every view shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detprobe.report.wording import clean
from detprobe.verdict_report import Comparison, MetricVerdict

__all__ = ["MEANINGS", "Line", "Plot", "facts", "headline", "number", "plot", "said_first"]

MEANINGS = {
    "INERT": "the change did nothing: same seeds, same bits, and A repeats itself bit for bit",
    "REAL": "the interval of the paired difference excludes 0 at this look's level, so the change did it",
    "NOISE": "the interval lies within the smallest difference that matters: whatever is there is too small to matter",
    "UNDECIDED": "the pairs do not say; that is no evidence of no effect",
}
_MOST = 40
"""Pairs that are drawn."""


def said_first(comparison: Comparison) -> str:
    """What comes before the verdict: that A does not repeat itself."""
    return clean(comparison.warnings[0]) if comparison.repeats == "no" and comparison.warnings else ""


def headline(metric: MetricVerdict) -> str:
    """Verdict, metric and effect in one line."""
    name = clean(metric.name)
    if metric.verdict == "INERT":
        return f"INERT: the final states and {name} are equal bit for bit, in {_pairs(metric.pairs)}"
    return f"{metric.verdict}: {name} of B is {_direction(metric)} A's, in {_pairs(metric.pairs)}"


def _pairs(n: int) -> str:
    return "1 pair" if n == 1 else f"{n} pairs"


def _direction(metric: MetricVerdict) -> str:
    if metric.effect == 0:
        return "on average equal to"
    higher = metric.effect > 0
    size = number(abs(metric.effect), metric)
    better = "better" if higher != metric.lower_better else "worse"
    return f"{size} {'higher' if higher else 'lower'} ({better}) on average than"


def number(value: float, metric: MetricVerdict) -> str:
    """As many decimals as two digits of the interval's half width have: no more was measured."""
    half = 0.0 if metric.low is None or metric.high is None else metric.high / 2 - metric.low / 2
    if half <= 0 or not math.isfinite(half) or not math.isfinite(value):
        return f"{value:.6g}"
    decimals = 1 - math.floor(math.log10(half))
    if not 0 <= decimals <= 12 or abs(value) >= 1e9:
        return f"{value:.6g}"
    return f"{value:.{decimals}f}"


def facts(comparison: Comparison, metric: MetricVerdict) -> list[tuple[str, str]]:
    """Name and value of everything that a reader may ask."""

    def interval(low: float | None, high: float | None) -> str:
        return "-" if low is None or high is None else f"{number(low, metric)} .. {number(high, metric)}"

    wide = interval(metric.wide_low, metric.wide_high)
    found = [
        ("effect", f"{number(metric.effect, metric)}, mean of B - A"),
        ("95 % interval", interval(metric.low, metric.high)),
        ("decided by", f"{100 * (1 - metric.level):.4g} % interval {wide}, look {comparison.looks}{_tests(metric)}"),
        ("P(B > A)", f"{metric.superiority:.2f} of the pairs"),
        ("correlation", "-" if metric.correlation is None else f"{metric.correlation:+.2f} of A and B within pairs"),
        ("noise floor", _floor(metric)),
    ]
    if metric.min_effect is not None:
        found.append(("min effect", f"{metric.min_effect:g}"))
    if metric.verdict == "UNDECIDED":
        found.append(("to settle it", _settles(metric)))
    return [*found, ("A again", _repeats(comparison)), ("final states", comparison.bits)]


def _tests(metric: MetricVerdict) -> str:
    said = "" if metric.p_value is None else f", p = {metric.p_value:.2g}"
    excludes = metric.low is not None and metric.high is not None and (metric.low > 0 or metric.high < 0)
    if metric.verdict != "UNDECIDED" or not excludes:
        return said
    if metric.p_value is None:
        return f"{said}: the pairs are too few, or equal and too few, for a test"
    if metric.p_value > metric.level:
        return f"{said}: that is not below {metric.level:.2g}, though the 95 % interval excludes 0"
    return f"{said}: there is a difference, but whether it reaches the min effect is open"


def _floor(metric: MetricVerdict) -> str:
    if metric.noise_floor is None:
        return "-"
    return f"{metric.noise_floor:.3g}: what the difference of one run each would have to exceed"


def _settles(metric: MetricVerdict) -> str:
    if metric.more_pairs is None:
        return "nothing sensible: more than 1000 pairs, or no difference to look for"
    return f"about {_pairs(metric.more_pairs).replace(' ', ' more ')} (80 % power at the observed spread)"


def _repeats(comparison: Comparison) -> str:
    return {
        "bits": "the same bits on the same seed",
        "metrics": "the same metrics on the same seed; bits were not compared",
        "no": "DOES NOT REPEAT on the same seed",
    }.get(comparison.repeats, "not known")


@dataclass(frozen=True)
class Line:
    """One pair: where A and B lie on the axis, as shares of it."""

    seed: str
    a: float
    b: float
    difference: str


@dataclass(frozen=True)
class Plot:
    """The pairs on the axis of the metric; below, the interval on an axis of differences. All places are shares."""

    low: str
    high: str
    """The ends of the metric's axis."""
    lines: tuple[Line, ...]
    left_out: int
    """Pairs beyond the first 40."""
    zero: float
    effect: float
    interval: tuple[float, float] | None
    wide: tuple[float, float] | None
    minimum: tuple[float, float] | None
    """- min_effect and + min_effect."""


def plot(comparison: Comparison, metric: MetricVerdict) -> Plot:
    pairs = comparison.pairs(metric.name)
    values = [value for _, *both in pairs for value in both] or [0.0]
    low, high = min(values), max(values)
    drawn = tuple(
        Line(str(seed), _share(a, low, high), _share(b, low, high), f"{b - a:+.4g}") for seed, a, b in pairs[:_MOST]
    )
    ends = [0.0, metric.effect]
    interval = _ends(metric.low, metric.high)
    wide = _ends(metric.wide_low, metric.wide_high)
    minimum = None if metric.min_effect is None else (-metric.min_effect, metric.min_effect)
    for several in (interval, wide, minimum):
        ends += several or ()
    left, right = min(ends), max(ends)

    def both(several: tuple[float, float] | None) -> tuple[float, float] | None:
        return None if several is None else (_share(several[0], left, right), _share(several[1], left, right))

    return Plot(
        low=f"{low:.4g}",
        high=f"{high:.4g}",
        lines=drawn,
        left_out=len(pairs) - len(drawn),
        zero=_share(0.0, left, right),
        effect=_share(metric.effect, left, right),
        interval=both(interval),
        wide=both(wide),
        minimum=both(minimum),
    )


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) else (low, high)


def _share(value: float, low: float, high: float) -> float:
    """Halves, so that the width of an axis from -1e308 to 1e308 does not overflow."""
    width = high / 2 - low / 2
    return min(1.0, max(0.0, (value / 2 - low / 2) / width)) if width > 0 else 0.5
