"""The ground that detprobe.reference stands on: fma, stored numbers, and that it is a witness of its own."""

import ast
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scalar_numbers
from scalar_numbers import ACC, corners, nearest, same_bits, words

from detprobe import reference
from detprobe.reference.formats import round_to_bits

FOLDER = Path(reference.__file__).parent
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def expect_fma(x, y, z):
    """reference.fma of three arrays is the exact result, rounded once."""
    name = ACC[x.dtype]
    expected = [scalar_numbers.fma(*v, name) for v in zip(x.tolist(), y.tolist(), z.tolist(), strict=True)]
    assert same_bits(reference.fma(x, y, z), np.array(expected, x.dtype))


def drawn(rng, n, dtype):
    """Numbers of any exponent, NaN and infinities too."""
    size = np.dtype(dtype).itemsize
    return rng.integers(0, 2 ** (8 * size), n, dtype=np.uint64).astype(f"u{size}").view(dtype)


def test_nothing_here_imports_torch_or_the_rest_of_detprobe():
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in ("numpy", "detprobe") or name in (
                    *("__future__", "collections.abc", "dataclasses", "enum", "fractions", "functools", "math"),
                    *("struct", "typing"),
                ), (file.name, name)
                assert not name.startswith("detprobe") or name.startswith("detprobe.reference"), (file.name, name)


def test_no_function_of_numpy_owns_the_order_of_a_float_sum():
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and not file.name.startswith("digest"):
                assert node.attr not in ("sum", "cumsum", "dot", "matmul", "mean", "reduce", "fsum"), file.name


@FLOATS
def test_fma_rounds_once_on_corners(dtype):
    values = corners(dtype)
    x, y, z = (np.array(v, dtype) for v in zip(*itertools.product(values, values, values), strict=True))
    with np.errstate(all="ignore"):
        expect_fma(x, y, z)


@FLOATS
def test_fma_rounds_once_on_any_bits(dtype):
    rng = np.random.default_rng(3)
    expect_fma(*(drawn(rng, 2000, dtype) for _ in range(3)))


@FLOATS
def test_fma_rounds_once_where_the_addend_cancels_the_product(dtype):
    rng = np.random.default_rng(4)
    x, y = (rng.standard_normal(2000).astype(dtype) for _ in range(2))
    nudge = rng.choice([1, 2, 0.5, 1 + np.finfo(dtype).eps], 2000).astype(dtype)
    expect_fma(x, y, -(x * y) * nudge)


@FLOATS
def test_fma_rounds_once_near_a_tie(dtype):
    # Products of few bits with an addend far away: exact ties and numbers right beside them.
    rng = np.random.default_rng(5)
    x, y = ((rng.integers(1, 2**8, 2000) * 2.0 ** rng.integers(-30, 30, 2000)).astype(dtype) for _ in range(2))
    z = (rng.integers(-(2**8), 2**8, 2000) * 2.0 ** rng.integers(-90, 90, 2000)).astype(dtype)
    expect_fma(x, y, z)


@FLOATS
def test_fma_rounds_once_where_the_result_is_subnormal(dtype):
    rng = np.random.default_rng(6)
    low = np.finfo(dtype).minexp
    half = low // 2
    x, y = (np.ldexp(rng.uniform(1, 2, 1000), half + rng.integers(-20, 8, 1000)).astype(dtype) for _ in range(2))
    z = np.ldexp(rng.uniform(-1, 1, 1000), low + rng.integers(-20, 8, 1000)).astype(dtype)
    expect_fma(x, y, z)
    expect_fma(x, -y, z)


@FLOATS
def test_fma_of_zeros_has_the_sign_of_ieee(dtype):
    zero = np.zeros(1, dtype)
    assert same_bits(reference.fma(zero, zero, -zero), zero)
    assert same_bits(reference.fma(-zero, zero, -zero), -zero)
    assert same_bits(reference.fma(-zero, zero, zero), zero)
    tiny = np.array([np.finfo(dtype).smallest_subnormal])
    assert same_bits(reference.fma(tiny, -tiny, zero), -zero), "an underflowed product keeps its sign"


