"""The rule that turns pairs of numbers into REAL, NOISE or UNDECIDED. INERT is a matter of bits, and not decided here.

Two points are stricter than "the 95 % interval excludes 0":

- A look has its own level (3.0 % the first), so the interval that decides is wider than the 95 % interval, which is
  there for reading. A `Decision` holds both.
- The sign-flip test must reject as well from the number of pairs at which it can: 7 at the first look's 3.0 %. (6 is
  that number at 5 %.) Differences that are all equal have no spread to judge by, so for them this test alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from detprobe.checks import check_number
from detprobe.errors import ArgumentValueError
from detprobe.verdict import _statistics as statistics

__all__ = ["FEWEST", "Decision", "decide"]

FEWEST = 3
"""Pairs below which nothing is decided."""

_EPSILON = 2.0**-52


@dataclass(frozen=True)
class Decision:
    """What the pairs of one metric say."""

    verdict: str
    """"REAL", "NOISE" or "UNDECIDED"."""
    effect: float
    """Mean of B - A, in units of the metric."""
    low: float | None
    high: float | None
    """The 95 % interval of the effect, for reading; None from one pair."""
    wide_low: float | None
    wide_high: float | None
    """The interval at this look's level, 1 - level: the one that decides."""
    p_value: float | None
    """The larger of the two tests' p-values, adjusted for several metrics; None where no test can be made."""
    level: float
    """What the p-value is compared with at this look."""
    more_pairs: int | None
    """Pairs to add that would settle an UNDECIDED; None where it is settled, nothing sensible can be said, or advice
    was not asked for."""


def decide(
    metrics: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    look: int = 1,
    min_effects: Sequence[float | None] | None = None,
    advise: bool = True,
) -> list[Decision]:
    """One decision per metric.

    Example:
        >>> decide([([1.0, 2.0, 3.0], [2.0, 3.1, 3.9])])[0].verdict
        'REAL'

    Args:
        metrics: per metric the values of A and of B, paired, finite, one pair at least.
        look: 1 for the first verdict on these data, 2 after pairs were added, and so on.
        min_effects: per metric the smallest difference that matters, above 0, in units of the metric; without one
            NOISE cannot be said.
        advise: whether to work out how many more pairs would settle an UNDECIDED, which takes most of the time.

    Raises:
        ArgumentValueError: no pairs, or values or differences that are not finite: they would pass for evidence; a
            look below 1; a min_effect that is not above 0, or not one for each metric.
        ArgumentTypeError: a look or a min_effect is no number.
    """
    for a, b in metrics:
        _check(a, b)
    check_number("look", look, int, 1, "1 is the first verdict on these data")
    wanted = [None] * len(metrics) if min_effects is None else list(min_effects)
    _check_least(wanted, len(metrics))
    level = statistics.look_level(look)
    strictest = level / max(1, len(metrics))
    p_values = [_p_value(a, b, strictest) for a, b in metrics]
    adjusted = statistics.holm([1.0 if p is None else p for p in p_values])
    following = statistics.look_level(look + 1)
    found = []
    for (a, b), p, holm, least in zip(metrics, p_values, adjusted, wanted, strict=True):
        differences = _differences(a, b)
        known = p is not None and holm <= level
        verdict = _verdict(differences, known, p is not None, level, least)
        effect = statistics.mean(differences)
        low, high = _interval(differences, statistics.ALPHA)
        wide_low, wide_high = _interval(differences, level)
        found.append(
            Decision(
                verdict=verdict,
                effect=effect,
                low=low,
                high=high,
                wide_low=wide_low,
                wide_high=wide_high,
                p_value=None if p is None else holm,
                level=level,
                more_pairs=_more(differences, following, least) if advise and verdict == "UNDECIDED" else None,
            )
        )
    return found


def _check(a: Sequence[float], b: Sequence[float]) -> None:
    if not a or len(a) != len(b):
        raise ArgumentValueError(f"expected a value of A for each of B, one pair at least, got {len(a)} and {len(b)}")
    for x, y in zip(a, b, strict=True):
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(y - x)):
            raise ArgumentValueError(
                f"expected finite values with a finite difference, got {x} and {y}: leave the pair out"
            )


def _check_least(wanted: Sequence[float | None], metrics: int) -> None:
    if len(wanted) != metrics:
        raise ArgumentValueError(f"min_effects: expected one for each of {metrics} metrics, got {len(wanted)}")
    for least in wanted:
        if least is None:
            continue
        check_number("min_effect", least, float, None, "the smallest difference that matters")
        if not 0 < least < math.inf:
            raise ArgumentValueError(
                f"min_effect: expected a finite number above 0, got {least!r}: the smallest difference that matters, "
                "in units of the metric"
            )


def _interval(differences: Sequence[float], level: float) -> tuple[float, float] | tuple[None, None]:
    if len(differences) < 2:
        return None, None
    middle, half = statistics.mean(differences), statistics.half_width(differences, level)
    return middle - half, middle + half


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [y - x for x, y in zip(a, b, strict=True)]


def _p_value(a: Sequence[float], b: Sequence[float], strictest: float) -> float | None:
    """None below 3 pairs, and where all differences are equal and too few for the sign-flip test."""
    differences = _differences(a, b)
    if len(differences) < FEWEST:
        return None
    flips = statistics.flip_can_reject(len(differences), strictest)
    # differences of equal steps are not equal bits: 0.3 - 0.2 and 0.2 - 0.1
    rounding = 2 * _EPSILON * max(map(abs, [*a, *b]))
    if max(differences) - min(differences) <= rounding:
        return statistics.sign_flip(differences) if flips else None
    p = statistics.t_test(differences)
    return max(p, statistics.sign_flip(differences)) if flips else p


def _verdict(differences: list[float], known: bool, tested: bool, level: float, least: float | None) -> str:
    effect = abs(statistics.mean(differences))
    if known and (least is None or effect >= least):
        return "REAL"
    if tested and least is not None and effect + statistics.half_width(differences, level) < least:
        return "NOISE"
    return "UNDECIDED"


def _more(differences: list[float], level: float, least: float | None) -> int | None:
    """Pairs to add: for 80 % power at the next look's level, or, where that is there, for a narrow enough interval."""
    n = len(differences)
    if n < FEWEST:
        return FEWEST - n
    effect, spread = abs(statistics.mean(differences)), statistics.sd(differences)
    sought = effect if least is None else least
    wanted = statistics.pairs_for_power(sought, spread, level)
    if wanted is not None:
        wanted = statistics.past_equal_signs(wanted, sought, spread, level)
    if least is not None and wanted is not None and wanted <= n:
        wanted = statistics.pairs_for_width(abs(least - effect), spread, level)
    if wanted is None or not math.isfinite(spread):
        return None
    return max(1, wanted - n)
