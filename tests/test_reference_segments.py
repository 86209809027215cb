"""detprobe.reference combines a segment in the order of csrc/README.md, DSEG-1, retold here one number at a time."""

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from index_patterns import indices, made
from scalar_numbers import ACC, add, corners, nearest, same_bits, words

from detprobe import reference
from detprobe.reference import segments

FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LENGTHS = (1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 1500)
NAN, INF = math.nan, math.inf
segment_sums = reference.segment_tree


def among_others(d, r):
    """The same segment by way of index_add, between records of two other destinations."""
    rng = np.random.default_rng(len(r))
    index = rng.permutation(np.repeat([0, 1, 2], [300, len(r), 7]))
    records = rng.standard_normal((len(index), r.shape[1])).astype(r.dtype)
    records[index == 1] = r
    start = np.zeros_like(r[0]) if d is None else d
    each = np.stack([start, start, start])
    return segments.combined(each, index, records, include_self=d is not None).value[1]


WAYS = pytest.mark.parametrize("combine", [segment_sums, among_others])


def multiply(x, y, name):
    """x * y of two Python floats, rounded once."""
    if not (math.isfinite(x) and math.isfinite(y)) or x == 0 or y == 0:
        return x * y
    return nearest(Fraction(x) * Fraction(y), name)


def plain(d, r, name, step=add):
    """Z on Python floats, by a running value per level, as a kernel keeps them; d is None where a record begins."""
    levels = [[d, 0]]  # what each level holds, and how many came to it
    for value in r:
        level = 0
        while True:
            held, count = levels[level]
            levels[level] = [value if held is None else step(held, value, name), count + 1]
            if count + 1 < 256:
                break
            value, levels[level] = levels[level][0], [None, 0]
            level += 1
            if level == len(levels):
                levels.append([None, 0])
    total = None
    for held, _ in levels:
        if held is not None:
            total = held if total is None else step(held, total, name)
    return total


def drawn(m, columns, dtype, seed=0):
    """Numbers of many sizes, so that another order gives other bits."""
    rng = np.random.default_rng([seed, m])
    return (rng.standard_normal((m, columns)) * 2.0 ** rng.integers(-8, 9, (m, columns))).astype(dtype)


def expected(d, r, step=add):
    starts = [None] * r.shape[1] if d is None else d.tolist()
    name = ACC[r.dtype]
    return np.array([plain(s, column, name, step) for s, column in zip(starts, r.T.tolist(), strict=True)], r.dtype)


def test_small_segments_by_hand():
    f32 = np.float32
    r = np.array([[2.0**24], [1.0], [1.0]], f32)
    assert segment_sums(None, r).tolist() == [2.0**24], "each 1 is lost by itself"
    assert segment_sums(np.array([1.0], f32), r[1:]).tolist() == [3.0]
    assert segment_sums(np.array([2.0**24], f32), r[1:]).tolist() == [2.0**24]
    assert segment_sums(np.array([-(2.0**24)], f32), r).tolist() == [2.0]
    assert segments.segment_tree(np.array([2.0]), np.array([[3.0], [5.0]]), segments.multiplied).tolist() == [30.0]


@pytest.mark.parametrize(
    ("m", "explicit", "implicit"),
    [
        (256, 2.0**24, 2.0**24),  # all in one chunk: every 1 meets 2^24
        (257, 2.0**24, 2.0**24),  # the second chunk is a 1 alone
        (258, 2.0**24 + 2, 2.0**24 + 2),  # two of them meet before
        (512, 2.0**24 + 256, 2.0**24 + 256),
        (513, 2.0**24 + 256, 2.0**24 + 256),  # the third chunk again
        (514, 2.0**24 + 258, 2.0**24 + 258),
    ],
)
def test_chunks_of_256_by_hand(m, explicit, implicit):
    ones = np.ones((m, 1), np.float32)
    assert segment_sums(np.array([2.0**24], np.float32), ones).tolist() == [explicit]
    ones[0] = 2.0**24
    assert segment_sums(np.zeros(1, np.float32), ones).tolist() == [implicit]


