"""The gradients of the scatter family in detprobe.reference against torch's autograd on CPU.

Small whole numbers in f64: sums are exact in any order and a quotient is one division, so equality is exact. What the
contract decides otherwise than torch (csrc/README.md, "Where this differs") is written out by hand.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from index_patterns import indices, some_negative, whole
from scalar_numbers import same_bits, words
from scatter_cases import (
    ADVANCED,
    CASES,
    EVERY_REDUCE,
    INCLUDED,
    advanced_case,
    element_index,
    equal,
    shaped,
    t,
    with_size,
)

from detprobe import reference

NAN, INF = math.nan, math.inf
FIRST = np.array([0, 0])


def gradients(function, g, *inputs):
    """torch's gradients of all inputs for the incoming g, which is made once the shape is known."""
    leaves = [torch.tensor(v, requires_grad=True) for v in inputs]
    y = function(*leaves)
    g = g(*y.shape)
    return g, [v.numpy() for v in torch.autograd.grad(y, leaves, torch.tensor(g))]


def whole_of(rng):
    return lambda *shape: whole(rng, *shape)


@CASES
@given(shaped())
def test_gather_and_index_select(case):
    shape, dim, index, rng = case
    x = whole(rng, *shape)
    g, (of_x,) = gradients(lambda x: x.index_select(dim, t(index)), whole_of(rng), x)
    equal(reference.index_select_backward(g, shape, dim, index), t(of_x))
    index = element_index(shape, dim, index, rng)
    g, (of_x,) = gradients(lambda x: x.gather(dim, t(index)), whole_of(rng), x)
    equal(reference.gather_backward(g, shape, dim, index), t(of_x))


@CASES
@given(indices())
def test_take(case):
    index, size, rng = case
    index = some_negative(np.stack([index * 2, index]), 2 * size, rng)
    g, (of_x,) = gradients(lambda x: x.take(t(index)), whole_of(rng), whole(rng, size, 2))
    equal(reference.take_backward(g, (size, 2), index), t(of_x))


@pytest.mark.parametrize("name", ADVANCED)
@CASES
@given(indices())
def test_advanced_index_and_index_put(name, case):
    shape, chosen, rng = advanced_case(name, case)
    at = [None if i is None else t(i) for i in chosen]
    x = whole(rng, *shape)
    g, (of_x,) = gradients(lambda x: torch.ops.aten.index.Tensor(x, at), whole_of(rng), x)
    equal(reference.index_backward(g, shape, chosen), t(of_x))
    values = whole(rng, *g.shape)
    g, expected = gradients(lambda x, v: torch.ops.aten.index_put(x, at, v, True), whole_of(rng), x, values)
    for got, stock in zip(reference.index_put_backward(g, chosen, True), expected, strict=True):
        equal(got, t(stock))
    g, expected = gradients(lambda x, v: torch.ops.aten.index_put(x, at, v, False), whole_of(rng), x, values)
    of_x, of_values = reference.index_put_backward(g, chosen, False)
    equal(of_x, t(expected[0]))
    # Every value that is still there has the gradient of its place, once; torch gives it to those written over too.
    marks = np.arange(values.size).reshape(values.shape)
    survives = np.isin(marks, reference.index_put(np.full(shape, -1), chosen, marks))
    np.testing.assert_array_equal(of_values, np.where(survives, expected[1], 0))


@CASES
@given(shaped())
def test_index_add_and_index_copy(case):
    shape, dim, index, rng = case
    x, source = whole(rng, *shape), whole(rng, *with_size(shape, dim, len(index)))
    for alpha in (1, -3):
        g, (of_x, of_source) = gradients(
            lambda x, s, a=alpha: x.index_add(dim, t(index), s, alpha=a), whole_of(rng), x, source
        )
        assert same_bits(of_x, g)
        equal(reference.index_add_backward(g, dim, index, alpha), t(of_source))
    g, (of_x, of_source) = gradients(lambda x, s: x.index_copy(dim, t(index), s), whole_of(rng), x, source)
    got = reference.index_copy_backward(g, dim, index)
    equal(got[0], t(of_x))
    last = [i for i, to in enumerate(index) if to not in index[i + 1 :]]
    mask = np.zeros_like(source)
    mask[(slice(None),) * (dim % len(shape)) + (last,)] = 1
    np.testing.assert_array_equal(got[1], of_source * mask)


