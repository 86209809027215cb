"""Sizes and places beyond 2^31: shapes without memory, and memory of which almost nothing is ever touched."""

from __future__ import annotations

import pytest
import torch
from reduction_forms import difference
from test_scatter_bits import emulated
from torch._subclasses.fake_tensor import FakeTensorMode

import detprobe
from detprobe import ops

MANY = 2**31 + 5


def shapes(rows, records):
    """Calls on tensors of these sizes, and the shapes that they have to give."""
    x, source = torch.empty(rows, 2), torch.empty(records, 2)
    index = torch.empty(records, dtype=torch.int64)
    each = index[:, None].expand(records, 2)
    return {
        "index_add": (ops.index_add(x, 0, index, source), (rows, 2)),
        "index_copy": (ops.index_copy(x, 0, index, source), (rows, 2)),
        "index_put": (ops.index_put(x, (index,), source, accumulate=True), (rows, 2)),
        "index_select": (ops.index_select(x, 0, index), (records, 2)),
        "put": (ops.put(x, each, source, accumulate=True), (rows, 2)),
        "take": (ops.take(x, each), (records, 2)),
        "scatter": (ops.scatter(x, 0, each, source), (rows, 2)),
        "scatter_add": (ops.scatter_add(x, 0, each, source), (rows, 2)),
        "scatter_reduce": (ops.scatter_reduce(x, 0, each, source, "amax"), (rows, 2)),
        "gather": (ops.gather(x, 0, each), (records, 2)),
        "embedding": (ops.embedding(index, x), (records, 2)),
        "segment_sum": (ops.segment_sum(source, offsets=torch.empty(rows, dtype=torch.int64)), (rows - 1, 2)),
        "index_plan": (ops.index_plan(index, rows).offsets, (rows + 1,)),
    }


@pytest.mark.parametrize(("rows", "records"), [(MANY, 3), (3, MANY), (MANY, 2 * MANY)])
def test_shapes_beyond_32_bits_are_exact(rows, records):
    with FakeTensorMode():
        found = {op: (tuple(result.shape), shape) for op, (result, shape) in shapes(rows, records).items()}
    assert {op: seen for op, (seen, wanted) in found.items() if seen != wanted} == {}


def untouched(*shape):
    """Float memory that exists only where it is written to."""
    try:
        return torch.empty(*shape)
    except RuntimeError:
        pytest.skip("this machine promises no more memory than it has")


def far_records(n, columns):
    """`n` records of which the last begins beyond 2^31 elements."""
    step = 2**31 // (n - 1) + 1
    source = untouched(n * step + columns).as_strided((n, columns), (step, 1))
    return source.copy_(torch.linspace(-1, 3, n * columns).view(n, columns))


@pytest.mark.parametrize("seed", [None, 0, 17], ids=["cpu", "emulator, seed 0", "emulator, seed 17"])
@pytest.mark.parametrize("columns", [1, 5])
def test_records_beyond_32_bits_are_read_where_they_are(columns, seed):
    index = torch.tensor([2, 0, 2, 1, 2])
    source, x = far_records(5, columns), torch.ones(3, columns)
    near = source.clone(memory_format=torch.contiguous_format)
    assert source.stride(0) * 4 > 2**31
    calls = {
        "index_add": lambda source: ops.index_add(x, 0, index, source),
        "amax": lambda source: ops.scatter_reduce(x, 0, index[:, None].expand(-1, columns), source, "amax"),
        "segment_sum": lambda source: ops.segment_sum(source, lengths=torch.tensor([2, 0, 3])),
    }
    wanted = {op: call(near) for op, call in calls.items()}
    if seed is None:
        found = {op: call(source) for op, call in calls.items()}
    else:
        with emulated(seed):
            found = {op: call(source) for op, call in calls.items()}
    assert {op: text for op in calls if (text := difference(found[op], wanted[op]))} == {}


def test_destinations_beyond_32_bits_are_written_where_they_are():
    rows, columns = 2**20 + 3, 2**11
    x = untouched(rows, columns)
    index = torch.tensor([rows - 1, 2**20, rows - 1, -1, -1])
    source = torch.randn(5, columns)
    x[2**20 :] = 1.0
    with detprobe.deterministic() as report:
        x.index_put_((index,), source, accumulate=True)
        x.index_add_(0, index[:3], source[:3])
    assert report.replaced == {"aten::index_put": 1, "aten::index_add": 1}
    small = ops.index_put(torch.ones(3, columns), (index.clamp_min(-1) % rows - 2**20,), source, accumulate=True)
    small = ops.index_add(small, 0, index[:3] - 2**20, source[:3])
    assert difference(x[2**20 :], small) is None
