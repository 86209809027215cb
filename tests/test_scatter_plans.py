"""index_plan: what a plan refuses, what it says, and that no bit depends on it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from index_patterns import PATTERNS
from test_scatter_gradients import draw

from detprobe import ops
from detprobe.errors import DetprobeError

X = torch.linspace(-1, 1, 15).reshape(5, 3)
S = torch.linspace(0, 1, 12).reshape(4, 3)
I = torch.tensor([0, 1, 1, 4])  # noqa: E741
P = I.unsqueeze(1).expand(4, 3)


def test_a_plan_is_asked_for_its_size_its_device_and_its_shape():
    plan, table = ops.index_plan(I, 5), ops.index_plan(P, 5)
    short = X[:4]
    calls = [
        lambda: ops.index_add(short, 0, plan, S),
        lambda: ops.scatter_add(short, 0, plan, S),
        lambda: ops.scatter_reduce(short, 0, plan, S, "amax"),
        lambda: ops.index_select(short, 0, plan),
        lambda: ops.gather(short, 0, plan),
        lambda: ops.embedding(plan, short),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"expected a plan for 4 destinations, .* got one for 5: build it"):
            call()
    with pytest.raises(RuntimeError, match="expected the device of input, meta, got cpu"):
        ops.index_add(X.to("meta"), 0, plan, S.to("meta"))
    for call in (lambda: ops.index_select(X, 0, table), lambda: ops.index_add(X, 0, table, S)):
        with pytest.raises(IndexError, match=r"expected one dimension, got 2, \(4, 3\)"):
            call()
    assert torch.equal(ops.embedding(table, X), X[P])
    with pytest.raises(RuntimeError, match=r"expected shape \(4, 3\)"):
        ops.scatter_reduce(X, 0, plan, S[:, :2], "sum")


def test_an_op_without_plans_says_what_to_pass():
    plan = ops.index_plan(I, 5)
    for call in (lambda: ops.index_put(X, (plan,), S), lambda: ops.take(X, plan)):
        with pytest.raises(TypeError, match=r"expected a tensor, got IndexPlan: pass plan\.index, this op takes no"):
            call()


def test_a_plan_refuses_what_is_no_index_and_no_size_and_stays_what_it_is():
    for call, error, named in (
        (lambda: ops.index_plan([0], 5), TypeError, "list"),
        (lambda: ops.index_plan(I.float(), 5), RuntimeError, "float32"),
        (lambda: ops.index_plan(I, 5.0), TypeError, r"5\.0"),
        (lambda: ops.index_plan(I, -1), ValueError, "-1"),
        (lambda: ops.index_plan(I, 3), IndexError, "got 4 at position 3: size is 3"),
    ):
        with pytest.raises(DetprobeError, match=named) as caught:
            call()
        assert isinstance(caught.value, error)
    plan = ops.index_plan(I, 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.size = 6
    assert plan.counts.tolist() == [1, 2, 0, 0, 1]
    assert str(plan) == "IndexPlan: 4 records for 5 destinations on cpu; the fullest has 2, 2 have none"
    assert str(ops.index_plan(I[:0], 0)) == "IndexPlan: 0 records for 0 destinations on cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int32], ids=str)
@pytest.mark.parametrize("columns", [1, 3, 64])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_bit_depends_on_a_plan(pattern, columns, dtype):
    d = draw(pattern, dtype, 700, 70, columns, 3)
    x, source, index = d.numbers(70, columns), d.numbers(d.n, columns), d.places()
    plan, rows = ops.index_plan(index, 70), index.unsqueeze(1).expand(d.n, columns)
    pairs = [
        (ops.index_add(x, 0, plan, source), ops.index_add(x, 0, index, source)),
        (ops.scatter_add(x, 0, plan, source), ops.scatter_add(x, 0, rows, source)),
        (ops.index_select(x, 0, plan), ops.index_select(x, 0, index)),
        (ops.gather(x, 0, plan), ops.gather(x, 0, rows)),
        (ops.index_add(x.T, 1, plan, source.T), ops.index_add(x.T, 1, index, source.T)),
    ]
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include_self in (True, False):
            pairs.append(
                tuple(ops.scatter_reduce(x, 0, to, source, reduce, include_self=include_self) for to in (plan, rows))
            )
    if dtype.is_floating_point:
        pairs.append((ops.embedding(plan, x), ops.embedding(index, x)))
    for with_plan, without in pairs:
        assert torch.equal(with_plan.contiguous().view(torch.uint8), without.contiguous().view(torch.uint8))
