"""What `detprobe bench scatter` times: ops, indices up a ladder of contention, sizes, and the speed to reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from detprobe import ops
from detprobe.bench._pool import Pool

__all__ = ["GPU_DETERMINISTIC", "MEMORY", "NAMES", "PLANNED", "Case", "cases", "functions", "memory_cases", "target"]

LADDER = ("unique", "uniform", "Zipf", "one hot")
"""Which rows take the records: each one, about as many each, a few most of them, one all of them."""

PER_ROW = 20  # records for each destination, on average, but for "unique"
COLUMNS = (1, 4, 16, 64, 256)
SUMS = ("index_add", "scatter_add", "index_put", "embedding backward")
PLANNED = " with a plan"
OTHERS = (
    *("scatter_add by element", "scatter_reduce amax", "scatter_reduce mean", "segment_sum", "bincount", "histc"),
    "index_plan",  # against a stable sort of the index
)
NAMES = (*SUMS, *OTHERS)
PLANNABLE = ("index_add", "scatter_add", "embedding backward", "scatter_reduce amax", "scatter_reduce mean")
BINS = 100


@dataclass(frozen=True)
class Case:
    """One row of the table: `records` rows of `columns` numbers."""

    op: str
    contention: str
    records: int
    columns: int
    dtype: torch.dtype = torch.float32

    @property
    def elements(self) -> int:
        return self.records * self.columns

    @property
    def rows(self) -> int:
        """Destinations."""
        return self.records if self.contention == "unique" else max(1, self.records // PER_ROW)

    @property
    def source_bytes(self) -> int:
        return self.elements * self.dtype.itemsize

    @property
    def index_elements(self) -> int:
        """Of the index in memory: one that is the same for every column is there once."""
        return self.elements if self.op == "scatter_add by element" else self.records

    @property
    def sort_bytes(self) -> int:
        """Of a sort of the index, out of place: 64-bit keys and positions, twice."""
        return 32 * self.index_elements

    def bytes_moved(self, *, planned: bool = False) -> int:
        """What has to be read and written once: x, index or plan, source, result."""
        index, order, offsets = 8 * self.index_elements, 8 * self.records, 8 * (self.rows + 1)
        result = self.rows * self.columns * self.dtype.itemsize
        if self.op == "index_plan":
            return index + order + offsets
        if self.op == "histc":
            return self.source_bytes + BINS * self.dtype.itemsize
        if self.op == "segment_sum":
            return offsets + self.source_bytes + result
        beginning = 0 if self.op in ("embedding backward", "bincount") else result  # x, of the result's size
        return beginning + (order + offsets if planned else index) + self.source_bytes + result

    @property
    def bytes_needed(self) -> int:
        """Roughly, while it runs: source, index, what torch keeps, and the results of two calls."""
        return 3 * self.source_bytes + 4 * self.sort_bytes + 3 * self.rows * self.columns * self.dtype.itemsize


# The project's own table for a CPU, by op and columns: of all indices, against the faster of torch's two modes. Where
# it names no size, it begins at 1e4 elements: below that, it is the call that is measured.
CPU_TARGETS = {
    "index_add": {1: 0.8, 16: 2.5, 64: 1.5, 256: 1.4},
    "scatter_add": {1: 0.7, 16: 2.5, 64: 1.5, 256: 1.4},
    "index_put": {16: 4.0, 64: 4.0, 256: 4.0},
    "embedding backward": {16: 4.0, 64: 4.0, 256: 1.7},
}
CPU_WITH_A_PLAN = 1.0
GPU_DEFAULT = {"unique": 0.5, "uniform": 0.5, "Zipf": 1.0, "one hot": 1.0}
GPU_DETERMINISTIC = 10.0
MEMORY = 1.5  # times the source, and the sort


def target(case: Case, op: str, device: str) -> float | None:
    """The speed to reach: on a CPU against torch's faster mode, on a GPU against its default one; or None."""
    if case.dtype is not torch.float32 or case.elements < 10**4:
        return None
    if device == "cuda":
        return GPU_DEFAULT[case.contention]
    return CPU_WITH_A_PLAN if op.endswith(PLANNED) else CPU_TARGETS.get(op, {}).get(case.columns)


