"""Gradients of the scatter family: by finite differences, near torch's, and bit for bit the written ones.

Forward bits are tested in test_scatter_bits.py. Here the gradients that are made of ops of the family are compared with
detprobe.reference on bits, in every dtype.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from index_patterns import PATTERNS, made
from op_cases import Case
from scatter_calls import INDEX, SCATTER_CASES, SIZE, rows
from scatter_forms import Draw, acc, rounded, stored, words
from torch.utils._python_dispatch import TorchDispatchMode

from detprobe import ops, reference
from detprobe.errors import UnsupportedError

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float32: 1e-4, torch.float64: 1e-9}
CASES = pytest.mark.parametrize("case", SCATTER_CASES, ids=str)
DTYPES = pytest.mark.parametrize("dtype", FLOATS, ids=str)
EVERY_PATTERN = pytest.mark.parametrize("pattern", PATTERNS)


@CASES
@DTYPES
def test_values_and_gradients_are_near_those_of_torch(case: Case, dtype):
    if case.torchs is None:
        pytest.skip("torch defines no result for duplicates, or has a gradient of its own")
    ours = case.inputs(dtype, grad=True)
    theirs = [value.detach().double().requires_grad_() for value in ours]
    a, b = case.ours(*ours), case.torchs(*theirs)
    assert (a.dtype, a.shape) == (dtype, b.shape)
    g = torch.linspace(0.5, 1.5, a.numel(), dtype=torch.float64).reshape(a.shape)
    found = torch.autograd.grad(a, ours, g.to(dtype))
    expected = torch.autograd.grad(b, theirs, g)
    for mine, their in zip((a, *found), (b, *expected), strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.double(), their, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@CASES
def test_gradients_and_their_gradients_agree_with_finite_differences(case: Case):
    if "by frequency" in case.name:
        pytest.skip("scaled by frequency is no gradient of the forward")
    inputs = case.inputs(grad=True)
    if case.name == "embedding" or "padding" in case.name:  # the row of padding is read, and has no gradient
        fixed = inputs[0].detach().clone()

        def function(w, *rest):
            return case.ours(torch.where(torch.arange(SIZE)[:, None] == 0, fixed, w), *rest)

    else:
        function = case.ours
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_gradients_of_a_product_with_zeros_agree_with_finite_differences(zeros, include_self):
    x = torch.randn(SIZE, 2, dtype=torch.float64)
    src = torch.randn(len(INDEX), 2, dtype=torch.float64)
    x[1, 0] = -0.0 if zeros else 1.0
    src[INDEX == 1] = torch.where(torch.arange(3).unsqueeze(1) < zeros - include_self, 0.0, src[INDEX == 1])
    x[3] = 0.0
    inputs = (x.requires_grad_(), src.requires_grad_())

    def product(x, src):
        return ops.scatter_reduce(x, 0, rows(src), src, "prod", include_self=include_self)

    assert torch.autograd.gradcheck(product, inputs)
    assert torch.autograd.gradgradcheck(product, inputs)


@CASES
def test_a_backward_adds_no_floats_with_torch(case: Case):
    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                seen.add(func._schema.name)
            return result

    inputs = case.inputs(grad=True)
    y = case.ours(*inputs)
    g = torch.ones_like(y).requires_grad_()
    with Watch():
        first = torch.autograd.grad(y, inputs, g, create_graph=True)
        outputs = [one for one in first if one.requires_grad]
        torch.autograd.grad(outputs, [*inputs, g], [torch.ones_like(one) for one in outputs], allow_unused=True)
    forbidden = "sum mean prod cumsum dot index_add scatter_add scatter_reduce index_put _index_put_impl_ put_ put"
    forbidden += " embedding_dense_backward _embedding_bag_backward index_select_backward sum_to_size"
    assert not {f"aten::{name}" for name in forbidden.split()} & seen


def test_a_gradient_that_is_not_wanted_is_not_computed():
    x, src = torch.randn(SIZE, 2), torch.randn(7, 2, requires_grad=True)
    for op in (ops.index_copy, ops.index_add):
        for first, second in ((x, src), (x.clone().requires_grad_(), src.detach())):
            y = op(first, 0, INDEX, second)
            one = first if first.requires_grad else second
            (gradient,) = torch.autograd.grad(y.sum(), one)
            assert gradient.shape == one.shape


def test_histograms_have_no_gradient():
    x = torch.randn(9, requires_grad=True)
    assert not ops.histc(x).requires_grad
    assert not ops.histogram(x, 3).bin_edges.requires_grad
    with pytest.raises(UnsupportedError, match="histogram: there is no gradient"):
        ops.histogram(x, 3).hist.sum().backward()
    with pytest.raises(UnsupportedError, match="bincount: there is no gradient"):
        ops.bincount(torch.arange(9), x).sum().backward()


# On bits, against detprobe.reference.


def draw(pattern, dtype, n, size, columns, seed):
    rng = np.random.default_rng(seed)
    return Draw(made(pattern, n, size, rng), size, columns, dtype, rng)


def gradients(function, g, *values):
    leaves = [value.detach().clone().requires_grad_() for value in values]
    y = function(*leaves)
    return torch.autograd.grad(y, leaves, g), y.detach()


def same(found, expected, dtype):
    """Equal bits, where the reference computes in acc."""
    copied(found, rounded(expected, dtype), dtype)


def copied(found, expected, dtype):
    """Equal bits, where the reference copies what is stored."""
    assert found.dtype == dtype
    assert np.array_equal(words(stored(found)), words(expected))


@EVERY_PATTERN
@DTYPES
def test_slices_have_the_written_gradients(pattern, dtype):
    d = draw(pattern, dtype, 300, 7, 3, 1)
    x, source, g = d.numbers(7, 3), d.numbers(d.n, 3), d.numbers(7, 3)
    for index in (d.places(), ops.index_plan(d.places(), 7)):
        for alpha in (1, -0.3):
            add = partial(ops.index_add, dim=0, index=index, alpha=alpha)
            (of_x, of_source), _ = gradients(lambda a, b, add=add: add(a, source=b), g, x, source)
            copied(of_x, stored(g), dtype)
            if alpha == 1:
                copied(of_source, stored(g[d.places()]), dtype)
            else:
                same(of_source, reference.index_add_backward(acc(g), 0, d.index, alpha), dtype)
        (of_x,), _ = gradients(partial(ops.index_select, dim=0, index=index), source, x)
        same(of_x, reference.index_select_backward(acc(source), (7, 3), 0, d.index), dtype)
    (of_x, of_source), _ = gradients(lambda a, b: ops.index_copy(a, 0, d.places(), b), g, x, source)
    for found, expected in zip((of_x, of_source), reference.index_copy_backward(stored(g), 0, d.index), strict=True):
        copied(found, expected, dtype)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "amax", "amin"])
@EVERY_PATTERN
@DTYPES
def test_reductions_of_elements_have_the_written_gradients(pattern, dtype, reduce, include_self):
    d = draw(pattern, dtype, 300, 5, 3, 2)
    index = torch.stack([d.places().roll(c) for c in range(2)], dim=1)
    touched = np.zeros((5, 3), np.bool_)
    for c in range(2):
        touched[index[:, c].numpy(), c] = True
    g = d.numbers(5, 3)
    for ties in (False, True):
        x, src = d.numbers(5, 3), d.numbers(d.n + 1, 3)
        if ties:  # many zeros, and equal ones
            x, src = ((one.nan_to_num(0.5) * 2).round().clamp(-2, 2) / 2 for one in (x, src))
        (of_x, of_src), y = gradients(
            lambda a, b: ops.scatter_reduce(a, 0, index, b, reduce, include_self=include_self), g, x, src
        )
        wanted = reference.scatter_reduce_backward(
            acc(g), acc(x), 0, index.numpy(), acc(src), acc(y), reduce, include_self
        )
        kept = ~touched if reduce != "sum" or not include_self else np.ones_like(touched)
        copied(of_x, np.where(kept, stored(g), rounded(wanted[0], dtype)), dtype)
        if reduce != "sum":
            same(of_src, wanted[1], dtype)
        else:
            expected = torch.zeros_like(src)
            expected[: d.n, :2] = g[:, :2].gather(0, index)
            copied(of_src, stored(expected), dtype)


@EVERY_PATTERN
@DTYPES
def test_copies_of_elements_have_the_written_gradients(pattern, dtype):
    d = draw(pattern, dtype, 300, 6, 4, 3)
    index = torch.stack([d.places().roll(c) for c in range(3)], dim=1)
    x, g = d.numbers(6, 4), d.numbers(*index.shape)
    (of_x,), _ = gradients(lambda a: ops.gather(a, 0, index), g, x)
    same(of_x, reference.gather_backward(acc(g), (6, 4), 0, index.numpy()), dtype)
    src, over = d.numbers(d.n, 4), d.numbers(6, 4)
    (of_x, of_src), _ = gradients(lambda a, b: ops.scatter(a, 0, index, b), over, x, src)
    for c in range(4):
        if c == 3:
            copied(of_x[:, 3], stored(over[:, 3]), dtype)
            copied(of_src[:, 3], stored(torch.zeros(d.n, dtype=dtype)), dtype)
            continue
        column = reference.index_copy_backward(stored(over[:, [c]]), 0, index[:, c].numpy())
        for found, expected in zip((of_x, of_src), column, strict=True):
            copied(found[:, [c]], expected, dtype)


@pytest.mark.parametrize("accumulate", [True, False])
@EVERY_PATTERN
@DTYPES
def test_indices_from_the_end_have_the_written_gradients(pattern, dtype, accumulate):
    d = draw(pattern, dtype, 300, 6, 2, 4)
    some = torch.from_numpy(np.where(d.rng.random(d.n) < 0.5, d.index - 6, d.index))
    x, values, g = d.numbers(6, 2), d.numbers(d.n, 2), d.numbers(6, 2)
    found, _ = gradients(lambda a, b: ops.index_put(a, (some,), b, accumulate), g, x, values)
    wanted = reference.index_put_backward(stored(g), [some.numpy()], accumulate)
    for one, expected in zip(found, wanted, strict=True):
        copied(one, expected, dtype)
    source = d.numbers(d.n)
    (of_x, of_source), _ = gradients(lambda a, b: ops.put(a, some, b, accumulate), g, x, source)
    if accumulate:
        copied(of_x, stored(g), dtype)
        copied(of_source, stored(g.take(some)), dtype)
    else:
        for one, expected in zip((of_x, of_source), reference.put_backward(stored(g), some.numpy()), strict=True):
            copied(one, expected, dtype)
    (of_x,), _ = gradients(lambda a: ops.take(a, some), source, x)
    same(of_x, reference.take_backward(acc(source), (6, 2), some.numpy()), dtype)
    (of_x,), _ = gradients(lambda a: ops.index(a, (some,)), values, x)
    same(of_x, reference.index_backward(acc(values), (6, 2), [some.numpy()]), dtype)


@DTYPES
def test_segments_have_the_written_gradients(dtype):
    for seed in range(6):
        d = draw("uniform", dtype, 300, 7, 3, seed)
        ends = np.sort(d.rng.integers(0, 301, 8))
        x, g, offsets = d.numbers(300, 3), d.numbers(7, 3), torch.from_numpy(ends)
        if seed % 2:
            x = (x.nan_to_num(0.5) * 2).round().clamp(-2, 2)
        (of_x,), _ = gradients(partial(ops.segment_sum, offsets=offsets), g, x)
        copied(of_x, reference.segment_sum_backward(stored(g), 300, ends), dtype)
        (of_x,), _ = gradients(partial(ops.segment_mean, offsets=offsets), g, x)
        same(of_x, reference.segment_mean_backward(acc(g), 300, ends), dtype)
        (of_x,), y = gradients(partial(ops.segment_max, offsets=offsets), g, x)
        same(of_x, reference.segment_max_backward(acc(g), acc(x), acc(y), ends), dtype)


@EVERY_PATTERN
@DTYPES
def test_embeddings_have_the_written_gradients(pattern, dtype):
    d = draw(pattern, dtype, 300, 7, 3, 6)
    weight, g = d.numbers(7, 3), d.numbers(d.n, 3)
    for padding, scale in ((None, False), (-2, True)):
        for index in (d.places(), ops.index_plan(d.places(), 7)):
            options = {"padding_idx": padding, "scale_grad_by_freq": scale}
            (found,), _ = gradients(partial(ops.embedding, index, **options), g, weight)
            same(found, reference.embedding_backward(acc(g), 7, d.index, padding, scale), dtype)


@DTYPES
def test_broadcast_values_are_summed_in_the_order_of_dsum(dtype):
    d = draw("uniform", dtype, 300, 7, 2, 7)
    x, value, g = d.numbers(7, 2), d.numbers(2), d.numbers(7, 2)
    (_, found), _ = gradients(lambda a, b: ops.index_put(a, (d.places(),), b, True), g, x, value)
    copied(found, stored(ops.sum(g[d.places()], 0)), dtype)