def test_put_gives_the_gradient_to_the_last():
    g = np.array([5.0, 6.0, 7.0])
    of_x, of_source = reference.put_backward(g, np.array([[0, 2], [-3, 2]]))
    assert of_x.tolist() == [0, 6, 0]
    assert of_source.tolist() == [[0, 0], [5, 7]]


@EVERY_REDUCE
@INCLUDED
@CASES
@given(shaped())
def test_scatter_reduce(reduce, include_self, case):
    shape, dim, index, rng = case
    index = element_index(shape, dim, index, rng)
    x, src = whole(rng, *shape), whole(rng, *index.shape)
    if reduce == "prod":
        x, src = (np.sign(v) * 2.0 ** rng.integers(-2, 3, v.shape) for v in (x, src))
    if reduce in ("amax", "amin") and not include_self:
        x += 0.5  # torch counts an x that plays no part, if it equals the result
    y = t(x).scatter_reduce(dim, t(index), t(src), reduce, include_self=include_self)
    g, expected = gradients(
        lambda x, s: x.scatter_reduce(dim, t(index), s, reduce, include_self=include_self), whole_of(rng), x, src
    )
    got = reference.scatter_reduce_backward(g, x, dim, index, src, y.numpy(), reduce, include_self)
    for one, stock in zip(got, expected, strict=True):
        equal(one, t(stock))


def test_src_outside_the_index_has_the_gradient_zero():
    src, index = np.ones((2, 3)), np.array([[0, 1]])
    x, g = np.zeros((2, 3)), np.arange(6.0).reshape(2, 3) + 1
    got = reference.scatter_reduce_backward(g, x, 0, index, src, x, "sum")
    assert same_bits(got[0], g)
    assert got[1].tolist() == [[1, 5, 0], [0, 0, 0]]
    with pytest.raises(RuntimeError, match="returned an invalid gradient"):
        gradients(lambda s: t(x).scatter_add(0, t(index), s), whole_of(np.random.default_rng(0)), src)


def shares(x, src, reduce="amax", include_self=True, g=6.0):
    x, src = np.array([x]), np.array(src)
    index = np.zeros(len(src), np.int64)
    y = reference.scatter_reduce(x, 0, index, src, reduce, include_self).value
    of_x, of_src = reference.scatter_reduce_backward(np.array([g]), x, 0, index, src, y, reduce, include_self)
    return [*of_x.tolist(), *of_src.tolist()]


def test_ties_share_the_gradient():
    assert shares(2.0, [2.0, 1.0, 2.0]) == [2, 2, 0, 2]
    assert shares(-2.0, [2.0, 1.0, -2.0], "amin") == [3, 0, 0, 3]
    assert shares(0.0, [-0.0, -1.0]) == [3, 3, 0], "zeros of both signs tie"
    assert shares(2.0, [2.0, 2.0], include_self=False) == [0, 3, 3], "x takes no share of what it plays no part in"
    stock = gradients(
        lambda x, s: x.scatter_reduce(0, t(FIRST), s, "amax", include_self=False),
        lambda *_: np.array([6.0]),
        *(np.array([2.0]), np.array([2.0, 2.0])),
    )[1]
    assert stock[1].tolist() == [2, 2], "torch loses a third"


def test_nan_share_the_gradient_of_nan():
    assert shares(2.0, [NAN, 1.0, NAN]) == [0, 3, 0, 3]
    assert shares(NAN, [NAN, 1.0], "amin") == [3, 3, 0]
    assert shares(INF, [1.0, INF]) == [3, 0, 3]
    got = np.array(shares(2.0, [3.0, 1.0], g=-6.0))
    assert same_bits(got, np.array([0.0, -6, 0.0])), "+0.0, not -0.0, for what is not chosen"
    assert shares(2.0, [3.0, 1.0], g=INF) == [0, INF, 0], "torch multiplies by 0, which makes NaN"


@pytest.mark.parametrize(
    ("x", "src", "expected"),
    [
        (2.0, [3.0, 4.0], [72, 48, 36]),
        (2.0, [0.0, 4.0], [0, 48, 0]),
        (0.0, [3.0, 4.0], [72, 0, 0]),
        (0.0, [0.0, 4.0], [0, 0, 0]),
        (2.0, [0.0, 0.0], [0, 0, 0]),
        (2.0, [NAN, 0.0], [NAN, NAN, NAN]),
        (2.0, [INF, 0.0], [NAN, NAN, INF]),
    ],
)
def test_products_with_zeros(x, src, expected):
    np.testing.assert_array_equal(shares(x, src, "prod"), expected)