@lru_cache(4 * len(LADDER))
def drawn(contention: str, records: int, rows: int) -> Tensor:
    """An index [records] int64, within 0 .. rows - 1, on the CPU, from a fixed seed."""
    generator = torch.Generator().manual_seed(records)
    if contention == "unique":
        return torch.randperm(records, generator=generator)
    if contention == "uniform":
        return torch.randint(0, rows, (records,), generator=generator)
    if contention == "one hot":
        return torch.full((records,), rows // 2)
    shares = (1 / torch.arange(1, rows + 1, dtype=torch.float64)).cumsum(0)  # Zipf's law with exponent 1
    ranks = torch.searchsorted(shares, shares[-1] * torch.rand(records, dtype=torch.float64, generator=generator))
    return torch.randperm(rows, generator=generator)[ranks]  # hot rows anywhere


Functions = dict[str, Callable[[], Any]]


def functions(case: Case, pool: Pool) -> Functions:
    """What to time, without arguments: "torch", "detprobe" and, for the ops that take one, "plan"."""
    shape = (case.records, case.columns) if case.columns > 1 else (case.records,)
    source = pool.take(shape, case.dtype)
    x = pool.take((case.rows, *shape[1:]), case.dtype, 1)
    index = drawn(case.contention, case.records, case.rows).to(pool.device)
    if case.op in PLANNABLE:
        return _planned(case, x, index, source, ops.index_plan(index, case.rows))
    ours, stock = _others(case, x, index, source)
    return {"torch": stock, "detprobe": ours}


def _planned(case: Case, x: Tensor, index: Tensor, source: Tensor, plan: ops.IndexPlan) -> Functions:
    if case.op == "embedding backward":
        g = source if source.dim() > 1 else source[:, None]
        arguments = g, index, case.rows, -1, False
        backward = torch.ops.detprobe.embedding_backward
        return {
            "torch": partial(torch.ops.aten.embedding_dense_backward, *arguments),
            "detprobe": partial(backward, *arguments, []),
            "plan": partial(backward, *arguments, [plan.order, plan.offsets]),
        }
    name, *reduce = case.op.split()
    ours, each = getattr(ops, name), index if name == "index_add" else _expanded(index, source)
    return {
        "torch": partial(getattr(torch, name), x, 0, each, source, *reduce),
        "detprobe": partial(ours, x, 0, each, source, *reduce),
        "plan": partial(ours, x, 0, plan, source, *reduce),
    }


def _others(case: Case, x: Tensor, index: Tensor, source: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    if case.op == "index_put":
        stock = partial(torch.index_put, x, (index,), source, accumulate=True)
        return partial(ops.index_put, x, (index,), source, accumulate=True), stock
    if case.op == "scatter_add by element":
        # Every column has the index in another order, so nothing moves as a row.
        turned = [index.roll(column * (case.records // case.columns)) for column in range(case.columns)]
        each = torch.stack(turned, dim=1)
        return partial(ops.scatter_add, x, 0, each, source), partial(torch.scatter_add, x, 0, each, source)
    if case.op == "segment_sum":
        lengths = torch.bincount(index, minlength=case.rows)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        stock = partial(torch.segment_reduce, source, "sum", offsets=offsets)
        return partial(ops.segment_sum, source, offsets=offsets), stock
    if case.op == "index_plan":
        return partial(ops.index_plan, index, case.rows), partial(torch.sort, index, stable=True)
    if case.op == "bincount":
        return partial(ops.bincount, index, source, case.rows), partial(torch.bincount, index, source, case.rows)
    values = (index.to(source.dtype) + 0.5) / case.rows
    return partial(ops.histc, values, BINS, 0, 1), partial(torch.histc, values, BINS, 0, 1)


def _expanded(index: Tensor, source: Tensor) -> Tensor:
    return index if source.dim() == 1 else index[:, None].expand(source.shape)


def cases(quick: bool, device: str) -> Iterator[Case]:
    """All rows of the table, in its order."""
    most = 2 * 10**6 if quick else 7 * 10**7 if device == "cpu" else 3 * 10**8
    for case in _cases():
        if case.elements <= most and (not quick or case.records <= 10**5):
            yield case


def _cases() -> Iterator[Case]:
    few = (10**4, 10**5)
    sizes = dict.fromkeys(COLUMNS, (*few, 10**6, 4 * 10**6)) | {256: (*few, 250_000, 10**6)}
    for op in SUMS:
        for columns in COLUMNS:
            for records in sizes[columns]:
                yield from (Case(op, contention, records, columns) for contention in LADDER)
        base = Case(op, "uniform", 10**5, 16)
        yield from (replace(base, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64))
    for contention in LADDER:
        for records in (10**4, 10**6):
            yield Case("scatter_add by element", contention, records, 16)
        for op in ("scatter_reduce amax", "scatter_reduce mean", "segment_sum"):
            yield from (Case(op, contention, 10**5, columns) for columns in COLUMNS)
            yield from (Case(op, contention, 10**6, columns) for columns in (1, 16, 64))
        for op in ("bincount", "histc", "index_plan"):
            yield from (Case(op, contention, records, 1) for records in (10**4, 10**6, 4 * 10**6))


# Columns of the table of memory, where an op has not all of them.
MEASURED: dict[str, tuple[int, ...]] = dict.fromkeys(("bincount", "histc", "index_plan"), (1,))
MEASURED["scatter_add by element"] = (16,)


def memory_cases(quick: bool) -> Iterator[Case]:
    """Rows of the table of memory."""
    for op in NAMES:
        for columns in MEASURED.get(op, (1, 16, 64)):
            for contention in ("uniform", "one hot"):
                yield Case(op, contention, 10**5 if quick else 10**6, columns)
