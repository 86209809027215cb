"""The scatter ops, forward: torch's arguments as arrays of acc, brought down to rows of records and destinations.

What is added, multiplied or compared gives a `Scattered`, in acc, which `store` rounds and lays over the stored
destination, so that what no record touched keeps its bits. The ops in which the last record wins copy bits; they take
arrays of any dtype as they are stored.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from detprobe.reference.formats import Array, in_acc, narrow, quiet
from detprobe.reference.segments import combined, divided, last_records, multiplied

__all__ = [
    *("Reduce", "Rows", "Scattered", "advanced_rows", "checked", "element_rows", "front", "gather", "index_add"),
    *("index_copy", "index_put", "index_put_accumulate", "index_rows", "put", "put_accumulate", "scatter_add"),
    *("scatter_reduce", "store", "take_rows"),
]

Reduce = Literal["sum", "prod", "mean", "amax", "amin"]


class Scattered(NamedTuple):
    """A result before its one rounding."""

    value: Array
    """[...] acc, of the shape of x."""
    touched: Array
    """[...] bool: where a record came."""


class Rows(NamedTuple):
    """How an index splits x into destinations."""

    to: Array
    """[n] int64: the row that each record goes to, in source order."""
    axes: tuple[int, ...]
    """The axes of x in another order: those that make up the row's number, then those of the columns."""
    split: int
    """How many of `axes` make up the row's number."""

    def of(self, x: Array) -> Array:
        """x as [rows, columns ...]."""
        turned = x.transpose(self.axes)
        return turned.reshape(-1 if x.size else int(np.prod(turned.shape[: self.split])), *turned.shape[self.split :])

    def back(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """[rows, columns ...] as an array of the shape of x."""
        turned = tuple(shape[axis] for axis in self.axes)
        return rows.reshape(turned).transpose(np.argsort(np.array(self.axes, np.int64)))


def store(result: Scattered, x: Array, name: str) -> Array:
    """The stored result: rounded once where touched, the bits of `x` elsewhere.

    Args:
        x: the stored destination, as `widen` takes it.
        name: its dtype.
    """
    return np.where(result.touched, narrow(result.value, name), x)


def checked(index: Array, size: int, negative: bool = False) -> Array:
    """The index as [n] int64 within 0 .. size - 1, row-major.

    Args:
        negative: -size .. -1 count from the end.

    Raises:
        IndexError: naming the first position, its value and the size.
    """
    flat = index.reshape(-1).astype(np.int64)
    outside = (flat < (-size if negative else 0)) | (flat >= size)
    if outside.any():
        at = int(np.argmax(outside))
        raise IndexError(f"index {flat[at]} at position {at} is out of range for size {size}")
    return np.where(flat < 0, flat + size, flat)


def front(dim: int, ndim: int) -> tuple[int, ...]:
    """The axes with `dim` first."""
    dim = dim % ndim
    return (dim, *(axis for axis in range(ndim) if axis != dim))


def index_rows(shape: tuple[int, ...], dim: int, index: Array) -> Rows:
    """Slices along `dim`: index_add, index_copy, index_select."""
    axes = front(dim, len(shape))
    return Rows(checked(index, shape[axes[0]]), axes, 1)


def element_rows(shape: tuple[int, ...], dim: int, index: Array) -> Rows:
    """Single elements: scatter_add, scatter_reduce, gather. `index` has as many dimensions as `shape`."""
    dim = dim % len(shape)
    target = checked(index, shape[dim])
    places = [target if axis == dim else at.reshape(-1) for axis, at in enumerate(np.indices(index.shape))]
    flat = np.ravel_multi_index(tuple(places), shape) if target.size else np.zeros(0, np.int64)
    return Rows(flat, tuple(range(len(shape))), len(shape))


def take_rows(shape: tuple[int, ...], index: Array) -> Rows:
    """Single elements by logical index: put, take."""
    return Rows(checked(index, int(np.prod(shape)), negative=True), tuple(range(len(shape))), len(shape))


def advanced_rows(shape: tuple[int, ...], indices: Sequence[Array | None]) -> tuple[Rows, tuple[int, ...], int]:
    """Slices by several indices at once: index_put and the advanced index.

    Args:
        indices: for the dimensions in turn an integer array, a bool mask over one or more, or None.

    Returns:
        The rows, the shape of the broadcast index, and the place of its first dimension in the result.
    """
    tensors: dict[int, Array] = {}
    dim = 0
    for index in indices:
        if index is None:
            dim += 1
        elif index.dtype == np.bool_:
            if index.shape != shape[dim : dim + index.ndim]:
                raise IndexError(f"expected a mask {list(shape[dim : dim + index.ndim])}, got {list(index.shape)}")
            tensors.update(enumerate(np.nonzero(index), dim))
            dim += index.ndim
        else:
            tensors[dim] = index
            dim += 1
    each = np.broadcast_arrays(*tensors.values())
    dims = tuple(tensors)
    adjacent = dims == tuple(range(dims[0], dims[0] + len(dims)))
    row = np.zeros(each[0].size, np.int64)
    for axis, index in zip(dims, each, strict=True):
        row = row * shape[axis] + checked(index, shape[axis], negative=True)
    axes = dims + tuple(axis for axis in range(len(shape)) if axis not in dims)
    return Rows(row, axes, len(dims)), each[0].shape, dims[0] if adjacent else 0


def records_of(values: Array, shape: tuple[int, ...], rows: Rows, index_shape: tuple[int, ...], at: int) -> Array:
    """Values, broadcast as index_put does, as [n, columns ...]."""
    columns = [shape[axis] for axis in rows.axes[rows.split :]]
    whole = np.broadcast_to(values, (*columns[:at], *index_shape, *columns[at:]))
    ahead = range(at, at + len(index_shape))
    turned = np.moveaxis(whole, tuple(ahead), tuple(range(len(index_shape))))
    return turned.reshape(len(rows.to), *columns)


def _scattered(x: Array, rows: Rows, records: Array) -> Scattered:
    value, counts = combined(rows.of(x), rows.to, records)
    return _spread(x, rows, value, counts)


def _spread(x: Array, rows: Rows, value: Array, counts: Array) -> Scattered:
    touched = (counts > 0).reshape(len(counts), *(1,) * (value.ndim - 1))
    return Scattered(rows.back(value, x.shape), rows.back(np.broadcast_to(touched, value.shape), x.shape))


@quiet
def index_add(x: Array, dim: int, index: Array, source: Array, alpha: float = 1) -> Scattered:
    """Z(d, a * r[i]).

    Args:
        x: [...] acc.
        index: [n] or [] integers.
        source: [...] acc, of the shape of x but for n along `dim`.
        alpha: before it is rounded to acc; an integer for int64.

    Raises:
        IndexError: for an index out of range.

    Source: csrc/README.md, "The scatter ops, forward".
    """
    if x.dtype == np.int64 and alpha != int(alpha):
        raise ValueError(f"expected an integer alpha for integers, got {alpha}")
    rows = index_rows(x.shape, dim, index)
    records = source.transpose(rows.axes)
    if alpha != 1:
        records = multiplied(in_acc(alpha, x), records)
    return _scattered(x, rows, records)


def scatter_add(x: Array, dim: int, index: Array, src: Array) -> Scattered:
    """Z(d, r): as `scatter_reduce` with "sum"."""
    return scatter_reduce(x, dim, index, src, "sum")


def scatter_reduce(
    x: Array, dim: int, index: Array, src: Array, reduce: Reduce, include_self: bool = True
) -> Scattered:
    """Z(d, r), of sums or products; the mean; amax or amin.

    Args:
        x: [...] acc.
        index: [...] integers, in no dimension larger than src, and than x but for `dim`.
        src: [...] acc.
        reduce: "sum", "prod", "mean", "amax" or "amin".
        include_self: False leaves out `d` where there is a record.
    """
    rows = element_rows(x.shape, dim, index)
    records = src[tuple(slice(n) for n in index.shape)].reshape(-1)
    value, counts = combined(rows.of(x), rows.to, records, "sum" if reduce == "mean" else reduce, include_self)
    if reduce == "mean":
        value = divided(value, np.maximum(counts + include_self, 1))  # by 1 where no record came
    return _spread(x, rows, value, counts)


def index_put_accumulate(x: Array, indices: Sequence[Array | None], values: Array) -> Scattered:
    """Z(d, r), r in the order of the broadcast index.

    Args:
        x: [...] acc.
        indices: as `advanced_rows`.
        values: [...] acc, broadcast to the shape of x[indices].
    """
    rows, index_shape, at = advanced_rows(x.shape, indices)
    return _scattered(x, rows, records_of(values, x.shape, rows, index_shape, at))


def put_accumulate(x: Array, index: Array, source: Array) -> Scattered:
    """Z(d, r): [...] acc, an index of any shape, and as many elements of source."""
    return _scattered(x, take_rows(x.shape, index), source.reshape(-1))


def _copied(x: Array, rows: Rows, records: Array) -> Array:
    out = rows.of(x).copy()
    last = last_records(rows.to, len(out))
    out[last >= 0] = records[last[last >= 0]]
    return rows.back(out, x.shape)


def index_copy(x: Array, dim: int, index: Array, source: Array) -> Array:
    """The last record of every slice, bits copied: arguments as `index_add`, of any dtype."""
    rows = index_rows(x.shape, dim, index)
    return _copied(x, rows, source.transpose(rows.axes))


def index_put(x: Array, indices: Sequence[Array | None], values: Array) -> Array:
    """The last record of every slice, bits copied: arguments as `index_put_accumulate`, of any dtype."""
    rows, index_shape, at = advanced_rows(x.shape, indices)
    return _copied(x, rows, records_of(values, x.shape, rows, index_shape, at))


def put(x: Array, index: Array, source: Array) -> Array:
    """The last record of every element, bits copied: arguments as `put_accumulate`, of any dtype."""
    return _copied(x, take_rows(x.shape, index), source.reshape(-1))


def gather(x: Array, dim: int, index: Array) -> Array:
    """x at the positions of the index, bits copied: any dtype; shapes as `scatter_reduce`."""
    return x.reshape(-1)[element_rows(x.shape, dim, index).to].reshape(index.shape)
