"""Values and gradients of the public ops: near torch's, of torch's dtype and shape, and right by finite differences.

Bits are tested elsewhere, against detprobe.reference. Here another implementation is compared, so there is a tolerance.
"""

from __future__ import annotations

import pytest
import torch
from op_cases import CASES, Case, Recorder

from detprobe import ops

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float32: 1e-4, torch.float64: 1e-9}


def near(a, b, dtype):
    torch.testing.assert_close(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_and_gradients_are_near_those_of_torch(case: Case, dtype):
    ours, theirs = case.inputs(dtype, grad=True), case.inputs(dtype, grad=True)
    a, b = case.ours(*ours), case.torchs(*theirs)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    near(a, b, dtype)
    g = torch.linspace(0.5, 1.5, a.numel(), dtype=torch.float64).reshape(a.shape).to(dtype)
    if "vector_norm, 0" in case.name:
        a.backward(g)  # torch's result has no gradient at all; a gradient of zeros is what the contract says
        assert not ours[0].grad.any()
        return
    for mine, their in zip(torch.autograd.grad(a, ours, g), torch.autograd.grad(b, theirs, g), strict=True):
        assert mine.dtype == their.dtype
        near(mine, their, dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_and_their_gradients_agree_with_finite_differences(case: Case):
    assert torch.autograd.gradcheck(case.ours, case.inputs(grad=True))
    assert torch.autograd.gradgradcheck(case.ours, case.inputs(grad=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_gradients_are_near_those_of_torch_in_float32(case: Case):
    if case.name == "vector_norm, 0":
        pytest.skip("torch's result has no gradient")

    def twice(function, inputs):
        first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
        total = sum(one.square().sum() for one in first)
        return torch.autograd.grad(total, inputs) if total.requires_grad else first

    ours = twice(case.ours, case.inputs(torch.float32, grad=True))
    theirs = twice(case.torchs, case.inputs(torch.float32, grad=True))
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, their, rtol=2e-3, atol=2e-3)


def test_a_tensor_that_stands_in_two_places_of_a_backward_is_differentiated_in_each():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def own_gradient(x):
        y = ops.softmax(x, 0)
        return torch.autograd.grad(y, x, y, create_graph=True)[0]  # g and y are one tensor

    assert torch.autograd.gradcheck(own_gradient, x)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_backward_calls_no_reduction_of_torch(case: Case):
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.add(func._schema.name)
            return func(*args, **(kwargs or {}))

    inputs = case.inputs(grad=True)
    y = case.ours(*inputs)
    g = torch.ones_like(y).requires_grad_()
    with Watch():
        first = torch.autograd.grad(y, inputs, g, create_graph=True)
        torch.autograd.grad(first, [*inputs, g], [torch.ones_like(one) for one in first], allow_unused=True)
    reductions = {"sum", "mean", "var", "std", "prod", "amax", "cumsum", "dot", "_softmax", "logsumexp", "sum_to_size"}
    assert not {f"aten::{name}" for name in reductions} & seen


def test_a_gradient_that_is_not_wanted_is_not_computed():
    x, w, b = torch.randn(3, 5), torch.randn(5, requires_grad=True), torch.randn(5)
    y = ops.layer_norm(x, (5,), w, b)
    with Recorder() as record:
        y.sum().backward()
    assert [args[-1] for func, args in record.calls if func._opname == "layer_norm_backward"] == [[False, True, False]]


def test_dtype_converts_first_and_the_gradient_comes_back_in_the_dtype_of_the_input():
    for op in (ops.sum, ops.mean, ops.vector_norm, lambda x, dtype: ops.softmax(x, 0, dtype=dtype)):
        x = torch.randn(6, dtype=torch.float16, requires_grad=True)
        y = op(x, dtype=torch.float64)
        assert y.dtype == torch.float64
        y.sum().backward()
        assert x.grad.dtype == torch.float16


def test_integers_give_what_torch_gives():
    x = torch.arange(12).reshape(3, 4) % 5
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        z = x.to(dtype)
        pairs = [
            (ops.sum(z, 0), torch.sum(z, 0)),
            (ops.exact_sum(z), torch.sum(z)),
            (ops.cumsum(z, 1), torch.cumsum(z, 1)),
            (ops.sum(z, dtype=torch.int32), torch.sum(z, dtype=torch.int32)),
            (ops.sum(z, dtype=torch.float32), torch.sum(z, dtype=torch.float32)),
            (ops.mean(z, dtype=torch.float64), torch.mean(z, dtype=torch.float64)),
        ]
        if dtype != torch.bool:
            pairs.append((ops.dot(z[0], z[1]), torch.dot(z[0], z[1])))
        for ours, theirs in pairs:
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
        assert ops.logsumexp(z, 0).dtype == torch.logsumexp(z, 0).dtype


def test_old_spellings_of_var_work():
    x = torch.randn(3, 4)
    for ours, theirs in (
        (ops.var(x, True), torch.var(x, True)),
        (ops.var(x, unbiased=False), torch.var(x, unbiased=False)),
        (ops.var(x, 0, False, True), torch.var(x, 0, False, True)),
        (ops.std(x, 1, correction=0.5), torch.std(x, 1, correction=0.5)),
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0)], ids=str)
def test_empty_and_single_tensors_have_the_shapes_of_torch(shape):
    x = torch.zeros(shape)
    assert ops.sum(x).shape == ()
    assert ops.cumsum(x, 0).shape == torch.cumsum(x, 0).shape
    assert ops.softmax(x, 0).shape == x.shape
    for keepdim in (False, True):
        for op, stock in ((ops.sum, torch.sum), (ops.mean, torch.mean), (ops.vector_norm, torch.linalg.vector_norm)):
            for dim in (0, -1, ()):
                assert op(x, dim=dim, keepdim=keepdim).shape == stock(x, dim=dim, keepdim=keepdim).shape


def test_running_statistics_are_near_those_of_torch():
    x = torch.randn(6, 4, 3)
    ours, theirs = (torch.zeros(4), torch.ones(4)), (torch.zeros(4), torch.ones(4))
    for _ in range(3):
        ops.batch_norm(x, *ours, training=True, momentum=0.3)
        torch.nn.functional.batch_norm(x, *theirs, training=True, momentum=0.3)
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, their)
