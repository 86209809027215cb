"""DSUM-1: the order in which a row is summed, for many rows at once; and maximum and minimum of rows.

Rows lie along the last axis of a [rows, n] array of acc. What is computed together belongs to other rows, blocks or
lanes, which the written order never lets meet; within a lane elements are added one after the other.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detprobe.reference.arithmetic import fma
from detprobe.reference.formats import Array, quiet

__all__ = ["added", "largest_rows", "length_of", "max_rows", "min_rows", "places", "sum_products", "sum_rows"]

LANES = 32
BLOCK = 1024

# A lane with the next element of every input added to it.
Leaf = Callable[[list[Array], Array], Array]


@quiet
def sum_rows(z: Array) -> Array:
    """S of every row.

    Example:
        >>> sum_rows(np.ones((1, 3), np.float32))
        array([3.], dtype=float32)

    Args:
        z: [rows, n] acc.

    Returns:
        [rows] acc; +0.0 where n is 0.

    Source: csrc/README.md, DSUM-1.
    """
    n = length_of(z)
    if n == 0:
        return np.zeros(len(z), z.dtype)
    y = _blocks(lambda z, s: added(s, z[0]), z)
    return y[:, 0] if y.shape[1] == 1 else sum_rows(y)


@quiet
def sum_products(a: Array, b: Array) -> Array:
    """P of every row: S with the leaf fma(a[i], b[i], s).

    Args:
        a, b: [rows, n] acc.

    Returns:
        [rows] acc; +0.0 where n is 0.

    Source: csrc/README.md, DSUM-1.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"expected one shape and dtype, got {a.dtype}{a.shape} and {b.dtype}{b.shape}")
    n = length_of(a)
    if n == 0:
        return np.zeros(len(a), a.dtype)
    y = _blocks(lambda z, s: fma(z[0], z[1], s), a, b)
    return y[:, 0] if y.shape[1] == 1 else sum_rows(y)


def length_of(z: Array) -> int:
    if z.ndim != 2 or z.dtype not in (np.float32, np.float64, np.int64):
        raise ValueError(f"expected [rows, n] float32, float64 or int64, got {z.dtype}{list(z.shape)}")
    return z.shape[1]


def added(x: Array, y: Array) -> Array:
    if x.dtype != np.int64:
        return x + y
    return (x.astype(np.uint64) + y.astype(np.uint64)).astype(np.int64)


def _blocks(leaf: Leaf, *inputs: Array) -> Array:
    """[rows, ceil(n / 1024)]: BLK of every block of every row."""
    rows, n = inputs[0].shape
    whole = n // BLOCK
    parts = []
    if whole:
        full = [z[:, : whole * BLOCK].reshape(rows * whole, BLOCK) for z in inputs]
        parts.append(_block(leaf, full).reshape(rows, whole))
    if n % BLOCK:
        parts.append(_block(leaf, [z[:, whole * BLOCK :] for z in inputs])[:, None])
    return np.concatenate(parts, axis=1)


def _block(leaf: Leaf, inputs: list[Array]) -> Array:
    """BLK of rows of at most 1024 elements; `leaf` adds the next element of each lane to it."""
    rows, k = inputs[0].shape
    s = np.full((rows, LANES), -0.0).astype(inputs[0].dtype)
    for i in range(0, k, LANES):
        stripe = [z[:, i : i + LANES] for z in inputs]
        width = stripe[0].shape[1]
        s[:, :width] = leaf(stripe, s[:, :width])
    for h in (16, 8, 4, 2, 1):
        s[:, :h] = added(s[:, :h], s[:, h : 2 * h])
    return s[:, 0]


def max_rows(z: Array) -> Array:
    """The largest element of every row: NaN if there is one; a zero comes as +0.0.

    Args:
        z: [rows, n] float32 or float64, n > 0.

    Returns:
        [rows] acc.
    """
    return _picked(z, np.argmax(_places(z), axis=1)) + z.dtype.type(0)


def largest_rows(z: Array) -> Array:
    """The largest element of every row, NaN passed over; -inf where nothing is left, a zero comes as +0.0."""
    return max_rows(np.where(np.isnan(z), z.dtype.type(-np.inf), z))


def min_rows(z: Array) -> Array:
    """The smallest element of every row: NaN if there is one; a zero comes as +0.0; as `max_rows`."""
    return _picked(z, np.argmin(_places(z), axis=1)) + z.dtype.type(0)


def _places(z: Array) -> Array:
    if length_of(z) == 0:
        raise ValueError("an empty row has no maximum and no minimum")
    return places(z)


def places(z: Array) -> Array:
    """Integers in the order of the numbers, -0.0 before +0.0; those of NaN mean nothing."""
    if z.dtype == np.int64:
        return z
    bits = np.ascontiguousarray(z).view(f"i{z.dtype.itemsize}")
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _picked(z: Array, index: Array) -> Array:
    picked = np.take_along_axis(z, index[:, None], axis=1)[:, 0]
    return np.where(np.isnan(z).any(axis=1), z.dtype.type(np.nan), picked)
