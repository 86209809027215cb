"""EXACT-1 of detprobe.reference: fractions, rounded once, whatever the order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scalar_numbers import nearest, same_bits, words

from detprobe import reference


def drawn(rows, n, dtype):
    """Numbers of many sizes, so that roundings on the way would show."""
    rng = np.random.default_rng(n)
    return (rng.standard_normal((rows, n)) * 2.0 ** rng.integers(-8, 9, (rows, n))).astype(dtype)


def exact(row, name):
    """The bits of the exact sum of a row of finite numbers, by fractions."""
    total = sum(map(Fraction, row.tolist()))
    zero = -0.0 if all(math.copysign(1, v) < 0 for v in row.tolist()) else 0.0
    value = np.array([nearest(total, name) if total else zero])
    if name in ("float16", "bfloat16"):
        return reference.narrow(value.astype(np.float32), name)
    return value.astype(name)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_the_exact_sum_is_the_sum_of_fractions_rounded_once(name):
    dtype = reference.acc_dtype(name)
    rng = np.random.default_rng(11)
    for n in (1, 2, 3, 50, 700):
        z = drawn(4, n, dtype)
        z[2] *= dtype.type(2.0**-30)
        z[3, n // 2] = -z[3, 0]
        stored = reference.narrow(z, name)
        z = reference.widen(stored, name)
        got = reference.exact_sum_rows(z, name)
        for row, one in zip(z, got, strict=True):
            assert same_bits(one[None], exact(row, name))
            assert same_bits(one[None], reference.exact_sum_rows(rng.permutation(row)[None], name))


def test_the_exact_sum_overflows_and_cancels_only_at_its_end():
    top = np.finfo(np.float32).max
    half = np.float32(2.0**103)  # half of the last place of the largest float
    rows = np.array([[top, top, -top], [top, half, -1], [top, half, 0], [-top, -top, -half]], np.float32)
    assert reference.exact_sum_rows(rows, "float32").tolist() == [top, top, np.inf, -np.inf]
    # 65504 + 16 is a tie that rounds up, to infinity; a subnormal less is not one.
    rows = np.array([[65504, 16, 0], [65504, 16, -(2.0**-24)], [2.0**-24, -(2.0**-24), 0]], np.float32)
    assert reference.exact_sum_rows(rows, "float16").tolist() == [0x7C00, 0x7BFF, 0]
    # Rounded to f32 first, this would be a tie in float16 and go to the even neighbour below.
    rows = np.array([[1, 2.0**-11, 2.0**-24 * 2.0**-10]], np.float32)
    assert reference.exact_sum_rows(rows, "float16").tolist() == [0x3C01]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_the_exact_sum_of_corners(name):
    dtype, inf, nan = reference.acc_dtype(name), np.inf, np.nan
    cases = [
        ([], 0.0),
        ([-0.0], -0.0),
        ([-0.0, -0.0], -0.0),
        ([-0.0, 0.0], 0.0),
        ([1.0, -1.0], 0.0),
        ([inf, 1.0, inf], inf),
        ([-inf, 1.0], -inf),
        ([inf, -inf], nan),
        ([nan, 1.0], nan),
        ([-nan, inf], nan),
    ]
    for row, expected in cases:
        got = reference.exact_sum_rows(np.array([row], dtype), name)
        assert same_bits(got, reference.narrow(np.array([expected], dtype), name)), row


def test_the_exact_sum_of_subnormals_and_integers():
    tiny = words(1, 2, 0x80000001)
    assert reference.exact_sum_rows(tiny[None, :], "float32").view(np.uint32).tolist() == [2]
    assert reference.exact_sum_rows(np.array([[200, 100]]), "uint8").tolist() == [44]
    assert reference.exact_sum_rows(np.array([[2**63 - 1, 1]]), "int64").tolist() == [-(2**63)]
