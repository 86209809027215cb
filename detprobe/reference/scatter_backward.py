"""The gradients of the scatter family: the lines of "The scatter ops, backward" in csrc/README.md.

`g` is the gradient of the result in acc, `y` the result, stored in its own dtype and read back. Gradients are in acc,
before their one rounding. What is a copy of `g` in the contract is copied here; the gradient of x of index_add and of
what accumulates is `g` itself, and has no function.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detprobe.reference.formats import Array, in_acc, quiet
from detprobe.reference.scatter import Reduce, Rows, advanced_rows, element_rows, index_rows, records_of, take_rows
from detprobe.reference.segments import chosen, combined, divided, last_records, multiplied

__all__ = [
    *("gather_backward", "index_add_backward", "index_backward", "index_copy_backward", "index_put_backward"),
    *("index_select_backward", "put_backward", "scatter_reduce_backward", "take_backward"),
]


def _summed(shape: tuple[int, ...], rows: Rows, records: Array) -> Array:
    """Z(+0.0, g) for every destination: [...] of `shape`."""
    zeros = np.zeros(shape, records.dtype)
    return rows.back(combined(rows.of(zeros), rows.to, records).value, shape)


def gather_backward(g: Array, shape: tuple[int, ...], dim: int, index: Array) -> Array:
    """Z(+0.0, g): of the shape of index to `shape`, that of x."""
    return _summed(shape, element_rows(shape, dim, index), g.reshape(-1))


def index_select_backward(g: Array, shape: tuple[int, ...], dim: int, index: Array) -> Array:
    """Z(+0.0, g): [..., n, ...] to `shape`, that of x."""
    rows = index_rows(shape, dim, index)
    return _summed(shape, rows, g.transpose(rows.axes))


def index_backward(g: Array, shape: tuple[int, ...], indices: Sequence[Array | None]) -> Array:
    """Z(+0.0, g) of x[indices]: of the shape of that to `shape`, that of x."""
    rows, index_shape, at = advanced_rows(shape, indices)
    return _summed(shape, rows, records_of(g, shape, rows, index_shape, at))


def take_backward(g: Array, shape: tuple[int, ...], index: Array) -> Array:
    """Z(+0.0, g): of the shape of index to `shape`, that of x."""
    return _summed(shape, take_rows(shape, index), g.reshape(-1))


@quiet
def index_add_backward(g: Array, dim: int, index: Array, alpha: float = 1) -> Array:
    """a * g of source, g where alpha is 1: [...] of the shape of x to that of source."""
    rows = index_rows(g.shape, dim, index)
    records = rows.of(g)[rows.to]
    if alpha != 1:
        records = multiplied(in_acc(alpha, g), records)
    return records.transpose(np.argsort(np.array(rows.axes)))


def index_copy_backward(g: Array, dim: int, index: Array) -> tuple[Array, Array]:
    """+0.0 if touched, else g; and g for the last record of a slice, +0.0 for the others: of x and source."""
    rows = index_rows(g.shape, dim, index)
    of_x, records = _of_last(g, rows)
    return of_x, records.transpose(np.argsort(np.array(rows.axes)))


def put_backward(g: Array, index: Array) -> tuple[Array, Array]:
    """As `index_copy_backward`, of put without accumulate: of x and source, the latter of the shape of index."""
    of_x, records = _of_last(g, take_rows(g.shape, index))
    return of_x, records.reshape(index.shape)


def index_put_backward(g: Array, indices: Sequence[Array | None], accumulate: bool) -> tuple[Array, Array]:
    """The gradients of x and of values, the latter of the shape of x[indices]: not yet summed where values broadcast.

    Args:
        g: [...] of the shape of x.
        accumulate: g for both; else as `index_copy_backward`.
    """
    rows, index_shape, at = advanced_rows(g.shape, indices)
    of_x, records = (g.copy(), rows.of(g)[rows.to]) if accumulate else _of_last(g, rows)
    whole = records.reshape(index_shape + records.shape[1:])
    ahead = tuple(range(len(index_shape)))
    return of_x, np.moveaxis(whole, ahead, tuple(at + axis for axis in ahead))


def _of_last(g: Array, rows: Rows) -> tuple[Array, Array]:
    """For x; and for the records, [n, columns ...]."""
    of_x = rows.of(g).copy()
    last = last_records(rows.to, len(of_x))
    records = np.zeros((len(rows.to), *of_x.shape[1:]), g.dtype)
    records[last[last >= 0]] = of_x[last >= 0]
    of_x[last >= 0] = 0
    return rows.back(of_x, g.shape), records


@quiet
def scatter_reduce_backward(
    g: Array, x: Array, dim: int, index: Array, src: Array, y: Array, reduce: Reduce, include_self: bool = True
) -> tuple[Array, Array]:
    """The gradients of x and src; "sum" is that of scatter_add too.

    Args:
        g, x, y: [...] acc of one shape; y is the result.
        The others: as `scatter_reduce`.
    """
    rows = element_rows(x.shape, dim, index)
    inside = tuple(slice(n) for n in index.shape)
    to, r, d, over = rows.to, src[inside].reshape(-1), x.reshape(-1), g.reshape(-1)
    m = np.bincount(to, minlength=x.size)
    if reduce == "sum":
        of_d, of_r = over, over[to]
    elif reduce == "mean":
        share = divided(over, np.maximum(m + include_self, 1))
        of_d, of_r = share, share[to]
    elif reduce == "prod":
        of_d, of_r = _of_factors(over, d, to, r, include_self)
    else:
        of_d, of_r = _of_chosen(over, d, to, r, y.reshape(-1), include_self)
    of_x = np.where(m == 0, over, of_d if include_self else in_acc(0, x))
    of_src = np.zeros_like(src)
    of_src[inside] = of_r.reshape(index.shape)
    return of_x.reshape(x.shape), of_src


def _of_factors(g: Array, d: Array, to: Array, r: Array, include_self: bool) -> tuple[Array, Array]:
    """With Q, V and o of the contract."""
    one, zero = in_acc(1, d), in_acc(0, d)
    factors = [np.where(z == 0, one, z) for z in (d, r)]
    q = combined(factors[0], to, factors[1], "prod", include_self).value
    zeros = np.bincount(to[r == 0], minlength=len(d)) + (include_self & (d == 0))
    v = np.where(zeros == 0, q, q * zero)

    def gradient(z: Array, g: Array, q: Array, v: Array, zeros: Array) -> Array:
        return np.where(z == 0, g * np.where(zeros == 1, q, v), (g * v) / z)

    return gradient(d, g, q, v, zeros), gradient(r, g[to], q[to], v[to], zeros[to])


def _of_chosen(g: Array, d: Array, to: Array, r: Array, y: Array, include_self: bool) -> tuple[Array, Array]:
    of_d, of_r = chosen(d, y) & include_self, chosen(r, y[to])
    n = np.bincount(to[of_r], minlength=len(d)) + of_d
    share = g / n.astype(g.dtype)
    zero = in_acc(0, g)
    return np.where(of_d, share, zero), np.where(of_r, share[to], zero)