def test_the_start_is_no_record():
    # Were it one, r[255] would begin the second chunk, and the last 1 be lost beside 2^24.
    r = np.zeros((257, 1), np.float32)
    r[[254, 255, 256], 0] = 1, 2.0**24, 1
    start = np.array([-(2.0**24)], np.float32)
    assert segment_sums(start, r).tolist() == [2.0], "((-2^24 + 1) + 2^24) + 1"
    assert start_counts_as_a_record(start, r).tolist() == [1.0]


@FLOATS
@WAYS
@pytest.mark.parametrize("m", LENGTHS)
def test_z_is_the_written_order(m, combine, dtype):
    d, r = drawn(1, 3, dtype, seed=1)[0], drawn(m, 3, dtype)
    assert same_bits(combine(d, r), expected(d, r))
    assert same_bits(combine(None, r), expected(None, r))


@FLOATS
@pytest.mark.parametrize("m", LENGTHS)
def test_products_have_the_written_order(m, dtype):
    d, r = drawn(1, 3, dtype, seed=1)[0], drawn(m, 3, dtype)
    near_one = (1 + r / 2**12).astype(dtype)
    got = segments.segment_tree(d, near_one, segments.multiplied)
    assert same_bits(got, expected(d, near_one, multiply))
    got = segments.segment_tree(None, near_one, segments.multiplied)
    assert same_bits(got, expected(None, near_one, multiply))


@FLOATS
def test_corners_combine_as_ieee_operations(dtype):
    rng = np.random.default_rng(9)
    values = corners(dtype)
    for m in (1, 2, 3, 40, 300):
        r, d = rng.choice(values[:20] if m > 3 else values, (m, 40)), rng.choice(values, 40)
        assert same_bits(segment_sums(d, r), expected(d, r))
        assert same_bits(segment_sums(None, r), expected(None, r))
        got = segments.segment_tree(d, r, segments.multiplied)
        assert same_bits(got, expected(d, r, multiply))


def under_one_node(i, j, m, start):
    """The written tree: how many leaves are under the common ancestor of records i and j; -1 is the start, if any."""
    unit, (low, high) = 1, sorted((max(i, 0), max(j, 0)))
    if min(i, j) < 0:
        low = -1
    while max(low, 0) // 256 != high // 256:
        low, high, unit = max(low, 0) // 256, high // 256, unit * 256
    begin = high // 256 * 256
    return min(m, (high + 1) * unit) - begin * unit + (start and begin == 0)


def recovered(combine, m, pairs, start):
    """The same from results alone: 1 vanishes beside 2^127 until the opposite mass comes (FPRev, USENIX ATC 2025)."""
    i, j = np.array(pairs).T + 1
    z = np.ones((m + 1, len(pairs)), np.float32)
    z[i, np.arange(len(pairs))], z[j, np.arange(len(pairs))] = 2.0**127, -(2.0**127)
    total = combine(z[0] if start else None, z[1:])
    return m + start - total.astype(np.int64)


def pairs_of(m, start, count):
    rng = np.random.default_rng(m)
    near = [(i, i + 1) for i in (-1, 0, 253, 254, 255, 256, 510, 511, 512, 65534, 65535, 65536)]
    far = [(at, m - 1) for at in (-1, 0, 254, 255, 256)]
    every = near + far + [tuple(rng.choice(m + start, 2, replace=False) - start) for _ in range(count)]
    return [(i, j) for i, j in every if i != j and min(i, j) >= -start and max(i, j) < m]


TREES = [(m, start) for m in (2, 3, 255, 256, 257, 300, 513, 1500) for start in (0, 1)] + [(65536 + 600, 1)]


@WAYS
@pytest.mark.parametrize(("m", "start"), TREES)
def test_the_recovered_tree_is_the_written_tree(m, start, combine):
    pairs = pairs_of(m, start, 400 if m < 2000 else 60)
    written = [under_one_node(i, j, m, start) for i, j in pairs]
    assert recovered(combine, m, pairs, start).tolist() == written


