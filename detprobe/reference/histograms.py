"""bincount, histc and histogram: which bin an element is in, exact counts, and weights summed by DSEG-1."""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import numpy as np

from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.order import sum_rows
from detprobe.reference.segments import combined

__all__ = ["bincount", "histc", "histogram", "histogram_edges"]


def bincount(x: Array, weights: Array | None = None, minlength: int = 0) -> Array:
    """How often each number comes, or Z(+0.0, w) of its weights.

    Args:
        x: [n] integers of at least 0.
        weights: [n], of any dtype.

    Returns:
        [max(largest + 1, minlength)] int64; with weights float32 where they are, else float64.

    Source: csrc/README.md, "The scatter ops, forward".
    """
    if x.ndim != 1 or (x < 0).any():
        raise ValueError("expected one dimension of numbers that are not negative")
    size = max(int(x.max()) + 1 if x.size else 0, minlength)
    if weights is None:
        return np.bincount(x.astype(np.int64), minlength=size).astype(np.int64)
    w = weights if weights.dtype == np.float32 else weights.astype(np.float64)
    return combined(np.zeros(size, w.dtype), x.astype(np.int64), w).value


@quiet
def histc(x: Array, bins: int = 100, low: float = 0, high: float = 0) -> Array:
    """The elements in each of `bins` bins of one width, as N.

    Args:
        x: [...] acc.
        low, high: the range; where they are equal, that of x.

    Returns:
        [bins] acc.
    """
    of_x = in_acc(low, x) == in_acc(high, x)
    lo, hi = _range(x, None if of_x else (low, high), in_acc(1, x))
    x, b = x.reshape(-1), in_acc(bins, x)
    x = x[(x >= lo) & (x <= hi)]
    t = ((x - lo) * b) / (hi - lo)
    bin = np.where(t < b, np.minimum(np.where(t < b, t, 0).astype(np.int64), bins - 1), bins - 1)
    return np.bincount(bin, minlength=bins).astype(x.dtype)


@quiet
def histogram_edges(x: Array, bins: int, range: tuple[float, float] | None = None) -> Array:
    """The edges of `bins` bins of one width: [bins + 1] acc."""
    lo, hi = _range(x, range, in_acc(0.5, x))
    step = (hi - lo) / in_acc(bins, x)
    i = np.arange(bins + 1)
    rising = lo + step * i.astype(x.dtype)
    falling = hi - step * (bins - i).astype(x.dtype)
    return np.where(i < (bins + 1) // 2, rising, falling)


@quiet
def histogram(x: Array, edges: Array, weight: Array | None = None, density: bool = False) -> Array:
    """The elements between each edge and the next, the last edge included: as N, or Z(+0.0, w).

    Args:
        x: [...] acc.
        edges: [bins + 1] acc, not descending.
        weight: [...] acc, of the shape of x.
        density: divide by the sum and by the width of the bin.

    Returns:
        [bins] acc.
    """
    if len(edges) < 2 or not (edges[:-1] <= edges[1:]).all():
        raise ValueError(f"expected at least two ascending edges, got {edges.tolist()}")
    bins, flat = len(edges) - 1, x.reshape(-1)
    inside = (flat >= edges[0]) & (flat <= edges[-1])
    bin = np.minimum(bins, np.count_nonzero(edges[None, :] <= flat[inside, None], axis=1)) - 1
    if weight is None:
        h = np.bincount(bin, minlength=bins).astype(x.dtype)
    else:
        h = combined(np.zeros(bins, x.dtype), bin, weight.reshape(-1)[inside]).value
    if density:
        h = (h / sum_rows(h[None, :])) / (edges[1:] - edges[:-1])
    return h


def _range(x: Array, given: tuple[float, float] | None, apart: Array) -> tuple[Array, Array]:
    """lo and hi: [1] acc each.

    Raises:
        ValueError: where they descend, or they or their difference are not finite.
    """
    if given is not None:
        lo, hi = in_acc(given[0], x), in_acc(given[1], x)
    elif x.size:
        lo, hi = in_acc(x.min(), x), in_acc(x.max(), x)
    else:
        lo, hi = in_acc(0, x), in_acc(1, x)
    if lo == hi:
        lo, hi = lo - apart, hi + apart
    if not (lo <= hi and np.isfinite(hi - lo)):
        raise ValueError(f"expected a finite ascending range, got {lo[0]} to {hi[0]}")
    return lo, hi
