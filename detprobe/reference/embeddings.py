"""embedding and embedding_bag with their gradients, on rows of weight in acc.

The records of a bag, and the records of a row of weight, are combined by DSEG-1 in the order of the index. A record
that is padding or in no bag is no record.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.order import places, sum_products
from detprobe.reference.scatter import checked
from detprobe.reference.segments import combined, divided

__all__ = ["Bag", "bag_of_records", "embedding", "embedding_backward", "embedding_bag", "embedding_bag_backward"]

Mode = Literal["sum", "mean", "max"]


class Bag(NamedTuple):
    """The gradients of embedding_bag."""

    weight: Array
    """[rows, D] acc."""
    per_sample_weights: Array | None
    """[n] acc."""


def embedding(weight: Array, index: Array) -> Array:
    """A copy of the row of every index: [rows, D] of any dtype and [...] to [..., D]."""
    return weight[checked(index, len(weight))].reshape(*index.shape, weight.shape[1])


def embedding_backward(
    g: Array, rows: int, index: Array, padding_idx: int | None = None, scale_grad_by_freq: bool = False
) -> Array:
    """Z(+0.0, g), divided by the count of its records where that is asked for.

    Args:
        g: [..., D] acc.
        rows: those of weight.
        index: [...] integers.
        padding_idx: the row that has no gradient; a negative one counts from the end.

    Returns:
        [rows, D] acc.

    Source: csrc/README.md, "The scatter ops, backward".
    """
    to, records = checked(index, rows), g.reshape(-1, g.shape[-1])
    counts = np.ones(len(to), np.bool_) if padding_idx is None else to != padding_idx % rows
    return _of_weight(to[counts], records[counts], rows, scale_grad_by_freq)


def _of_weight(to: Array, records: Array, rows: int, scale_grad_by_freq: bool) -> Array:
    total, m = combined(np.zeros((rows, records.shape[1]), records.dtype), to, records)
    return divided(total, np.maximum(m, 1)) if scale_grad_by_freq else total


def bag_of_records(offsets: Array, n: int, include_last_offset: bool = False) -> tuple[Array, int]:
    """The bag of each of n records, -1 for those in none; and how many bags there are.

    Raises:
        ValueError: for offsets that do not start at 0, descend, or go beyond n.
    """
    bags = len(offsets) - include_last_offset
    if bags < 0 or (len(offsets) and offsets[0] != 0) or (np.diff(offsets) < 0).any() or (offsets > n).any():
        raise ValueError(f"expected ascending offsets from 0 to at most {n}, got {offsets.tolist()}")
    ends = offsets[1:] if include_last_offset else np.concatenate([offsets[1:], np.full(min(bags, 1), n)])
    bag = np.full(n, -1, np.int64)
    for b in range(bags):
        bag[offsets[b] : ends[b]] = b
    return bag, bags


class _Records(NamedTuple):
    """The records that count."""

    position: Array
    """[m] in the index, ascending."""
    bag: Array
    """[m]"""
    row: Array
    """[m] of weight."""
    bags: int


def _records(rows: int, index: Array, offsets: Array, padding_idx: int | None, include_last_offset: bool) -> _Records:
    to = checked(index, rows)
    bag, bags = bag_of_records(offsets, len(to), include_last_offset)
    counts = bag >= 0 if padding_idx is None else (bag >= 0) & (to != padding_idx % rows)
    return _Records(np.flatnonzero(counts), bag[counts], to[counts], bags)


@quiet
def embedding_bag(
    weight: Array,
    index: Array,
    offsets: Array,
    mode: Mode = "mean",
    *,
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Array:
    """Z(+0.0, r), its mean, or amax of the rows of every bag; +0.0 where a bag is empty.

    Args:
        weight: [rows, D] acc.
        index: [n] integers.
        offsets: [bags] integers, the begin of every bag; [bags + 1] with include_last_offset.
        per_sample_weights: [n] acc, only for "sum".
        padding_idx: the row that is no record; a negative one counts from the end.

    Returns:
        [bags, D] acc.

    Source: csrc/README.md, "The scatter ops, forward".
    """
    if per_sample_weights is not None and mode != "sum":
        raise ValueError(f"per_sample_weights go with mode 'sum', got {mode!r}")
    records = _records(len(weight), index, offsets, padding_idx, include_last_offset)
    r = weight[records.row]
    if per_sample_weights is not None:
        r = per_sample_weights[records.position][:, None] * r
    zeros = np.zeros((records.bags, weight.shape[1]), weight.dtype)
    if mode == "max":
        return combined(zeros, records.bag, r, "amax", include_self=False).value
    total, m = combined(zeros, records.bag, r)
    return divided(total, np.maximum(m, 1)) if mode == "mean" else total


@quiet
def embedding_bag_backward(
    g: Array,
    weight: Array,
    index: Array,
    offsets: Array,
    mode: Mode = "mean",
    *,
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
) -> Bag:
    """The gradients of weight and per_sample_weights.

    Args:
        g: [bags, D] acc.
        scale_grad_by_freq: not for "max".
        The others: as `embedding_bag`.
    """
    if scale_grad_by_freq and mode == "max":
        raise ValueError("scale_grad_by_freq does not go with mode 'max'")
    records = _records(len(weight), index, offsets, padding_idx, include_last_offset)
    if mode == "max":
        return Bag(_of_winners(g, weight, records), None)
    if mode == "mean":
        g = divided(g, np.maximum(np.bincount(records.bag, minlength=records.bags), 1))
    r, of_samples = g[records.bag], None
    if per_sample_weights is not None:
        of_samples = np.zeros_like(per_sample_weights)
        of_samples[records.position] = sum_products(r, weight[records.row])
        r = per_sample_weights[records.position][:, None] * r
    return Bag(_of_weight(records.row, r, len(weight), scale_grad_by_freq), of_samples)


def _of_winners(g: Array, weight: Array, records: _Records) -> Array:
    """Every column by itself: a bag gives its g to the row that won there."""
    out = np.zeros_like(weight)
    filled = np.unique(records.bag)
    for column in range(weight.shape[1]):
        winners = [_winner(weight[records.row[records.bag == b], column]) for b in filled]
        rows = [records.row[records.bag == b][at] for b, at in zip(filled, winners, strict=True)]
        out[:, column] = combined(in_acc(0, g).repeat(len(weight)), np.array(rows, np.int64), g[filled, column]).value
    return out


def _winner(z: Array) -> int:
    """The first NaN, else the first of the largest."""
    lost = np.isnan(z)
    return int(np.argmax(lost) if lost.any() else np.argmax(places(z)))