def planted_chunk(d, r, chunk):
    saved, segments.CHUNK = segments.CHUNK, chunk
    try:
        return segment_sums(d, r)
    finally:
        segments.CHUNK = saved


def partials(d, r):
    begins = range(256, len(r), 256)
    first = segment_sums(d, r[:256])
    return first, [segment_sums(None, r[at : at + 256]) for at in begins]


def flat(d, r):
    first, others = partials(d, r)
    return segments.fold(first, others, segments.added)


def from_zero(d, r):
    """Every chunk but the first starts from +0.0."""
    zero = np.zeros(r.shape[1], r.dtype)
    begins = range(256, len(r), 256)
    return segments.fold(segment_sums(d, r[:256]), [segment_sums(zero, r[at : at + 256]) for at in begins], np.add)


def from_the_running_sum(d, r):
    """No chunks: one sum goes on."""
    return segments.fold(r[0] if d is None else d, r[1:] if d is None else r, np.add)


def start_counts_as_a_record(d, r):
    return segment_sums(None, r if d is None else np.concatenate([d[None], r]))


def start_comes_last(d, r):
    total = segment_sums(None, r)
    return total if d is None else d + total


FAULTS = {
    "chunks of 255": lambda d, r: planted_chunk(d, r, 255),
    "chunks of 257": lambda d, r: planted_chunk(d, r, 257),
    "right to left": lambda d, r: segment_sums(d, r[::-1]),
    "partials right to left": lambda d, r: segments.fold(partials(d, r)[0], partials(d, r)[1][::-1], np.add),
    "partials in one level": flat,
    "a chunk restarts from 0": from_zero,
    "no chunks": from_the_running_sum,
    "the start is a record": start_counts_as_a_record,
    "the start comes last": start_comes_last,
}


def caught(combine):
    """Which of the checks above see that `combine` is not Z."""
    seen = set()
    for m in (3, 257, 600, 1500):
        d, r = drawn(1, 4, np.float32, seed=1)[0], drawn(m, 4, np.float32)
        if not same_bits(combine(d, r), segment_sums(d, r)):
            seen.add("numbers")
        zeros = np.full((m, 1), -0.0, np.float32)
        if not same_bits(combine(zeros[0], zeros), zeros[0]) or not same_bits(combine(None, zeros), zeros[0]):
            seen.add("zeros")
    for m, start in ((600, 1), (65536 + 600, 1)):
        pairs = pairs_of(m, start, 40)
        if recovered(combine, m, pairs, start).tolist() != [under_one_node(i, j, m, start) for i, j in pairs]:
            seen.add("tree")
    return seen


@WAYS
def test_z_itself_is_not_caught(combine):
    assert caught(combine) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_another_order_is_caught(fault):
    seen = caught(FAULTS[fault])
    # Only the sign of a zero tells that a chunk began with 0 + r; only a third level, whether partials have chunks.
    only = {"a chunk restarts from 0": {"zeros"}, "partials in one level": {"tree"}}
    assert seen >= only.get(fault, {"tree", "numbers"})


@FLOATS
@settings(deadline=None, max_examples=60)
@given(drawn_index=indices(most=250))
def test_up_to_256_records_are_torchs_index_add_on_one_thread(dtype, drawn_index):
    index, size, rng = drawn_index
    torch.set_num_threads(1)
    columns = int(rng.integers(1, 20))
    for shape in ((size,), (size, columns)):
        x = (rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 9, shape)).astype(dtype)
        source = rng.standard_normal((len(index), *shape[1:])).astype(dtype)
        source[rng.random(source.shape) < 0.1] = -0.0
        x[rng.random(shape) < 0.1] = -0.0
        got = reference.index_add(x, 0, index, source).value
        stock = torch.tensor(x).index_add_(0, torch.tensor(index), torch.tensor(source))
        assert same_bits(got, stock.numpy())


