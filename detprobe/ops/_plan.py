"""An index that is sorted once, for graphs and other indices that stay the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentTypeError, ArgumentValueError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import fake
from detprobe.ops._native import OPS

__all__ = ["IndexPlan", "index_plan", "of_index"]


@dataclass(frozen=True, eq=False)
class IndexPlan:
    """An index, and where its records are for each destination; it stands where the index stands."""

    index: Tensor
    """The index itself, of any shape. Writing into it afterwards makes the plan wrong."""
    size: int
    """How many destinations there are."""
    order: Tensor = field(repr=False)
    """`[n]` int64: the positions of the records, by destination, in source order for each."""
    offsets: Tensor = field(repr=False)
    """`[size + 1]` int64: where in `order` each destination begins."""

    @property
    def counts(self) -> Tensor:
        """`[size]` int64: how many records each destination has."""
        return self.offsets.diff()

    def __str__(self) -> str:
        records = f"{self.index.numel():,} records for {self.size:,} destinations on {self.index.device}"
        if self.size == 0 or self.index.is_meta:
            return f"IndexPlan: {records}"
        counts = self.counts
        return f"IndexPlan: {records}; the fullest has {int(counts.max()):,}, {int((counts == 0).sum()):,} have none"


def index_plan(index: Tensor, size: int) -> IndexPlan:
    """Sort an index once, to use it many times.

    The plan then stands where the index stands in index_add, index_select, embedding, scatter_add, scatter_reduce and
    gather; in the last three it stands for an index that is the same for every column. No bit depends on it.

    Example:
        >>> plan = detprobe.ops.index_plan(torch.tensor([1, 1, 0]), 2)
        >>> detprobe.ops.index_add(torch.zeros(2), 0, plan, torch.tensor([1.0, 2.0, 4.0]))
        tensor([4., 3.])
        >>> print(plan)
        IndexPlan: 3 records for 2 destinations on cpu; the fullest has 2, 0 have none

    Args:
        index: `[...]` int32 or int64, each from 0 to `size - 1`.
        size: how many destinations there are: the size of the dimension that is indexed, the rows of a weight.

    Returns:
        IndexPlan: on the device of the index.

    Raises:
        ArgumentIndexError: an index out of range, also on CUDA, where looking for it waits for the device.
        ArgumentTypeError, ArgumentValueError, ArgumentRuntimeError: not a tensor, a negative size, another dtype.

    Source: csrc/README.md, Indices.
    """
    _check.tensor("index_plan", "index", index)
    _check_index.dtype("index_plan", "index", index, _check_index.BOTH)
    if isinstance(size, bool) or not isinstance(size, (int, torch.SymInt)):
        raise ArgumentTypeError(f"index_plan: size: expected an int, got {size!r}")
    if size < 0:
        raise ArgumentValueError(f"index_plan: size: expected at least 0, got {size}")
    order, offsets = _check_index.checked(
        "index_plan",
        lambda: [_check_index.Where(index, size, f"size is {size}")],
        True,
        *(OPS.index_plan.default, index, size),
    )
    return IndexPlan(index, size, order, offsets)


def of_index(index: Any) -> tuple[Any, list[Tensor]]:
    """What stands where an index stands: the index itself, and what the ops take of a plan."""
    return (index.index, [index.order, index.offsets]) if isinstance(index, IndexPlan) else (index, [])


@fake("index_plan")
def _(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return index.new_empty([index.numel()], dtype=torch.int64), index.new_empty([size + 1], dtype=torch.int64)
