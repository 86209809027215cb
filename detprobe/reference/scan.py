"""DSCAN-1: inclusive prefix sums of rows, in strips of 32 and tiles of 1024, tiles joined by the same scan."""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

import numpy as np

from detprobe.reference.formats import Array, quiet
from detprobe.reference.order import added, length_of

__all__ = ["cumsum_rows"]

STRIP = 32
TILE = 1024


@quiet
def cumsum_rows(z: Array, reverse: bool = False) -> Array:
    """G of every row.

    Example:
        >>> cumsum_rows(np.array([[1.0, 2.0, 4.0]]))
        array([[1., 3., 7.]])

    Args:
        z: [rows, n] acc.
        reverse: read from the last element to the first, and write back in that order.

    Returns:
        [rows, n] acc.

    Source: csrc/README.md, DSCAN-1.
    """
    if reverse:
        return cumsum_rows(z[:, ::-1])[:, ::-1]
    n = length_of(z)
    if n == 0:
        return z.copy()
    rows, tiles = len(z), -(-n // TILE)
    strips = TILE // STRIP if tiles > 1 else -(-n // STRIP)
    # The end is filled up. What stands after the last element of a row comes into no result before it.
    filled = np.full((rows, tiles * strips * STRIP), -0.0).astype(z.dtype)
    filled[:, :n] = z
    p = filled.reshape(rows, tiles, strips, STRIP)
    for i in range(1, STRIP):
        p[..., i] = added(p[..., i - 1], p[..., i])
    e = p[..., STRIP - 1].copy()  # T
    for s in range(1, strips):
        e[..., s] = added(e[..., s - 1], e[..., s])
    q = p.copy()
    q[..., 1:, :] = added(e[..., :-1, None], p[..., 1:, :])
    if tiles > 1:
        v = cumsum_rows(q[..., -1, -1])
        q[:, 1:] = added(v[:, :-1, None, None], q[:, 1:])
    return q.reshape(rows, tiles * strips * STRIP)[:, :n]