@FLOATS
def test_more_than_256_records_are_not_torchs_index_add(dtype):
    torch.set_num_threads(1)
    x, source, index = np.zeros(1, dtype), drawn(2000, 1, dtype)[:, 0], np.zeros(2000, np.int64)
    stock = torch.tensor(x).index_add_(0, torch.tensor(index), torch.tensor(source)).numpy()
    assert not same_bits(reference.index_add(x, 0, index, source).value, stock)


@pytest.mark.parametrize("pattern", ["one hot", "sorted", "reversed", "zipf", "uniform"])
def test_a_segment_is_its_records_in_source_order_and_nothing_else(pattern):
    rng = np.random.default_rng(5)
    index = made(pattern, 3000, 5, rng)
    d, r = drawn(1, 5, np.float32)[0], drawn(3000, 1, np.float32)[:, 0]
    got = reference.index_add(d, 0, index, r).value
    lists = defaultdict(list)
    for to, value in zip(index.tolist(), r.tolist(), strict=True):
        lists[to].append(value)
    by_hand = [plain(float(d[j]), lists[j], "float32") for j in range(5)]
    assert same_bits(got, np.array(by_hand, np.float32))


@FLOATS
@pytest.mark.parametrize("m", [1, 7, 256, 257, 3000])
def test_the_error_stays_within_the_stated_bound(m, dtype):
    u = Fraction(2) ** (-24 if dtype == np.float32 else -53)
    k = m if m <= 256 else 255 * math.ceil(math.log(m, 256)) + 1
    d, r = drawn(1, 4, dtype, seed=1)[0], drawn(m, 4, dtype)
    for got, terms in zip(segment_sums(d, r), np.concatenate([d[None], r]).T, strict=True):
        x = [Fraction(v) for v in terms.tolist()]
        assert abs(Fraction(float(got)) - sum(x)) <= k * u / (1 - k * u) * sum(map(abs, x))


@FLOATS
def test_zeros_keep_the_sign_that_the_start_gives_them(dtype):
    minus = np.full((3, 1), -0.0, dtype)
    assert same_bits(segment_sums(None, minus), minus[0])
    assert same_bits(segment_sums(minus[0], minus), minus[0])
    assert same_bits(segment_sums(np.zeros(1, dtype), minus), np.zeros(1, dtype))
    assert same_bits(reference.segment_sum(minus, np.array([0, 3])), np.zeros((1, 1), dtype))


def test_integers_wrap():
    rng = np.random.default_rng(3)
    r = rng.integers(-(2**63), 2**63, (600, 2))

    def wrapped(value):
        return (value + 2**63) % 2**64 - 2**63

    assert segment_sums(r[0], r[1:]).tolist() == [wrapped(sum(column)) for column in r.T.tolist()]
    product = segments.segment_tree(r[0], r[1:] | 1, segments.multiplied)
    assert product.tolist() == [wrapped(math.prod([c[0], *(v | 1 for v in c[1:])])) for c in r.T.tolist()]


@FLOATS
def test_the_extreme_lets_nan_win_and_puts_minus_zero_below_zero(dtype):
    z = np.array([[-0.0, 0.0, -1.0, NAN, -INF], [0.0, -0.0, -0.0, 1.0, INF]], dtype)
    assert same_bits(segments.extreme(z, largest=True), np.array([0.0, 0.0, -0.0, NAN, INF], dtype))
    assert same_bits(segments.extreme(z, largest=False), np.array([-0.0, -0.0, -1.0, NAN, -INF], dtype))
    negative_nan = words(0xFFC00001, 0xFFF80001)[:1] if dtype == np.float32 else words(0xFFF8000000000001, dtype=dtype)
    for order in (1, -1):  # NaN first, NaN last
        r = np.concatenate([negative_nan, np.array([INF], dtype)])[::order]
        assert np.isnan(segments.extreme(r, largest=True))
        assert np.isnan(segments.extreme(r, largest=False))
    assert segments.extreme(np.array([3, -(2**63), 2**63 - 1]), largest=True) == 2**63 - 1
    assert segments.extreme(np.array([3, -(2**63), 2**63 - 1]), largest=False) == -(2**63)
