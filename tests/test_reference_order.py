"""detprobe.reference sums in the order of csrc/README.md: S, P and G, retold here one number at a time."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
from scalar_numbers import ACC, add, corners, fma, same_bits

from detprobe import reference

FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 500, 1023, 1024, 1025, 1056, 2049, 3000)


def fold(s):
    """The 32 lanes of a block; `+` is that of the elements."""
    for h in (16, 8, 4, 2, 1):
        s = [s[i] + s[i + h] for i in range(h)]
    return s[0]


def s_of(x, identity, leaf):
    """S of a list. leaf(s, element) adds an element to a lane."""
    y = []
    for begin in range(0, len(x), 1024):
        lanes = [identity] * 32
        for i, element in enumerate(x[begin : begin + 1024]):
            lanes[i % 32] = leaf(lanes[i % 32], element)
        y.append(fold(lanes))
    return y[0] if len(y) == 1 else s_of(y, identity, lambda s, element: s + element)


@functools.cache
def number(name):
    """Python floats whose + is the rounded sum of a format."""

    class Number(float):
        def __add__(self, other):
            return Number(add(float(self), float(other), name))

    return Number


def plain_sum(row):
    name = ACC[row.dtype]
    n = number(name)
    return s_of([n(v) for v in row.tolist()], n(-0.0), lambda s, v: s + v)


def plain_products(a, b):
    name = ACC[a.dtype]
    n = number(name)
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    return s_of(pairs, n(-0.0), lambda s, v: n(fma(*v, s, name)))


def plain_scan(z, name):
    """G of a list of Python floats."""
    n, q = len(z), []
    for begin in range(0, n, 1024):
        tile, before = z[begin : begin + 1024], None
        for strip in range(0, len(tile), 32):
            p = []
            for v in tile[strip : strip + 32]:
                p.append(add(p[-1], v, name) if p else v)
            q += p if before is None else [add(before, v, name) for v in p]
            before = p[-1] if before is None else add(before, p[-1], name)
    if n <= 1024:
        return q
    v = plain_scan([q[min(t + 1024, n) - 1] for t in range(0, n, 1024)], name)
    return [q[i] if i < 1024 else add(v[i // 1024 - 1], q[i], name) for i in range(n)]


def drawn(rows, n, dtype, seed=0):
    """Numbers of many sizes, so that another order gives other bits."""
    rng = np.random.default_rng([seed, n])
    return (rng.standard_normal((rows, n)) * 2.0 ** rng.integers(-8, 9, (rows, n))).astype(dtype)


@FLOATS
@pytest.mark.parametrize("n", LENGTHS)
def test_s_and_p_are_the_written_order(n, dtype):
    a, b = drawn(2, n, dtype), drawn(2, n, dtype, seed=1)
    assert same_bits(reference.sum_rows(a), np.array([plain_sum(row) for row in a], dtype))
    expected = [plain_products(x, y) for x, y in zip(a, b, strict=True)]
    assert same_bits(reference.sum_products(a, b), np.array(expected, dtype))


@FLOATS
@pytest.mark.parametrize("n", LENGTHS)
def test_g_is_the_written_order(n, dtype):
    z = drawn(2, n, dtype)
    expected = np.array([plain_scan(row, ACC[z.dtype]) for row in z.tolist()], dtype)
    assert same_bits(reference.cumsum_rows(z), expected)
    assert same_bits(reference.cumsum_rows(z[:, ::-1], reverse=True), expected[:, ::-1])


@FLOATS
def test_corners_sum_as_ieee_adds(dtype):
    rng = np.random.default_rng(9)
    values = corners(dtype)
    for n in (1, 2, 3, 40, 1100):
        a, b = (rng.choice(values[:20] if n > 3 else values, (20, n)) for _ in range(2))
        assert same_bits(reference.sum_rows(a), np.array([plain_sum(row) for row in a], dtype))
        expected = [plain_products(x, y) for x, y in zip(a, b, strict=True)]
        assert same_bits(reference.sum_products(a, b), np.array(expected, dtype))
        expected = np.array([plain_scan(row, ACC[a.dtype]) for row in a.tolist()], dtype)
        assert same_bits(reference.cumsum_rows(a), expected)


def test_a_long_row_has_three_levels():
    # 1024 blocks fill one block of partials, so that one element more makes a third level.
    z = np.zeros((1, 1024 * 1024 + 1), np.float32)
    z[0, 0], z[0, 1024 * 1024 - 1], z[0, -1] = 2.0**24, 1.0, 1.0
    assert reference.sum_rows(z).tolist() == [2.0**24], "each 1 meets 2^24 alone"
    z[0, 1024 * 1024 - 33] = 1.0
    # Two of one lane meet before: 2^24 + 2. The last element comes to that, and the tie goes up to the even one.
    assert reference.sum_rows(z).tolist() == [2.0**24 + 4]
    assert reference.sum_products(z, np.ones_like(z)).tolist() == [2.0**24 + 4]
    scan = reference.cumsum_rows(np.ones((1, 1024 * 1024 + 40), np.int64))
    assert (scan == np.arange(1, 1024 * 1024 + 41)).all()


def leaves(n):
    """The written tree of n elements: for each pair (i, j) the number of leaves under their common ancestor."""

    class Tree:
        sizes = np.ones((n, n), np.int64)

        def __init__(self, members):
            self.members = members

        def __add__(self, other):
            if not self.members or not other.members:
                return Tree(self.members + other.members)
            members = self.members + other.members
            for one, two in ((self.members, other.members), (other.members, self.members)):
                self.sizes[np.ix_(one, two)] = len(members)
            return Tree(members)

    s_of([Tree([i]) for i in range(n)], Tree([]), lambda s, v: s + v)
    return Tree.sizes


@pytest.mark.parametrize("n", [2, 33, 70, 200, 1100, 1500])
@pytest.mark.parametrize("op", ["sum", "products"])
def test_the_recovered_tree_is_the_written_tree(n, op):
    # A mass at i swallows every 1 that it meets before the opposite mass at j (FPRev, USENIX ATC 2025).
    rng = np.random.default_rng(n)
    pairs = np.array([(i, j) for i in range(n) for j in range(i)]).reshape(-1, 2)
    i, j = rng.permutation(pairs)[: 2000 if n < 1000 else 300].T
    z = np.ones((len(i), n), np.float32)
    z[np.arange(len(i)), i], z[np.arange(len(i)), j] = 2.0**127, -(2.0**127)
    total = reference.sum_rows(z) if op == "sum" else reference.sum_products(np.ones_like(z), z)
    assert (n - total == leaves(n)[i, j]).all()


@FLOATS
@pytest.mark.parametrize("n", [7, 1000, 5000])
def test_the_error_stays_within_the_stated_bound(n, dtype):
    u = Fraction(2) ** (-24 if dtype == np.float32 else -53)
    levels = max(1, math.ceil(math.log(n, 1024)))
    a, b = drawn(3, n, dtype), drawn(3, n, dtype, seed=1)

    def bound(k, terms):
        return k * u / (1 - k * u) * sum(map(abs, terms))

    for row, other, total, product in zip(a, b, reference.sum_rows(a), reference.sum_products(a, b), strict=True):
        x, y = [Fraction(v) for v in row.tolist()], [Fraction(v) for v in other.tolist()]
        assert abs(Fraction(float(total)) - sum(x)) <= bound(36 * levels, x)
        xy = [p * q for p, q in zip(x, y, strict=True)]
        assert abs(Fraction(float(product)) - sum(xy)) <= bound(36 * levels, xy)
        scan = reference.cumsum_rows(row[None, :])[0]
        for i in (0, n // 3, n - 1):
            assert abs(Fraction(float(scan[i])) - sum(x[: i + 1])) <= bound(64 * levels, x[: i + 1])


@FLOATS
def test_empty_rows_sum_to_plus_zero(dtype):
    empty, zero = np.zeros((3, 0), dtype), np.zeros(3, dtype)
    assert same_bits(reference.sum_rows(empty), zero)
    assert same_bits(reference.sum_products(empty, empty), zero)
    assert reference.cumsum_rows(empty).shape == (3, 0)
    assert reference.sum_rows(np.zeros((0, 5), dtype)).shape == (0,)


@FLOATS
@pytest.mark.parametrize("n", [1, 5, 32, 40, 1024, 2000])
def test_only_minus_zeros_sum_to_minus_zero(n, dtype):
    z = np.full((1, n), -0.0, dtype)
    assert same_bits(reference.sum_rows(z), z[:, 0])
    assert same_bits(reference.sum_products(z, np.ones_like(z)), z[:, 0])
    assert same_bits(reference.cumsum_rows(z), z)
    z[0, n // 2] = 0.0
    assert same_bits(reference.sum_rows(z), np.zeros(1, dtype))


def test_integers_wrap():
    z = np.array([[2**63 - 1, 1, 2**63 - 1, 5]])
    assert reference.sum_rows(z).tolist() == [4]
    assert reference.cumsum_rows(z).tolist() == [[2**63 - 1, -(2**63), -1, 4]]
    assert reference.sum_products(z, z).tolist() == [1 + 1 + 1 + 25]
    rng = np.random.default_rng(2)
    a, b = rng.integers(-(2**63), 2**63, (2, 3, 2500))

    def wrapped(values):
        return (sum(values) + 2**63) % 2**64 - 2**63

    products = [[x * y for x, y in zip(*rows, strict=True)] for rows in zip(a.tolist(), b.tolist(), strict=True)]
    assert reference.sum_rows(a).tolist() == list(map(wrapped, a.tolist()))
    assert reference.sum_products(a, b).tolist() == list(map(wrapped, products))


@FLOATS
def test_maximum_and_minimum_give_zeros_a_plus_and_let_nan_win(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    rows = np.array([[0.0, -0.0, -0.0], [-0.0, -1.0, 0.0], [-tiny, 0.0, tiny], [-np.inf, np.inf, 1.0]], dtype)
    assert same_bits(reference.max_rows(rows), np.array([0.0, 0.0, tiny, np.inf], dtype))
    assert same_bits(reference.min_rows(rows), np.array([0.0, -1.0, -tiny, -np.inf], dtype))
    assert same_bits(reference.max_rows(np.array([[-0.0, -1.0]], dtype)), np.array([0.0], dtype))
    for place in range(3):
        rows[:, place] = -np.nan
        assert np.isnan(reference.max_rows(rows)).all()
        assert np.isnan(reference.min_rows(rows)).all()


@FLOATS
def test_the_largest_number_passes_nan_over(dtype):
    rows = np.array([[np.nan, -1.0, -2.0], [np.nan, np.nan, -0.0], [np.nan, np.nan, np.nan]], dtype)
    assert same_bits(reference.largest_rows(rows), np.array([-1.0, 0.0, -np.inf], dtype))


def test_rows_do_not_depend_on_each_other():
    z = drawn(50, 1500, np.float32)
    for index in (0, 20, 49):
        one = z[index : index + 1]
        assert same_bits(reference.sum_rows(z)[index : index + 1], reference.sum_rows(one))
        assert same_bits(reference.cumsum_rows(z)[index : index + 1], reference.cumsum_rows(one))
