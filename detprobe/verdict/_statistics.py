"""The statistics of a verdict as functions of plain numbers. No torch, no files, no words.

What was chosen, and what was left (false-positive rates at a nominal 5 % were simulated; benchmarks/verdict.py):

- The paired t interval holds its rate from 3 pairs on. The percentile bootstrap does not for few runs (26 % at 3 pairs,
  10 % at 10), so there is none here.
- The sign-flip test assumes nothing but that a difference is as likely to be d as -d. It is exact to 40 pairs: the
  sums of either half of the pairs are listed and matched. Above, it draws flips from a fixed seed, and counts the
  observed one among them, which keeps the test valid.
- Looking again after more pairs is paid for: look k tests at 0.05 * 6 / (pi^2 k^2), which adds up to 0.05 over all k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from detprobe.verdict import _student

__all__ = [
    "ALPHA",
    "CAP",
    "correlation",
    "flip_can_reject",
    "half_width",
    "holm",
    "look_level",
    "mean",
    "pairs_for_power",
    "pairs_for_width",
    "past_equal_signs",
    "sd",
    "sign_flip",
    "single_run_difference",
    "superiority",
    "t_test",
]

ALPHA = 0.05
POWER = 0.8
CAP = 1_000
"""Pairs that no advice goes beyond."""

_EXACT = 40  # pairs; 2^20 sums per half
_DRAWS = 9_999
_TIE = 1e-10  # sums closer than this share of the largest sum are equal but for their rounding


def mean(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum overflows."""
    scale = _scale(values)
    return math.fsum(value / scale for value in values) / len(values) * scale


def sd(values: Sequence[float]) -> float:
    """Standard deviation with n - 1, also of numbers whose squares overflow or vanish; needs two values."""
    scale = _scale(values)
    scaled = [value / scale for value in values]
    middle = math.fsum(scaled) / len(scaled)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in scaled) / (len(scaled) - 1)) * scale


def _scale(values: Sequence[float]) -> float:
    return max(map(abs, values)) or 1.0


def half_width(differences: Sequence[float], level: float) -> float:
    """Half the width of the paired t interval of confidence 1 - level."""
    n = len(differences)
    return _student.quantile(level, n - 1) * (sd(differences) / math.sqrt(n))


def t_test(differences: Sequence[float]) -> float:
    """Two-sided p-value of the paired t test; needs two differences. Without any spread: 0, or 1 if all are 0."""
    middle, spread = mean(differences), sd(differences)
    if spread == 0.0:
        return 0.0 if middle else 1.0
    return _student.outside(abs(middle) / spread * math.sqrt(len(differences)), len(differences) - 1)


def flip_can_reject(pairs: int, level: float) -> bool:
    """Whether the sign-flip test can reject at all: its smallest p-value is 2 / 2^pairs (6 pairs at 5 %)."""
    return 2.0 ** (1 - pairs) <= level


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p-value of the sign-flip test of the mean: the share of all sign patterns whose sum is as far from 0.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    scale = _scale(differences)
    flipped = np.abs(np.array(differences, dtype=np.float64) / scale)
    bar = abs(math.fsum(value / scale for value in differences)) - _TIE * float(flipped.sum())
    if bar <= 0.0:
        return 1.0
    n = len(flipped)
    if n <= _EXACT:
        left, right = _all_sums(flipped[: n // 2]), np.sort(_all_sums(flipped[n // 2 :]))
        # the patterns come in pairs of opposite sums: those at or above the bar are half of them
        above = len(right) * len(left) - int(np.searchsorted(right, bar - left, side="left").sum())
        return min(1.0, 2 * above / 2.0**n)
    bits = np.unpackbits(np.frombuffer(np.random.default_rng(0).bytes(-(-n * _DRAWS // 8)), dtype=np.uint8))
    signs = bits[: n * _DRAWS].reshape(_DRAWS, n).astype(np.float64) * 2 - 1
    return (int((np.abs(signs @ flipped) >= bar).sum()) + 1) / (_DRAWS + 1)


def _all_sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate((sums - value, sums + value))
    return sums


def superiority(differences: Sequence[float]) -> float:
    """P(B > A): the share of pairs where B is larger; a tie counts for half."""
    return sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences) / len(differences)


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's r within pairs; None below 3 pairs and where one side does not vary."""
    if len(a) < 3:
        return None
    spread_a, spread_b = sd(a), sd(b)
    if spread_a == 0.0 or spread_b == 0.0:
        return None
    mean_a, mean_b = mean(a), mean(b)
    products = (
        (x / spread_a - mean_a / spread_a) * (y / spread_b - mean_b / spread_b) for x, y in zip(a, b, strict=True)
    )
    return max(-1.0, min(1.0, math.fsum(products) / (len(a) - 1)))


def single_run_difference(values: Sequence[float]) -> float:
    """What the difference of two single runs, unpaired, must exceed to be seen at 5 %, from at least two runs of one.

    t * sqrt(2) * sd: 2.8 sd for many runs, more for few, whose sd is uncertain.
    """
    return _student.quantile(ALPHA, len(values) - 1) * math.sqrt(2) * sd(values)


def look_level(look: int) -> float:
    """The level of the k-th look at growing data, k from 1: 3.0 %, 0.76 %, 0.34 %, ... which sum to 5 %."""
    return ALPHA * 6 / (math.pi * look) ** 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several tests, to be compared with the level of one.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    adjusted = [0.0] * len(p_values)
    so_far = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        so_far = max(so_far, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = so_far
    return adjusted


def pairs_for_power(effect: float, spread: float, level: float) -> int | None:
    """The fewest pairs, 3 at least, with 80 % power for a true difference; None beyond 1,000 or for no difference."""
    if not effect:
        return None
    d = abs(effect) / spread if spread else math.inf
    if d > 1e3:
        return 3  # beyond doubt, and the integrand too narrow to integrate
    normal = NormalDist()
    formula = ((normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)) / d) ** 2 if d > 1e-3 else math.inf
    if formula > CAP:
        return None
    # the normal formula asks for too few, but not by much: the search starts there
    return _fewest(lambda n: _student.power(n, d, level) >= POWER, max(2, int(0.98 * formula) - 2))


def past_equal_signs(pairs: int, effect: float, spread: float, level: float) -> int:
    """One pair more where the sign-flip test can only just reject: it then wants every sign equal, which is rarer than
    the power that the t test has there."""
    if not flip_can_reject(pairs, level) or flip_can_reject(pairs - 1, level) or not spread:
        return pairs
    return pairs + (NormalDist().cdf(abs(effect) / spread) ** pairs < POWER)


def pairs_for_width(width: float, spread: float, level: float) -> int | None:
    """The fewest pairs whose t interval has at most this half width at this sd; None beyond 1,000."""
    return _fewest(lambda n: _student.quantile(level, n - 1) * (spread / math.sqrt(n)) <= width, 2)


def _fewest(enough: Callable[[int], bool], low: int) -> int | None:
    """The fewest n above `low`, which is too few, by growing steps and then by halving: `enough` is monotone in n."""
    step = 1
    while not enough(high := min(low + step, CAP)):
        if high == CAP:
            return None
        low, step = high, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
