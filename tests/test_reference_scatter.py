"""The scatter ops of detprobe.reference against torch on CPU.

Numbers are small integers in f64, so that every order gives the same sums and equality is exact. Where torch and the
contract part (csrc/README.md, "Where this differs"), a test of its own says what is here.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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
    read_by_torch,
    shaped,
    t,
    with_size,
)

from detprobe import reference
from detprobe.reference import segments

NAN, INF = math.nan, math.inf
f32 = {"dtype": np.float32}


@CASES
@given(shaped(), st.sampled_from([1, 0, -3]))
def test_index_add_is_torchs(case, alpha):
    shape, dim, index, rng = case
    x, source = whole(rng, *shape), whole(rng, *with_size(shape, dim, len(index)))
    got = reference.index_add(x, dim, index, source, alpha)
    equal(got.value, t(x).index_add(dim, t(index), t(source), alpha=alpha))
    touched = torch.zeros(shape, dtype=torch.bool).index_fill(dim, t(index), True)
    equal(got.touched, touched)


@EVERY_REDUCE
@INCLUDED
@CASES
@given(shaped())
def test_scatter_reduce_is_torchs(reduce, include_self, case):
    shape, dim, index, rng = case
    index = element_index(shape, dim, index, rng)
    x = whole(rng, *shape)
    src = whole(rng, *(n + int(rng.integers(2)) for n in index.shape))
    if reduce == "prod":
        src = np.sign(src) * 2.0 ** rng.integers(-2, 3, src.shape)  # exact in any order, however many
    got = reference.scatter_reduce(x, dim, index, src, reduce, include_self)
    equal(got.value, t(x).scatter_reduce(dim, t(index), t(src), reduce, include_self=include_self))
    ones = np.ones_like(src, np.int64)
    equal(got.touched, torch.zeros(shape, dtype=torch.int64).scatter_add(dim, t(index), t(ones)) > 0)
    if reduce == "sum" and include_self:
        assert same_bits(reference.scatter_add(x, dim, index, src).value, got.value)
    integers = [v.astype(np.int64) for v in (x, src)]
    got = reference.scatter_reduce(integers[0], dim, index, integers[1], reduce, include_self)
    equal(got.value, t(integers[0]).scatter_reduce(dim, t(index), t(integers[1]), reduce, include_self=include_self))


def put_by_torch(x, indices, values, accumulate):
    out = t(x)
    torch.ops.aten.index_put_(out, [None if i is None else t(i) for i in indices], t(values), accumulate)
    return out


@pytest.mark.parametrize("name", ADVANCED)
@CASES
@given(indices())
def test_index_put_that_accumulates_is_torchs(name, case):
    shape, chosen, rng = advanced_case(name, case)
    x = whole(rng, *shape)
    values = whole(rng, *read_by_torch(x, chosen).shape)
    for v in (values, values[:1] if values.ndim and len(values) else values, np.array(3.0)):
        got = reference.index_put_accumulate(x, chosen, v)
        equal(got.value, put_by_torch(x, chosen, v, True))
        equal(got.touched, put_by_torch(np.zeros(shape, bool), chosen, np.array(True), False))


@pytest.mark.parametrize("name", ADVANCED)
@CASES
@given(indices())
def test_index_put_keeps_the_last_in_the_order_of_the_broadcast_index(name, case):
    shape, chosen, rng = advanced_case(name, case)
    x = whole(rng, *shape)
    places = np.arange(x.size).reshape(shape)
    aimed = read_by_torch(places, chosen)
    values = rng.permutation(aimed.size).reshape(aimed.shape) + 100.0
    by_hand = x.reshape(-1).copy()
    for place, value in zip(aimed.reshape(-1), values.reshape(-1), strict=True):
        by_hand[place] = value
    assert same_bits(reference.index_put(x, chosen, values), by_hand.reshape(shape))


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_a_mask_stands_for_its_nonzero_coordinates(dims):
    rng = np.random.default_rng(4)
    shape = (5, 3, 4)
    mask = rng.random([shape[d] for d in dims]) < 0.5
    chosen = (*(None for _ in range(dims[0])), mask)
    x = whole(rng, *shape)
    values = whole(rng, *read_by_torch(x, chosen).shape)
    equal(reference.index_put_accumulate(x, chosen, values).value, put_by_torch(x, chosen, values, True))
    equal(reference.index_put(x, chosen, values), put_by_torch(x, chosen, values, False))
    with pytest.raises(IndexError, match=r"expected a mask \[5\], got \[4\]"):
        reference.index_put(x, (np.zeros(4, bool),), values)


@CASES
@given(shaped())
def test_index_copy_keeps_the_last(case):
    shape, dim, index, rng = case
    x, source = whole(rng, *shape), whole(rng, *with_size(shape, dim, len(index)))
    by_hand = np.moveaxis(x, dim, 0).copy()
    for to, slice_ in zip(index, np.moveaxis(source, dim, 0), strict=True):
        by_hand[to] = slice_
    assert same_bits(reference.index_copy(x, dim, index, source), np.moveaxis(by_hand, 0, dim))
    if len(set(index.tolist())) == len(index):
        equal(reference.index_copy(x, dim, index, source), t(x).index_copy(dim, t(index), t(source)))


@CASES
@given(indices())
def test_put_is_torchs_and_keeps_the_last(case):
    index, size, rng = case
    shape = (size, 3)
    index = some_negative(np.concatenate([index, index * 3])[:, None], 3 * size, rng)
    x, source = whole(rng, *shape), whole(rng, 1, index.size)
    equal(reference.put_accumulate(x, index, source).value, t(x).put(t(index), t(source), accumulate=True))
    by_hand = x.reshape(-1).copy()
    for to, value in zip(index.reshape(-1), source.reshape(-1), strict=True):
        by_hand[to] = value
    assert same_bits(reference.put(x, index, source), by_hand.reshape(shape))


@CASES
@given(shaped())
def test_gather_is_torchs(case):
    shape, dim, index, rng = case
    index = element_index(shape, dim, index, rng)
    x = whole(rng, *shape)
    equal(reference.gather(x, dim, index), t(x).gather(dim, t(index)))


@CASES
@given(indices(), st.booleans())
def test_segments_are_torchs(case, by_offsets):
    index, size, rng = case
    lengths = np.bincount(index, minlength=size)
    n = len(index)
    z = whole(rng, n, 3)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    where = {"offsets": offsets} if by_offsets else {"lengths": lengths}
    given_ = {key: t(value) for key, value in where.items()}
    at = reference.segment_offsets(n, **where)
    for name in ("sum", "mean", "max"):
        got = getattr(reference, f"segment_{name}")(z, at)
        equal(got, torch.segment_reduce(t(z), name, axis=0, **given_))


def test_records_outside_every_segment_belong_to_none():
    z = np.arange(5.0)
    at = reference.segment_offsets(5, offsets=np.array([1, 3, 3]))
    assert reference.segment_sum(z, at).tolist() == [3.0, 0.0]
    assert reference.segment_sum_backward(np.array([7.0, 8.0]), 5, at).tolist() == [0, 7, 7, 0, 0]
    for bad in ({"offsets": [2, 1]}, {"offsets": [-1, 2]}, {"offsets": [0, 6]}, {"lengths": [6, -1]}, {"lengths": [4]}):
        with pytest.raises(
            ValueError, match=r"expected (ascending offsets from 0 to 5|lengths of at least 0 that sum)"
        ):
            reference.segment_offsets(5, **{key: np.array(value) for key, value in bad.items()})
    with pytest.raises(ValueError, match="expected either lengths or offsets"):
        reference.segment_offsets(5)


@EVERY_REDUCE
@INCLUDED
def test_special_numbers_in_scatter_reduce_are_torchs(reduce, include_self):
    values = np.array([NAN, INF, -INF, -0.0, 0.0, 1.5])
    pairs = np.array(np.meshgrid(values, values, values)).reshape(3, -1)
    x, src = pairs[0], pairs[1:].reshape(-1)
    index = np.tile(np.arange(len(x)), 2)
    got = reference.scatter_reduce(x, 0, index, src, reduce, include_self).value
    equal(got, t(x).scatter_reduce(0, t(index), t(src), reduce, include_self=include_self))


def test_the_signs_of_zeros():
    minus, none, index = np.array([-0.0], **f32), np.zeros(1, **f32), np.array([0])
    zero = np.array([0.0], **f32)
    for reduce in ("sum", "mean", "amax", "amin"):
        got = reference.scatter_reduce(none, 0, index, minus, reduce, include_self=False).value
        assert same_bits(got, minus), "starts from the first record, where torch starts from 0"
    assert same_bits(reference.scatter_add(minus, 0, index, minus).value, minus)
    assert same_bits(reference.scatter_add(zero, 0, index, minus).value, zero)
    assert same_bits(reference.scatter_reduce(zero, 0, index, minus, "amax").value, zero)
    assert same_bits(reference.scatter_reduce(minus, 0, index, zero, "amax").value, zero)
    assert same_bits(reference.scatter_reduce(zero, 0, index, minus, "amin").value, minus)
    assert same_bits(reference.segment_max(minus, np.array([0, 1])), minus)


@pytest.mark.parametrize(("name", "payload"), [("bfloat16", 0xFFC5), ("float16", 0xFE05)])
def test_half_keeps_untouched_bits_and_rounds_once(name, payload):
    one, big = (0x3F80, 0x4380) if name == "bfloat16" else (0x3C00, 0x6800)  # 1, and where the last place is worth 2
    x = np.array([payload, big, payload, 0x8000], np.uint16)
    source = np.array([one, one, one], np.uint16)
    wide = [reference.widen(v, name) for v in (x, source)]
    got = reference.store(reference.index_add(wide[0], 0, np.array([1, 2, 1]), wide[1]), x, name)
    assert same_bits(got, np.array([payload, big + 1, 0x7FC0 if name == "bfloat16" else 0x7E00, 0x8000], np.uint16))


def test_f32_keeps_untouched_bits_and_makes_computed_nan_one():
    x = words(0xFFC00123, 0xFFC00123, 0x7F800001)
    got = reference.index_add(x, 0, np.array([1]), np.ones(1, **f32))
    stored = reference.store(got, x, "float32").view(np.uint32)
    assert [hex(v) for v in stored] == ["0xffc00123", "0x7fc00000", "0x7f800001"]
    got = reference.scatter_reduce(np.ones(1, **f32), 0, np.array([0]), x[:1], "amax", include_self=False)
    assert reference.store(got, x[:1], "float32").view(np.uint32)[0] == 0x7FC00000
    for copied in (
        reference.index_copy(np.ones(1, **f32), 0, np.array([0, 0]), x[:2]),
        reference.index_put(np.ones(1, **f32), (np.array([0, -1]),), x[:2]),
        reference.put(np.ones(1, **f32), np.array([0, -1]), x[:2]),
        reference.gather(x, 0, np.array([1])),
    ):
        assert copied.view(np.uint32)[0] == 0xFFC00123


def test_alpha_is_rounded_and_multiplies_before_the_sum():
    alpha, x, source = 0.1, np.ones(50, **f32), np.arange(50, **f32)
    got = reference.index_add(x, 0, np.arange(50), source, alpha).value
    assert same_bits(got, x + np.float32(alpha) * source)
    fused = reference.fma(np.full(50, alpha, **f32), source, x)
    assert (got != fused).any(), "some of these differ, so that the line above says something"


@pytest.mark.parametrize("name", ["int8", "uint8", "int32", "int64"])
def test_integers_wrap_to_the_low_bits_as_torch_does(name):
    rng = np.random.default_rng(6)
    info = np.iinfo(name)
    x, source = (rng.integers(info.min, info.max, n, name, endpoint=True) for n in (3, 900))
    index = rng.integers(0, 2, 900)
    wide = [reference.widen(v, name) for v in (x, source)]
    for reduce in ("sum", "prod", "amax", "amin"):
        got = reference.store(reference.scatter_reduce(wide[0], 0, index, wide[1], reduce), x, name)
        equal(got, t(x).scatter_reduce(0, t(index), t(source), reduce))


def test_the_integer_mean_floors_the_whole_sum():
    index = np.array([0, 0])
    wide = np.array([2]), np.array([120, 127])
    assert reference.scatter_reduce(wide[0], 0, index, wide[1], "mean").value.tolist() == [83]
    stock = torch.tensor([2], dtype=torch.int8).scatter_reduce(0, t(index), t(wide[1].astype(np.int8)), "mean")
    assert stock.tolist() == [-3], "torch wraps before it divides"
    negative = reference.scatter_reduce(np.array([0]), 0, index, np.array([-3, -4]), "mean", include_self=False)
    assert negative.value.tolist() == [-4]


def test_integers_take_no_fraction_of_a_record():
    one = np.array([1])
    assert reference.index_add(one, 0, np.array([0]), one, 2.0).value.tolist() == [3]
    with pytest.raises(ValueError, match=r"expected an integer alpha for integers, got 1\.5"):
        reference.index_add(one, 0, np.array([0]), one, 1.5)


def test_bool_is_or_and_and():
    x, source, index = np.array([False, False, True]), np.array([True, True, False]), np.array([0, 0, 2])
    wide = [reference.widen(v, "bool") for v in (x, source)]
    for reduce in ("sum", "prod", "amax", "amin"):
        got = reference.store(reference.scatter_reduce(wide[0], 0, index, wide[1], reduce), x, "bool")
        equal(got, t(x).scatter_reduce(0, t(index), t(source), reduce))


X, ONE = np.zeros((3, 2)), np.ones((1, 2))


@pytest.mark.parametrize("value", [-4, -1, 3, 2**40])
def test_an_index_out_of_range_is_named(value):
    index = np.array([0, value, 7])
    row = {
        "index_add": lambda: reference.index_add(X, 0, index, ONE.repeat(3, 0)),
        "index_copy": lambda: reference.index_copy(X, 0, index, ONE.repeat(3, 0)),
        "scatter_add": lambda: reference.scatter_add(X, 0, index[:, None], ONE.repeat(3, 0)),
        "gather": lambda: reference.gather(X, 0, index[:, None]),
        "embedding": lambda: reference.embedding(X, index),
    }
    wrapping = {
        "index_put": lambda: reference.index_put(X, (index,), ONE),
        "index_put_accumulate": lambda: reference.index_put_accumulate(X, (index,), ONE),
    }
    for op in row.values():
        with pytest.raises(IndexError, match=rf"^index {value} at position 1 is out of range for size 3$"):
            op()
    for op in wrapping.values():
        value_, at = (7, 2) if value == -1 else (value, 1)
        with pytest.raises(IndexError, match=rf"^index {value_} at position {at} is out of range for size 3$"):
            op()
    with pytest.raises(IndexError, match="index -7 at position 1 is out of range for size 6"):
        reference.put_accumulate(X, np.array([-6, -7]), np.ones(2))


def test_a_0_dim_index_is_one_record():
    equal(reference.index_add(X, 0, np.array(1), ONE).value, t(X).index_add(0, torch.tensor(1), t(ONE)))


def test_sizes_of_zero():
    none, empty = np.zeros(0, np.int64), np.zeros((0, 2))
    assert same_bits(reference.index_add(X, 0, none, empty).value, X)
    assert reference.index_add(empty, 0, none, empty).value.shape == (0, 2)
    assert reference.index_add(np.zeros((3, 0)), 0, np.array([1]), np.zeros((1, 0))).value.shape == (3, 0)
    assert reference.scatter_add(empty, 0, np.zeros((0, 2), np.int64), empty).value.shape == (0, 2)
    assert reference.put(np.zeros(0), none, np.zeros(0)).shape == (0,)
    assert reference.segment_sum(empty, np.array([0, 0])).tolist() == [[0, 0]]
    assert np.isnan(segments.segment_mean(empty, np.array([0, 0]))).all()
