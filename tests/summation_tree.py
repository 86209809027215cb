"""Which additions a sum is made of: the tree that csrc/README.md writes, and the tree that an op's results give away.

The written one: DSUM-1 and DSCAN-1 retold on sets of leaves in the place of numbers. The recovered one: of n ones, the
i-th is replaced by a huge number and the j-th by its negative. Ones that are added to either of them vanish, until the
two meet and cancel; so the result counts the leaves that are not under the lowest common ancestor of i and j.

A witness of its own: it shares no code with detprobe.probes.reduction_order, whose tests compare what they recover from
detprobe.ops.sum with the written tree of this file, and it asks many pairs in one call, as rows of a batch.

Source of the idea: P. Xie et al., Revealing Floating-Point Accumulation Orders in Software/Hardware Implementations,
USENIX ATC 2025 (FPRev).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

HUGE = {torch.float32: 2.0**127, torch.float64: 2.0**1023}
Leaves = np.ndarray | None
"""The leaves under a node; None is a lane that nothing was added to."""


class Meetings:
    """sizes[i, j]: how many leaves are under the lowest common ancestor of i and j."""

    def __init__(self, n: int) -> None:
        self.sizes = np.zeros((n, n), np.int16)

    def add(self, x: Leaves, y: Leaves) -> Leaves:
        if x is None or y is None:
            return y if x is None else x
        size = len(x) + len(y)
        self.sizes[np.ix_(x, y)] = size
        self.sizes[np.ix_(y, x)] = size
        return np.concatenate([x, y])


@cache
def sum_tree(n: int) -> np.ndarray:
    """[n, n] meetings of S."""
    tree = Meetings(n)

    def block(z: list[Leaves]) -> Leaves:
        s: list[Leaves] = [None] * 32
        for i, leaf in enumerate(z):
            s[i % 32] = tree.add(s[i % 32], leaf)
        for h in (16, 8, 4, 2, 1):
            s = [tree.add(s[lane], s[lane + h]) for lane in range(h)]
        return s[0]

    level: list[Leaves] = [np.array([i]) for i in range(n)]
    while True:
        level = [block(level[at : at + 1024]) for at in range(0, len(level), 1024)]
        if len(level) == 1:
            return tree.sizes


def scan_tree(n: int) -> np.ndarray:
    """[n, n] meetings of the last element of G, for n of at most 1024 tiles."""
    tree = Meetings(n)

    def chain(z: list[Leaves]) -> Leaves:
        total = z[0]
        for leaf in z[1:]:
            total = tree.add(total, leaf)
        return total

    def tile(z: list[Leaves]) -> Leaves:
        return chain([chain(z[at : at + 32]) for at in range(0, len(z), 32)])

    leaves: list[Leaves] = [np.array([i]) for i in range(n)]
    tiles = [leaves[at : at + 1024] for at in range(0, n, 1024)]
    before = tile([tile(one) for one in tiles[:-1]]) if len(tiles) > 1 else None
    tree.add(before, tile(tiles[-1]))
    return tree.sizes


def masses(dtype: torch.dtype, n: int, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """[pairs, n]: ones, but for the two of each pair."""
    x = torch.ones(len(pairs), n, dtype=dtype)
    rows, (i, j) = torch.arange(len(pairs)), torch.tensor(pairs).T
    x[rows, i], x[rows, j] = HUGE[dtype], -HUGE[dtype]
    return x


def recovered(total: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """[pairs] meetings that the sums of the rows of `x` give away."""
    return x.shape[1] - total(x).double().numpy().astype(np.int64)
