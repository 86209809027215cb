"""Student's t for whole degrees of freedom: probabilities, quantiles, and the power of the paired t test.

Written out here, and not taken from scipy, because three functions are needed and importing scipy.stats takes over a
second; the tests hold them against scipy. Whole degrees of freedom have finite sums, so nothing is iterated to a
tolerance but the quantile.
"""

from __future__ import annotations

import functools
import math

import numpy as np

__all__ = ["outside", "power", "quantile"]

_POINTS = 401  # of Simpson's rule; odd


def outside(t: float, df: int) -> float:
    """P(|T| > t) for t >= 0: the two-sided p-value. Its absolute error is about 1e-15.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    if math.isinf(t):
        return 0.0
    angle = math.atan(t / math.sqrt(df))
    square = math.cos(angle) ** 2
    odd = df % 2
    count = (df - odd) // 2  # terms of the sum
    steps = 2.0 * np.arange(1, max(count, 1))
    factors = (steps / (steps + 1) if odd else (steps - 1) / steps) * square
    total = 1.0 + float(np.cumprod(factors).sum()) if count else 0.0
    sine = math.sin(angle)
    inside = 2 / math.pi * (angle + sine * math.cos(angle) * total) if odd else sine * total
    return min(1.0, max(0.0, 1.0 - inside))


@functools.lru_cache(maxsize=4096)
def quantile(level: float, df: int) -> float:
    """The t with P(|T| > t) = level: quantile(0.05, 9) = 2.262."""
    high = 1.0
    while outside(high, df) > level:
        high *= 2.0
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle, df) > level else (low, middle)
    return high


def power(pairs: int, effect: float, level: float) -> float:
    """Probability that the paired t test at `level` rejects, either way, when the true mean difference is `effect` sd.

    T is noncentral: the normal number is integrated over the distribution of the estimated sd by Simpson's rule. The
    normal formula is too kind where pairs are few, which is where this is asked.
    """
    df = pairs - 1
    bar, shift = quantile(level, df), effect * math.sqrt(pairs)
    width = 8 / math.sqrt(2 * df)
    spread = np.linspace(max(1e-9, 1 - width), 1 + width, _POINTS)  # estimated sd / true sd
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    density = np.exp(constant + (df - 1) * np.log(spread) - df / 2 * spread**2)
    accepted = np.array([_normal(bar * s - shift) - _normal(-bar * s - shift) for s in spread.tolist()])
    weights = np.full(_POINTS, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    integral = float((weights * density * accepted).sum()) * float(spread[1] - spread[0]) / 3
    return min(1.0, max(0.0, 1.0 - integral))


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
