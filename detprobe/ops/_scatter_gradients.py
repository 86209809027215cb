"""The gradients of scatter_reduce: csrc/README.md, "The scatter ops, backward".

They are made of ops of the family and of single rounded operations in acc, so they have gradients of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detprobe.ops._autograd import acc, rounded, wide, zeros
from detprobe.ops._native import OPS

__all__ = ["grown", "of_scatter"]

Pair = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class _Places:
    """Where the records of a scatter go."""

    shape: Sequence[int]
    """Of the destinations."""
    dim: int
    index: Tensor
    plan: Sequence[Tensor]

    def read(self, t: Tensor) -> Tensor:
        """For every record, what stands at its destination."""
        return OPS.gather.default(t, self.dim, self.index, self.plan)

    def add(self, x: Tensor, records: Tensor, reduce: str = "sum", include_self: bool = True) -> Tensor:
        return OPS.scatter_reduce.default(x, self.dim, self.index, records, reduce, include_self, self.plan)

    def count(self, records: Tensor | None = None) -> Tensor:
        """How many records of each destination are True; all of them without an argument."""
        ones = self.index.new_ones((), dtype=torch.int64)
        which = ones.expand(self.index.shape) if records is None else records.to(torch.int64)
        return self.add(zeros(ones, self.shape), which)


def of_scatter(
    g: Tensor,
    dim: int,
    index: Tensor,
    plan: Sequence[Tensor],
    reduce: str,
    include_self: bool,
    values: Sequence[Tensor],
    src_shape: Sequence[int],
    wanted: tuple[bool, bool],
) -> Pair:
    """The gradients of x and src: g `[...]` of the shape of x.

    Args:
        values: x, src and the result, for prod, amax and amin.
        wanted: which of both.
    """
    if index.numel() == 0:
        return g, zeros(g, src_shape).clone() if wanted[1] else None
    to = _Places(g.shape, dim, index, plan)
    if reduce == "sum":
        of_x: Tensor | None = g
        if wanted[0] and not include_self:
            of_x = g.masked_fill(to.count() > 0, 0.0)
        of_src = to.read(g) if wanted[1] else None
    elif reduce == "mean":
        of_x, of_src = _of_mean(g, to, include_self, wanted)
    else:
        x, src, y = values
        r = src[tuple(slice(n) for n in index.shape)] if src.shape != index.shape else src
        if reduce == "prod":
            of_x, of_src = _of_factors(g, to, x, r, include_self, wanted)
        else:
            of_x, of_src = _of_extremes(g, to, x, r, y, include_self, wanted)
    return of_x, None if of_src is None else grown(of_src, src_shape)


def grown(t: Tensor, shape: Sequence[int]) -> Tensor:
    """With +0.0 behind it along every dimension, up to a shape."""
    if tuple(t.shape) == tuple(shape):
        return t
    behind = [n - m for n, m in zip(shape, t.shape, strict=True)]
    return F.pad(t, [one for n in reversed(behind) for one in (0, n)])


def _of_x(g: Tensor, m: Tensor, share: Tensor | None) -> Tensor:
    """What is not touched has g, its bits copied."""
    return g.masked_fill(m > 0, 0.0) if share is None else torch.where(m > 0, share, g)


def _of_mean(g: Tensor, to: _Places, include_self: bool, wanted: tuple[bool, bool]) -> Pair:
    m = to.count()
    n = (m + 1 if include_self else m.clamp(min=1)).to(acc(g.dtype))
    share = rounded(wide(g) / n, g.dtype)
    of_x = _of_x(g, m, share if include_self else None) if wanted[0] else None
    return of_x, to.read(share) if wanted[1] else None


def _of_extremes(
    g: Tensor, to: _Places, x: Tensor, r: Tensor, y: Tensor, include_self: bool, wanted: tuple[bool, bool]
) -> Pair:
    of_x, of_r = _chosen(x, y), _chosen(r, to.read(y))
    n = to.count(of_r)
    if include_self:
        n = n + of_x
    share = rounded(wide(g) / n.clamp(min=1).to(acc(g.dtype)), g.dtype)
    mine = share.masked_fill(~of_x, 0.0) if include_self else None
    return (
        _of_x(g, to.count(), mine) if wanted[0] else None,
        to.read(share).masked_fill(~of_r, 0.0) if wanted[1] else None,
    )


def _chosen(z: Tensor, y: Tensor) -> Tensor:
    return (z == y) | ((z != z) & (y != y))


class _Product(NamedTuple):
    """Q, V and o of the contract, and a +0.0 whose gradient is that of the sum of the factors that are zero.

    With o zeros, every entry of the second derivative is a product without two factors: only with o up to 2 one of
    them is not zero. That is what `nil` is for; no bit of the first gradient depends on it.
    """

    g: Tensor
    q: Tensor
    zeros: Tensor
    nil: Tensor

    def gradient(self, z: Tensor) -> Tensor:
        is_zero = z == 0
        nothing = self.q * 0.0
        one, two = self.zeros == 1, self.zeros == 2
        v = torch.where(self.zeros == 0, self.q, torch.where(one, self.q * self.nil, nothing))
        without = torch.where(one, self.q, torch.where(two, self.q * (self.nil - z), nothing))
        return torch.where(is_zero, self.g * without, (self.g * v) / z.masked_fill(is_zero, 1.0))


def _of_factors(g: Tensor, to: _Places, x: Tensor, r: Tensor, include_self: bool, wanted: tuple[bool, bool]) -> Pair:
    d, z, g_wide = wide(x), wide(r), wide(g)
    no_d, no_z = d == 0, z == 0
    q = to.add(d.masked_fill(no_d, 1.0), z.masked_fill(no_z, 1.0), "prod", include_self)
    count, nil = to.count(no_z), zeros(q, q.shape)
    if include_self:
        count = count + no_d
    if torch.is_grad_enabled():
        total = to.add(d.masked_fill(~no_d, 0.0) if include_self else nil, z.masked_fill(~no_z, 0.0))
        nil = total - total.detach()
    of_x = of_r = None
    if wanted[0]:
        mine = rounded(_Product(g_wide, q, count, nil).gradient(d), g.dtype) if include_self else None
        of_x = _of_x(g, to.count(), mine)
    if wanted[1]:
        of_r = rounded(_Product(*(to.read(one) for one in (g_wide, q, count, nil))).gradient(z), g.dtype)
    return of_x, of_r