def test_the_product_of_a_gradient_has_the_tree_of_the_forward():
    rng = np.random.default_rng(8)
    src = 1 + rng.standard_normal(700) / 64
    x, index, g = np.array([1.25]), np.zeros(700, np.int64), np.array([3.0])
    y = reference.scatter_reduce(x, 0, index, src, "prod").value
    got = reference.scatter_reduce_backward(g, x, 0, index, src, y, "prod")
    assert same_bits(got[0], (g * y) / x)
    assert same_bits(got[1], (g * y) / src)


def test_a_gradient_that_is_a_copy_keeps_its_bits():
    payload = words(0xFF800123, 0x3F800000)  # signalling: every operation would set its first bit of fraction
    x = np.zeros(2, np.float32)
    got = [
        reference.index_add_backward(payload, 0, np.array([0])),
        *reference.index_copy_backward(payload, 0, np.array([0]))[1:],
        *reference.put_backward(payload, np.array([0]))[1:],
        *reference.index_put_backward(payload, (np.array([0]),), False)[1:],
        reference.segment_sum_backward(payload, 1, np.array([0, 1, 1])),
        reference.scatter_reduce_backward(payload, x, 0, np.array([1]), x[:1], x, "mean")[0][:1],
        reference.scatter_reduce_backward(payload, x, 0, np.array([1]), x[:1], x, "amax", False)[0][:1],
    ]
    for one in got:
        assert [hex(v) for v in one.view(np.uint32)] == ["0xff800123"]


@CASES
@given(indices())
def test_segments(case):
    index, size, rng = case
    lengths, n = np.bincount(index, minlength=size), len(index)
    z, offsets = whole(rng, n, 2), reference.segment_offsets(n, lengths=lengths)
    backward = {
        "sum": lambda g, y: reference.segment_sum_backward(g, n, offsets),
        "mean": lambda g, y: reference.segment_mean_backward(g, n, offsets),
        "max": lambda g, y: reference.segment_max_backward(g, z, y, offsets),
    }
    for name, own in backward.items():
        y = getattr(reference, f"segment_{name}")(z, offsets)
        # Not negative: of max torch divides only what is positive.
        g, (of_z,) = gradients(
            lambda x, n=name: torch.segment_reduce(x, n, lengths=t(lengths), axis=0),
            lambda *shape: np.abs(whole(rng, *shape)),
            z,
        )
        equal(own(g, y), t(of_z))


def test_nan_share_the_gradient_of_a_segment():
    z, at = np.array([1.0, NAN, NAN, -0.0, 0.0]), np.array([0, 3, 5, 5])
    got = reference.segment_max_backward(np.full(3, 6.0), z, reference.segment_max(z, at), at)
    assert got.tolist() == [0, 3, 3, 3, 3]


def test_negative_gradients_of_a_segment_are_shared_too():
    z, at, six = np.array([1.0, 1.0]), np.array([0, 2]), np.array([-6.0])
    assert reference.segment_max_backward(six, z, np.array([1.0]), at).tolist() == [-3, -3]
    stock = gradients(lambda x: torch.segment_reduce(x, "max", offsets=t(at), axis=0), lambda *_: six, z)[1][0]
    assert stock.tolist() == [-6, -6], "torch divides only what is positive"


def test_sums_of_gradients_are_z_from_plus_zero():
    g = np.random.default_rng(1).standard_normal((700, 2)).astype(np.float32)
    index = np.zeros(700, np.int64)
    z = reference.segment_tree(np.zeros(2, np.float32), g)
    for got in (
        reference.index_select_backward(g, (2, 2), 0, index),
        reference.index_backward(g, (2, 2), (index,)),
        reference.gather_backward(g, (2, 2), 0, np.zeros((700, 2), np.int64)),
        reference.embedding_backward(g, 2, index),
    ):
        assert same_bits(got, np.stack([z, np.zeros(2, np.float32)]))
    minus = np.full((1, 2), -0.0)
    assert same_bits(reference.index_select_backward(minus, (1, 2), 0, np.array([0])), np.zeros((1, 2)))
