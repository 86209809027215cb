"""The ways around Python's checks (csrc/calls.h): taken for plain arguments, left for everything else, never wrong."""

from __future__ import annotations

import pytest
import torch
from reduction_forms import difference
from torch.overrides import TorchFunctionMode

from detprobe import ops
from detprobe.ops._native import CALLS, OPS

X = torch.linspace(-3, 3, 60).reshape(6, 10)
OF_ROW = torch.linspace(0.5, 1.5, 10)
CLASSES = torch.tensor([0, 9, 3, -100, 5, 5])
ROWS = torch.tensor([5, 0, 5, 1])
PLAN = ops.index_plan(ROWS, 6)
EACH = ROWS[:, None].expand(4, 10)
SOURCE = torch.linspace(0, 2, 40).reshape(4, 10)


def statistics() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.linspace(-1, 1, 10), torch.linspace(0.5, 2, 10)


PLAIN = {
    "sum": ((X, None, False, None), lambda: OPS.sum.default(X, None, False, None)),
    "mean": ((X, (0, -1), True, None), lambda: OPS.mean.default(X, [0, 1], True, None)),
    "exact_sum": ((X, 1, False, None), lambda: OPS.exact_sum.default(X, [1], False, None)),
    "dot": ((X[0], X[1]), lambda: OPS.dot.default(X[0], X[1], None, False)),
    "vector_norm": ((X, 2, -1, False, None), lambda: OPS.vector_norm.default(X, 2.0, [1], False, None)),
    "cumsum": ((X, -2), lambda: OPS.cumsum.default(X, 0, False, None)),
    "softmax": ((X, -1, True), lambda: OPS.softmax.default(X, 1, True, None)),
    "layer_norm": (
        (X, (10,), OF_ROW, None, 1e-5, True),
        lambda: OPS.layer_norm.default(X, 1, OF_ROW, None, 1e-5, True)[0],
    ),
    "cross_entropy": (
        (X, CLASSES, OF_ROW, 1, -100, 0.1),
        lambda: OPS.cross_entropy.default(X, CLASSES, OF_ROW, 1, -100, 0.1)[0],
    ),
    "batch_norm": (
        (X, None, None, OF_ROW, OF_ROW, True, 0.1, 1e-5),
        lambda: OPS.batch_norm_training.default(X, OF_ROW, OF_ROW, 1e-5)[0],
    ),
    "index_add": (
        (X, -2, ROWS, SOURCE, 0.3, None, None),
        lambda: OPS.index_add.default(X, 0, ROWS, SOURCE, 0.3, []),
    ),
    "scatter_reduce": (
        (X, 0, EACH, SOURCE, "mean", False, None, None),
        lambda: OPS.scatter_reduce.default(X, 0, EACH, SOURCE, "mean", False, []),
    ),
    "index_put": (
        (X, (None, ROWS), SOURCE[:, :4].sum(), True),
        lambda: OPS.index_put.default(X, [None, ROWS], SOURCE[:, :4].sum(), True),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_arguments_take_the_short_way_to_the_same_bits(name):
    arguments, long_way = PLAIN[name]
    found = getattr(CALLS, name)(*arguments)
    assert found is not None
    assert difference(found, long_way()) is None


class Subclass(torch.Tensor):
    pass


class Watch(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", PLAIN)
def test_other_tensors_and_modes_take_the_long_way(name):
    (_, *rest), _ = PLAIN[name]
    first = PLAIN[name][0][0]
    call = getattr(CALLS, name)
    odd = [
        first.as_subclass(Subclass),
        first.to_sparse(),
        first.to(torch.int64),
        first.to(torch.complex64),
        first.to("meta"),
        None,
        3,
    ]
    assert [call(x, *rest) for x in odd] == [None] * len(odd)
    assert call(first) is None
    with Watch():
        assert call(first, *rest) is None
    seen = []
    torch.vmap(lambda x: (seen.append(call(x, *rest)), x)[1])(torch.stack([first, first]))
    assert seen == [None]


BIG = 2**70
ODD = {
    "softmax": [(X, 2, False), (X, -3, False), (X, 0.0, False), (X, BIG, False), (torch.tensor(1.0), 0, False)],
    "cumsum": [(X, 2), (X, True), (X, BIG), (torch.tensor(1.0), 0)],
    "exact_sum": [(X, (0, 0), False, None), (X, None, 1, None), (X, None, False, torch.float64), (X, [0], False, None)],
    "layer_norm": [
        (X, 10, None, None, 1e-5, True),
        (X, (), None, None, 1e-5, True),
        (X, (9,), None, None, 1e-5, True),
        (X, (BIG,), None, None, 1e-5, True),
        (X, (3, 6, 10), None, None, 1e-5, True),
        (X, (10,), OF_ROW[:9], None, 1e-5, True),
        (X, (10,), OF_ROW.double(), None, 1e-5, True),
        (X, (10,), OF_ROW.to("meta"), None, 1e-5, True),
        (X, (10,), None, None, None, True),
    ],
    "cross_entropy": [
        (X[0], CLASSES[0], None, 1, -100, 0.0),
        (X, CLASSES[:5], None, 1, -100, 0.0),
        (X, CLASSES.int(), None, 1, -100, 0.0),
        (X, X, None, 1, -100, 0.0),
        (X, CLASSES, OF_ROW[:9], 1, -100, 0.0),
        (X, CLASSES, OF_ROW.clone().requires_grad_(), 1, -100, 0.0),
        (X, CLASSES, None, 1, BIG, 0.0),
        (X, CLASSES, None, 1, -100, 1.5),
        (X, CLASSES, None, 1, -100, float("nan")),
        (X, torch.tensor([0, 1, 2, 3, 4, 10]), None, 1, -100, 0.0),
    ],
    "batch_norm": [
        (X, None, None, None, None, False, 0.1, 1e-5),
        (X, OF_ROW, None, None, None, True, 0.1, 1e-5),
        (X, None, None, None, None, True, 0.1, 0.0),
        (X, None, None, None, None, 1, 0.1, 1e-5),
        (X, None, None, OF_ROW[:9], None, True, 0.1, 1e-5),
        (X[:1], None, None, None, None, True, 0.1, 1e-5),
        (X[:0], None, None, None, None, True, 0.1, 1e-5),
        (X[0], None, None, None, None, True, 0.1, 1e-5),
        (X, None, None, None, None, True, None, 1e-5),
    ],
    "index_add": [
        (X, 2, ROWS, SOURCE, 1, None, None),
        (X, 0, ROWS - 1, SOURCE, 1, None, None),
        (X, 0, ROWS + 1, SOURCE, 1, None, None),
        (X, 0, ROWS[:3], SOURCE, 1, None, None),
        (X, 0, EACH, SOURCE, 1, None, None),
        (X, 0, ROWS.short(), SOURCE, 1, None, None),
        (X, 0, PLAN, SOURCE, 1, None, None),
        (X, 0, ROWS, SOURCE[:, :9], 1, None, None),
        (X, 0, ROWS, SOURCE[0], 1, None, None),
        (X, 0, ROWS, SOURCE.double(), 1, None, None),
        (X, 0, ROWS, SOURCE.to("meta"), 1, None, None),
        (X, 0, ROWS, SOURCE, 2, None, None),
        (X, 0, ROWS, SOURCE, BIG, None, None),
        (X, 0, ROWS, SOURCE, 1j, None, None),
        (X, 0, ROWS, SOURCE, 1, PLAN.order, None),
        (X, 0, ROWS, SOURCE, 1, PLAN.order, PLAN.offsets[1:]),
    ],
    "scatter_reduce": [
        (X, 0, EACH - 1, SOURCE, "sum", True, None, None),
        (X, 0, ROWS, SOURCE, "sum", True, None, None),
        (X, 0, EACH, SOURCE[:3], "sum", True, None, None),
        (X[:, :9], 0, EACH, SOURCE, "sum", True, None, None),
        (X, 0, EACH, SOURCE, "median", True, None, None),
        (X, 0, EACH, SOURCE, "\ud800", True, None, None),
        (X, 0, EACH, SOURCE, None, True, None, None),
        (X, 0, EACH, SOURCE, "sum", 1, None, None),
        (X, 0, EACH, SOURCE, "sum", True, PLAN.order, PLAN.offsets),
        (X, 1, ROWS, SOURCE.T, "sum", True, PLAN.order, PLAN.offsets),
    ],
    "index_put": [
        (X, [ROWS], SOURCE, True),
        (X, (), SOURCE, True),
        (X, (None, None), SOURCE, True),
        (X, (ROWS, ROWS, ROWS), SOURCE, True),
        (X, (X > 0,), SOURCE, True),
        (X, (ROWS - 12,), SOURCE, True),
        (X, (ROWS,), SOURCE[:, :9], True),
        (X, (ROWS,), SOURCE, 1),
        (X, (ROWS,), SOURCE.double(), True),
        (X, (3,), SOURCE, True),
    ],
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_to_be_refused_or_explained_takes_the_long_way(name):
    assert [getattr(CALLS, name)(*arguments) for arguments in ODD[name]] == [None] * len(ODD[name])


def test_a_plan_takes_the_short_way_to_the_same_bits():
    planned = (PLAN.order, PLAN.offsets)
    found = CALLS.index_add(X, 0, ROWS, SOURCE, 1, *planned)
    assert difference(found, OPS.index_add.default(X, 0, ROWS, SOURCE, 1, [])) is None
    found = CALLS.scatter_reduce(X, 0, ROWS, SOURCE, "amax", True, *planned)
    assert difference(found, OPS.scatter_reduce.default(X, 0, EACH, SOURCE, "amax", True, [])) is None


def test_batch_norm_updates_the_running_statistics_once_on_both_ways():
    results = []
    for x in (X, X.as_subclass(Subclass)):
        mean, var = statistics()
        ops.batch_norm(x, mean, var, training=True)
        results.append((mean, var))
    (mean, var), (mean_long, var_long) = results
    assert difference(mean, mean_long) is None
    assert difference(var, var_long) is None
    assert difference(mean, statistics()[0]) is not None
    assert difference(var, statistics()[1]) is not None


def test_the_short_way_has_gradients():
    x = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(CALLS.softmax(x, 1, False)[0, 0], x)
    (wanted,) = torch.autograd.grad(OPS.softmax.default(x, 1, False, None)[0, 0], x)
    assert g.any()
    assert difference(g, wanted) is None