def test_fma_of_integers_wraps():
    top = np.array([2**63 - 1, -(2**63), 2**62, -1])
    got = reference.fma(top, np.array([2, -1, 4, -1]), np.array([3, -1, 7, 2**63 - 1]))
    assert got.tolist() == [1, 2**63 - 1, 7, -(2**63)]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_survives_the_way_to_acc_and_back(name):
    bits = np.arange(2**16, dtype=np.uint16)
    acc = reference.widen(bits, name)
    assert acc.dtype == np.float32
    back = reference.narrow(acc, name)
    nan = {"float16": 0x7E00, "bfloat16": 0x7FC0}[name]
    assert (back == np.where(np.isnan(acc), nan, bits)).all()
    assert np.isnan(acc).any()


def test_float16_is_read_as_numpy_reads_it():
    bits = np.arange(2**16, dtype=np.uint16)
    assert same_bits(reference.widen(bits, "float16"), bits.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrowing_rounds_once_to_nearest_even(name):
    rng = np.random.default_rng(7)
    halves = reference.widen(np.arange(0x7C00 if name == "float16" else 0x7F80, dtype=np.uint16), name)
    ties = ((halves[1:].astype(float) + halves[:-1]) / 2).astype(np.float32)
    ties = np.concatenate([ties, np.array([65519.99, 65520, 3.3953e38, 3.4e38], np.float32)])
    rng.shuffle(ties)
    near = np.concatenate([np.nextafter(ties[:500], np.float32(s)) for s in (0, np.inf)])
    values = np.concatenate([ties[:500], -ties[500:700], near, drawn(rng, 500, np.float32)])
    values = values[np.isfinite(values) & (values != 0)]
    got = reference.widen(reference.narrow(values, name), name)
    assert same_bits(got, np.array([nearest(Fraction(v), name) for v in values.tolist()], np.float32))


def test_narrowing_corners_have_these_bits():
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 3.4028235e38, -3.4028235e38, 1e-45], np.float32)
    expected = {
        "float16": [0, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0x7E00, 0x7C00, 0xFC00, 0],
        "bfloat16": [0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0x7FC0, 0x7F80, 0xFF80, 0],
    }
    for name, bits in expected.items():
        assert reference.narrow(values, name).tolist() == bits


@FLOATS
def test_every_nan_is_stored_as_the_one_of_the_contract(dtype):
    name = ACC[np.dtype(dtype)]
    nans = {"float32": [0x7F800001, 0xFFC00000, 0x7FFFFFFF], "float64": [0x7FF0000000000001, 0xFFF8000000000000]}[name]
    canonical = {"float32": 0x7FC00000, "float64": 0x7FF8000000000000}[name]
    stored = reference.narrow(words(*nans, dtype=dtype), name)
    assert set(stored.view(f"u{stored.dtype.itemsize}").tolist()) == {canonical}


def test_integers_keep_their_low_bits():
    acc = np.array([300, -1, 2**40 + 5, -(2**63)])
    assert reference.narrow(acc, "int8").tolist() == [44, -1, 5, 0]
    assert reference.narrow(acc, "uint8").tolist() == [44, 255, 5, 0]
    assert reference.narrow(acc, "int64").tolist() == acc.tolist()
    assert reference.widen(np.array([2**64 - 1], np.uint64), "uint64").tolist() == [-1]
    assert reference.widen(np.array([True, False]), "bool").tolist() == [1, 0]


def test_rounding_an_integer_to_bits_is_rounding_a_fraction():
    rng = np.random.default_rng(8)
    for name in ("float16", "bfloat16", "float32", "float64"):
        lowest = 1 - scalar_numbers.BIAS[name] - scalar_numbers.MANTISSA[name]
        for _ in range(300):
            value = int(rng.integers(1, 2**62)) >> int(rng.integers(0, 60)) or 1
            exponent = int(rng.integers(lowest - 64, -lowest + 8))
            bits = np.array([round_to_bits(-value, exponent, name)], np.uint64)
            got = bits.view(np.float64) if name == "float64" else None
            if got is None:
                stored = bits.astype(np.uint32).view(np.float32) if name == "float32" else bits.astype(np.uint16)
                got = reference.widen(stored, name)
            assert got[0] == nearest(-value * Fraction(2) ** exponent, name)


def test_what_is_not_a_stored_number_is_refused():
    with pytest.raises(ValueError, match="expected float16 stored as uint16, got float16"):
        reference.widen(np.zeros(1, np.float16), "float16")
    with pytest.raises(ValueError, match=r"expected one of .*, got 'complex64'"):
        reference.acc_dtype("complex64")
    with pytest.raises(ValueError, match="expected acc of float32, got int64"):
        reference.narrow(np.zeros(1, np.int64), "float32")
