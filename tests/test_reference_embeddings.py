"""embedding, embedding_bag, bincount, histc and histogram of detprobe.reference against torch on CPU.

Whole numbers in f64, so that sums are exact in any order; where means are taken, multiples of 27720, which every number
up to 12 divides. torch's gradients of means are held to that too, by way of its sums: it multiplies with reciprocals.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from index_patterns import indices, whole
from scalar_numbers import same_bits
from scatter_cases import CASES, equal, t

from detprobe import reference
from detprobe.reference import histograms

NAN, INF = math.nan, math.inf
UNIT = 27720
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@CASES
@given(indices(most=12), st.booleans())
def test_embedding_and_its_gradient_are_torchs(case, padded):
    index, rows, rng = case
    padding_idx = int(rng.integers(-rows, rows)) if padded else None
    weight = torch.tensor(whole(rng, rows, 3), requires_grad=True)
    y = F.embedding(t(index), weight, padding_idx)
    equal(reference.embedding(weight.detach().numpy(), index), y)
    g = whole(rng, *y.shape)
    y.backward(t(g))
    equal(reference.embedding_backward(g, rows, index, padding_idx), weight.grad)
    often = np.maximum(np.bincount(index, minlength=rows), 1)[:, None]
    by_freq = reference.embedding_backward(g, rows, index, padding_idx, scale_grad_by_freq=True)
    equal(by_freq, weight.grad / t(often))
    # torch multiplies every record with 1 / n and may fuse: the same to a few roundings.
    leaf = weight.detach().requires_grad_()
    F.embedding(t(index), leaf, padding_idx, scale_grad_by_freq=True).backward(t(g))
    np.testing.assert_allclose(by_freq, leaf.grad.numpy(), rtol=0, atol=64 * 2.0**-53)


@st.composite
def bags(draw):
    index, rows, rng = draw(indices(most=12))
    last = draw(st.booleans())
    offsets = np.sort(rng.integers(0, len(index) + 1, draw(st.integers(1 + last, 5))))  # torch crashes on no bags
    offsets[0] = 0
    if last:
        offsets[-1] = len(index)
    padding_idx = draw(st.one_of(st.none(), st.integers(-rows, rows - 1)))
    return index, offsets, rows, padding_idx, last, rng


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@settings(CASES, max_examples=100)
@given(bags())
def test_embedding_bag_and_its_gradient_are_torchs(mode, case):
    index, offsets, rows, padding_idx, last, rng = case
    weight = torch.tensor(whole(rng, rows, 3, unit=UNIT), requires_grad=True)
    own = {"padding_idx": padding_idx, "include_last_offset": last}
    y = F.embedding_bag(t(index), weight, t(offsets), mode=mode, **own)
    numbers = weight.detach().numpy()
    equal(reference.embedding_bag(numbers, index, offsets, mode, **own), y)
    g = whole(rng, *y.shape, unit=UNIT)
    y.backward(t(g))
    got = reference.embedding_bag_backward(g, numbers, index, offsets, mode, **own)
    assert got.per_sample_weights is None
    if mode != "mean":
        equal(got.weight, weight.grad)
        return
    # torch adds g * (1 / n), fused: the same to a few roundings, and exactly the gradient of the sum for g / n.
    np.testing.assert_allclose(got.weight, weight.grad.numpy(), rtol=0, atol=12 * 12 * 4 * UNIT * 2.0**-53)
    held = F.embedding_bag(t(index), torch.ones_like(weight), t(offsets), mode="sum", **own)
    leaf = weight.detach().requires_grad_()
    F.embedding_bag(t(index), leaf, t(offsets), mode="sum", **own).backward(t(g) / held.clamp(min=1))
    equal(got.weight, leaf.grad)


@settings(CASES, max_examples=100)
@given(bags())
def test_per_sample_weights_are_torchs(case):
    index, offsets, rows, padding_idx, last, rng = case
    weight = torch.tensor(whole(rng, rows, 3), requires_grad=True)
    each = torch.tensor(whole(rng, len(index)), requires_grad=True)
    own = {"padding_idx": padding_idx, "include_last_offset": last}
    y = F.embedding_bag(t(index), weight, t(offsets), mode="sum", per_sample_weights=each, **own)
    own["per_sample_weights"] = each.detach().numpy()
    numbers = weight.detach().numpy()
    equal(reference.embedding_bag(numbers, index, offsets, "sum", **own), y)
    g = whole(rng, *y.shape)
    y.backward(t(g))
    got = reference.embedding_bag_backward(g, numbers, index, offsets, "sum", **own)
    equal(got.weight, weight.grad)
    equal(got.per_sample_weights, each.grad)


def test_records_behind_the_last_bag_belong_to_none():
    weight, index, offsets = np.array([[2.0], [3.0]]), np.array([0, 1, 1, 1]), np.array([0, 1, 2])
    own = {"per_sample_weights": np.ones(4), "include_last_offset": True}
    assert reference.embedding_bag(weight, index, offsets, "sum", **own).tolist() == [[2], [3]]
    g = np.array([[5.0], [7.0]])
    got = reference.embedding_bag_backward(g, weight, index, offsets, "sum", **own)
    assert got.weight.tolist() == [[5], [7]]
    assert got.per_sample_weights.tolist() == [10, 21, 0, 0]
    assert reference.embedding_bag(weight, index, offsets[:1], "sum", **own).shape == (0, 1), "one offset, no bag"
    # No comparison: torch counts them in f64, leaves them out in f32, and reads out of bounds backwards.


def test_scale_grad_by_freq_divides_by_the_count_of_the_row_in_all_bags():
    weight, index, offsets = np.zeros((4, 1)), np.array([1, 1, 2, 1, 3]), np.array([0, 3])
    g = np.array([[6.0], [12.0]])
    got = reference.embedding_bag_backward(g, weight, index, offsets, "sum", scale_grad_by_freq=True)
    assert got.weight[:, 0].tolist() == [0, 8, 6, 12]
    got = reference.embedding_bag_backward(g, weight, index, offsets, "mean", scale_grad_by_freq=True, padding_idx=3)
    assert got.weight[:, 0].tolist() == [0, 16 / 3, 2, 0], "the bags hold 3 and 1"
    leaf = torch.tensor(weight, requires_grad=True)
    F.embedding_bag(t(index), leaf, t(offsets), mode="sum", scale_grad_by_freq=True).backward(t(g))
    assert leaf.grad[:, 0].tolist() == [0, 8, 2, 4], "torch divides rows 2 and 3 by the count of row 1"
    with pytest.raises(ValueError, match="scale_grad_by_freq does not go with mode 'max'"):
        reference.embedding_bag_backward(g, weight, index, offsets, "max", scale_grad_by_freq=True)


def test_the_first_of_the_largest_wins_a_bag():
    weight = np.array([[1.0, 0.0, NAN], [1.0, -0.0, 5.0], [0.0, 0.0, NAN]])
    index, offsets = np.array([1, 0, 2]), np.array([0, 0, 3])
    y = reference.embedding_bag(weight, index, offsets, "max")
    assert same_bits(y, np.array([[0, 0, 0], [1.0, 0.0, NAN], [0, 0, 0]])), "empty bags hold +0.0"
    g = np.array([[9.0, 9, 9], [1, 2, 3], [9, 9, 9]])
    got = reference.embedding_bag_backward(g, weight, index, offsets, "max").weight
    assert got.tolist() == [[0, 2, 3], [1, 0, 0], [0, 0, 0]], "-0.0 came first, and lost"


def test_a_bag_is_a_segment_from_plus_zero_without_its_padding():
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((50, 3)).astype(np.float32)
    index = rng.integers(0, 50, 900)
    kept = weight[index[index != 7]]
    z = reference.segment_tree(np.zeros(3, np.float32), kept)
    one = np.array([0])
    assert same_bits(reference.embedding_bag(weight, index, one, "sum", padding_idx=7)[0], z)
    assert same_bits(reference.embedding_bag(weight, index, one, "mean", padding_idx=-43)[0], z / np.float32(len(kept)))
    each = rng.standard_normal(900).astype(np.float32)
    z = reference.segment_tree(np.zeros(3, np.float32), each[:, None] * weight[index])
    assert same_bits(reference.embedding_bag(weight, index, one, "sum", per_sample_weights=each)[0], z)
    g = rng.standard_normal((1, 3)).astype(np.float32)
    of = reference.embedding_bag_backward(g, weight, index, one, "sum", per_sample_weights=each)
    assert same_bits(of.per_sample_weights, reference.sum_products(g.repeat(900, 0), weight[index]))
    minus = np.full((1, 1), -0.0)
    assert same_bits(reference.embedding_bag(minus, np.array([0]), one, "sum"), np.zeros((1, 1)))


def test_arguments_that_do_not_go_together():
    weight, index = np.zeros((3, 1)), np.array([0, 1])
    with pytest.raises(ValueError, match="per_sample_weights go with mode 'sum', got 'mean'"):
        reference.embedding_bag(weight, index, np.array([0]), "mean", per_sample_weights=np.ones(2))
    for offsets in ([1], [0, 2, 1], [0, 3]):
        with pytest.raises(ValueError, match=r"expected ascending offsets from 0 to at most 2, got \["):
            reference.embedding_bag(weight, index, np.array(offsets), "sum")
    for bad in ([0, -1], [0, 3]):
        with pytest.raises(IndexError, match=rf"index {bad[1]} at position 1 is out of range for size 3"):
            reference.embedding_bag(weight, np.array(bad), np.array([0]), "sum")
    assert reference.embedding_bag(weight, index[:0], index[:0], "sum").shape == (0, 1)


@CASES
@given(indices(), st.integers(0, 12), st.sampled_from([np.float32, np.float64, np.int64, np.float16]))
def test_bincount_is_torchs(case, minlength, dtype):
    index, _, rng = case
    equal(reference.bincount(index, minlength=minlength), torch.bincount(t(index), minlength=minlength))
    weights = whole(rng, len(index)).astype(dtype)
    got = reference.bincount(index, weights, minlength)
    if len(index):
        equal(got, torch.bincount(t(index), t(weights), minlength))
    else:  # torch: int64, whatever the weights are
        assert same_bits(got, np.zeros(minlength, np.float32 if dtype == np.float32 else np.float64))


def test_bincount_sums_by_z_and_refuses_what_is_negative():
    weights = np.random.default_rng(1).standard_normal(700).astype(np.float32)
    z = reference.segment_tree(np.zeros(1, np.float32), weights[:, None])
    assert same_bits(reference.bincount(np.zeros(700, np.int64), weights), z)
    with pytest.raises(ValueError, match="expected one dimension of numbers that are not negative"):
        reference.bincount(np.array([1, -1]))


@FLOATS
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_histc_puts_every_element_where_torch_does(dtype, seed, bins):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rng.integers(0, 40), 7)) * 2.0 ** rng.integers(-3, 4)).astype(dtype)
    equal(reference.histc(x, bins), torch.histc(t(x), bins))
    low, high = sorted(rng.standard_normal(2).tolist())
    x[rng.random(x.shape) < 0.1] = NAN
    x[rng.random(x.shape) < 0.1] = INF
    x[rng.random(x.shape) < 0.1] = high
    equal(reference.histc(x, bins, low, high), torch.histc(t(x), bins, low, high))


@FLOATS
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_histogram_is_torchs_where_the_edges_are_the_same(dtype, seed, bins, density):
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.integers(-8, 9, bins + 1)).astype(dtype)
    x = (rng.integers(-40, 41, (5, 6)) / 4).astype(dtype)
    x[rng.random(x.shape) < 0.1] = NAN
    weight = whole(rng, 5, 6).astype(dtype)
    for w in (None, weight):
        got = reference.histogram(x, edges, w, density)
        stock = torch.histogram(t(x), t(edges), weight=None if w is None else t(w), density=density)
        equal(got, stock.hist)
    for between in ((-8.0, 8.0), (2.0, 2.0), None):
        wide = 2 ** int(rng.integers(0, 4))  # steps are exact: fused or not, the edges are the same
        x = np.nan_to_num(x)
        x[0, :2] = -16, 16
        edges = reference.histogram_edges(x, wide, between)
        stock = torch.histogram(t(x), wide, range=between, weight=t(weight))
        equal(edges, stock.bin_edges)
        equal(reference.histogram(x, edges, weight), stock.hist)


@FLOATS
def test_edges_are_the_written_formula(dtype):
    rng = np.random.default_rng(3)
    x, acc = np.zeros(0, dtype), dtype
    for _ in range(50):
        bins = int(rng.integers(1, 40))
        low, high = sorted(rng.standard_normal(2).tolist())
        lo, hi = acc(low), acc(high)
        s = (hi - lo) / acc(bins)
        half = (bins + 1) // 2
        by_hand = [lo + s * acc(i) if i < half else hi - s * acc(bins - i) for i in range(bins + 1)]
        assert same_bits(reference.histogram_edges(x, bins, (low, high)), np.array(by_hand, dtype))


@FLOATS
def test_ranges_at_their_corners(dtype):
    same, none = np.full(3, 2, dtype), np.zeros(0, dtype)
    assert reference.histc(same, 3).tolist() == [0, 3, 0]
    assert reference.histogram_edges(same, 2).tolist() == [1.5, 2, 2.5]
    assert reference.histogram_edges(none, 2).tolist() == [0, 0.5, 1]
    assert reference.histc(none, 3).tolist() == [0, 0, 0]
    assert np.isnan(reference.histogram(none, np.array([0, 1], dtype), density=True)).all()
    assert reference.histc(np.array([3, 4, 5], dtype), 2, 4, 4).tolist() == [1, 2], "equal ends: those of x"
    huge = np.array([np.finfo(dtype).min, np.finfo(dtype).max])
    for x, low, high in ((same, 3, 1), (np.array([1, NAN], dtype), 0, 0), (np.array([1, INF], dtype), 0, 0)):
        with pytest.raises(ValueError, match="expected a finite ascending range"):
            reference.histc(x, 3, low, high)
    with pytest.raises(ValueError, match="expected a finite ascending range"):
        reference.histc(huge, 3)
    for edges in ([1], [2, 1], [NAN, 1]):
        with pytest.raises(ValueError, match="expected at least two ascending edges"):
            reference.histogram(same, np.array(edges, dtype))


def test_counts_go_on_where_a_float_stops():
    torch.set_num_threads(1)  # each of two threads counts up to there
    x = np.zeros(2**24 + 9, np.float32)
    assert reference.histc(x, 1, -1, 1).tolist() == [2.0**24 + 8], "2^24 + 9, rounded once"
    assert torch.histc(t(x), 1, -1, 1).tolist() == [2.0**24]
    assert histograms.histogram(x[:5], np.array([-1.0, 1.0], np.float32)).tolist() == [5.0]


def test_a_product_that_overflows_is_in_the_last_bin():
    x = np.array([3e38, 2.5e38, 1.0], np.float32)
    assert reference.histc(x, 1000, 0, 3.2e38).tolist()[-1] == 2.0
