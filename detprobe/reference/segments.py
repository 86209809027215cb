"""DSEG-1: the order in which the records of a destination are combined, and the ops on segments that lie in a row.

Records run along the first axis of an array of acc; the axes behind it are columns, which never meet. Everything else
of the scatter family brings its arguments to `combined` or `last_records`.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from detprobe.reference.arithmetic import fma
from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.order import added, places
from detprobe.reference.scan import cumsum_rows

__all__ = [
    *("Combine", "Combined", "chosen", "combined", "divided", "extreme", "last_records", "multiplied"),
    *("segment_max", "segment_max_backward", "segment_mean", "segment_mean_backward", "segment_offsets"),
    *("segment_sum", "segment_sum_backward", "segment_tree"),
]

CHUNK = 256

Combine = Literal["sum", "prod", "amax", "amin"]
Step = Callable[[Array, Array], Array]


class Combined(NamedTuple):
    """What became of the destinations."""

    value: Array
    """[size, ...] acc."""
    counts: Array
    """[size] int64: m, the records of each; it is touched where this is not 0."""


@quiet
def segment_tree(d: Array | None, r: Array, step: Step = added) -> Array:
    """Z of one segment of at least one record.

    Example:
        >>> segment_tree(np.array([1.0]), np.array([[2.0], [4.0]]))
        array([7.])

    Args:
        d: [...] acc, or None to start from the first record.
        r: [m, ...] acc, m > 0.
        step: `added` or `multiplied`.

    Returns:
        [...] acc.

    Source: csrc/README.md, DSEG-1.
    """
    y = [fold(r[0], r[1:CHUNK], step) if d is None else fold(d, r[:CHUNK], step)]
    y += [fold(r[at], r[at + 1 : at + CHUNK], step) for at in range(CHUNK, len(r), CHUNK)]
    while len(y) > 1:
        y = [fold(y[at], y[at + 1 : at + CHUNK], step) for at in range(0, len(y), CHUNK)]
    return y[0]


def fold(s: Array, z: Array | list[Array], step: Step) -> Array:
    """FOLD: s with every z, left to right."""
    for element in z:
        s = step(s, element)
    return s


@quiet
def multiplied(x: Array, y: Array) -> Array:
    """x * y; int64 wraps."""
    return fma(x, y, np.zeros_like(x)) if x.dtype == np.int64 else x * y


@quiet
def extreme(z: Array, largest: bool) -> Array:
    """amax or amin along the first axis: NaN wins, -0.0 is below +0.0: [m, ...] to [...], m > 0."""
    at = (np.argmax if largest else np.argmin)(places(z), axis=0)
    picked = np.take_along_axis(z, at[None], axis=0)[0]
    return np.where(np.isnan(z).any(axis=0), z.dtype.type(np.nan), picked) if z.dtype.kind == "f" else picked


def combined(d: Array, index: Array, records: Array, how: Combine = "sum", include_self: bool = True) -> Combined:
    """Z, amax or amin of every segment; a destination without records keeps `d`.

    Args:
        d: [size, ...] acc.
        index: [n] int64, within 0 .. size - 1.
        records: [n, ...] acc.
        how: "sum", "prod", "amax" or "amin".
        include_self: False leaves out `d` where there is a record.
    """
    counts = np.bincount(index, minlength=len(d)).astype(np.int64)
    if how in ("sum", "prod"):
        return Combined(_trees(d, index, records, added if how == "sum" else multiplied, include_self), counts)
    value = d.copy()
    order = np.argsort(index, kind="stable")
    begins = np.searchsorted(index[order], np.arange(len(d)))
    for j in np.flatnonzero(counts).tolist():
        r = records[order[begins[j] : begins[j] + counts[j]]]
        value[j] = extreme(np.concatenate([d[j][None], r]) if include_self else r, how == "amax")
    return Combined(value, counts)


@quiet
def _trees(d: Array, index: Array, records: Array, step: Step, include_self: bool) -> Array:
    """`segment_tree` of all segments at once: every chunk of a level takes its next record in the same step."""
    value, to, r, at_records = d.copy(), index, records, True
    while True:
        order = np.argsort(to, kind="stable")
        to, r = to[order], r[order]
        rank = np.arange(len(to)) - np.searchsorted(to, to)
        heads = np.flatnonzero(rank % CHUNK == 0)
        lengths = np.diff(heads, append=len(to))
        y = r[heads]
        if at_records and include_self:
            first = rank[heads] == 0
            y[first] = step(d[to[heads[first]]], y[first])
        for q in range(1, max(lengths, default=0)):
            longer = lengths > q
            y[longer] = step(y[longer], r[heads[longer] + q])
        to, r, at_records = to[heads], y, False
        if len(np.unique(to)) == len(to):
            value[to] = r
            return value


def last_records(index: Array, size: int) -> Array:
    """[size] int64: the position of the last record of every destination, -1 where there is none."""
    last = np.full(size, -1, np.int64)
    np.maximum.at(last, index, np.arange(len(index)))
    return last


@quiet
def divided(z: Array, counts: Array) -> Array:
    """z / N with N = round_acc(counts), counts along the first axes; int64 floors."""
    n = counts.reshape(counts.shape + (1,) * (z.ndim - counts.ndim))
    return z // n if z.dtype == np.int64 else z / n.astype(z.dtype)


def chosen(z: Array, y: Array) -> Array:
    """Where z is what amax or amin gave: equal numbers, or both NaN."""
    return (z == y) | ((z != z) & (y != y))


def segment_offsets(n: int, lengths: Array | None = None, offsets: Array | None = None) -> Array:
    """[segments + 1] int64 from either argument, checked against the n records.

    Raises:
        ValueError: if not exactly one is given, or for lengths or offsets that do not fit.
    """
    if (lengths is None) == (offsets is None):
        raise ValueError("expected either lengths or offsets")
    if lengths is not None:
        ends = cumsum_rows(lengths.astype(np.int64)[None, :])[0]
        offsets = np.concatenate([np.zeros(1, np.int64), ends])
        if (lengths < 0).any() or offsets[-1] != n:
            raise ValueError(f"expected lengths of at least 0 that sum to {n}, got {lengths.tolist()}")
    assert offsets is not None
    if len(offsets) == 0 or (np.diff(offsets) < 0).any() or offsets[0] < 0 or offsets[-1] > n:
        raise ValueError(f"expected ascending offsets from 0 to {n}, got {offsets.tolist()}")
    return offsets.astype(np.int64)


@quiet
def segment_sum(z: Array, offsets: Array) -> Array:
    """Z(+0.0, r) of every segment.

    Args:
        z: [n, ...] acc.
        offsets: [segments + 1] of `segment_offsets`.

    Returns:
        [segments, ...] acc; +0.0 where a segment is empty.
    """
    out = np.zeros((len(offsets) - 1, *z.shape[1:]), z.dtype)
    for j, r in _segments(z, offsets):
        out[j] = segment_tree(out[j], r)
    return out


def segment_mean(z: Array, offsets: Array) -> Array:
    """Z(+0.0, r) / N: as `segment_sum`; NaN where a segment is empty."""
    return divided(segment_sum(z, offsets), np.diff(offsets))


def segment_max(z: Array, offsets: Array) -> Array:
    """amax of every segment: as `segment_sum`; -inf where a segment is empty."""
    out = np.full((len(offsets) - 1, *z.shape[1:]), -np.inf, z.dtype)
    for j, r in _segments(z, offsets):
        out[j] = extreme(r, largest=True)
    return out


def segment_sum_backward(g: Array, n: int, offsets: Array) -> Array:
    """g of its segment for every record, +0.0 for one in no segment: [segments, ...] to [n, ...]."""
    out = np.zeros((n, *g.shape[1:]), g.dtype)
    for j in range(len(g)):
        out[offsets[j] : offsets[j + 1]] = g[j]
    return out


def segment_mean_backward(g: Array, n: int, offsets: Array) -> Array:
    """g / N: as `segment_sum_backward`."""
    return segment_sum_backward(divided(g, np.diff(offsets)), n, offsets)


@quiet
def segment_max_backward(g: Array, z: Array, y: Array, offsets: Array) -> Array:
    """g / N where chosen, else +0.0.

    Args:
        g, y: [segments, ...] acc; y is the result.
        z: [n, ...] acc.
    """
    out = np.zeros_like(z)
    for j, r in _segments(z, offsets):
        hit = chosen(r, y[j])
        share = g[j] / np.count_nonzero(hit, axis=0).astype(z.dtype)
        out[offsets[j] : offsets[j + 1]] = np.where(hit, share, in_acc(0, z))
    return out


def _segments(z: Array, offsets: Array) -> Iterator[tuple[int, Array]]:
    """Every segment that is not empty."""
    for j in range(len(offsets) - 1):
        if offsets[j] < offsets[j + 1]:
            yield j, z[offsets[j] : offsets[j + 1]]
