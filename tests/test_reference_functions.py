"""EXP-1 and LOG-1 of detprobe.reference: within the stated error of decimal's exp and ln, and exact at the corners."""

import math
import re
import struct
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from scalar_numbers import corners, same_bits

from detprobe import reference
from detprobe.reference import functions

README = (Path(__file__).parent.parent / "csrc" / "README.md").read_text()
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# ULP, as csrc/README.md states them.
EXP_BOUND = {np.float32: 0.98, np.float64: 1.1}
LOG_BOUND = {np.float32: 0.51, np.float64: 1.0}


def ulps(got, exact, dtype):
    """The distance of a float from an exact number, in units of the number's last place."""
    info = np.finfo(dtype)
    exponent = max(math.frexp(float(exact))[1] - 1, int(info.minexp))
    step = Decimal(2) ** (exponent - int(info.nmant))
    return abs((Decimal(float(got)) - exact) / step)


def worst(function, oracle, values):
    with localcontext() as context:
        context.prec = 60
        pairs = zip(function(values), values.tolist(), strict=True)
        return max(ulps(got, oracle(Decimal(x)), values.dtype) for got, x in pairs)


@FLOATS
def test_exp_is_within_its_stated_error(dtype):
    rng = np.random.default_rng(0)
    low, high = (-103.0, 88.7) if dtype == np.float32 else (-744.0, 709.7)
    values = np.concatenate([rng.uniform(low, high, 1500), rng.uniform(-1, 1, 500), rng.uniform(low, low * 0.8, 300)])
    assert worst(reference.exp, Decimal.exp, values.astype(dtype)) <= EXP_BOUND[dtype]


@FLOATS
def test_log_is_within_its_stated_error(dtype):
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    values = np.exp2(rng.uniform(info.minexp, info.maxexp - 1, 800))
    tiny = float(info.smallest_subnormal) * rng.integers(1, 2**20, 200)
    values = np.concatenate([values, tiny, rng.uniform(0.5, 2, 700), 1 + rng.uniform(-1e-3, 1e-3, 300)]).astype(dtype)
    assert worst(reference.log, Decimal.ln, values[values != 1]) <= LOG_BOUND[dtype]


@FLOATS
def test_corners_of_exp_and_log(dtype):
    info = np.finfo(dtype)
    top, tiny = info.max, info.smallest_subnormal
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, top, -top, tiny, -tiny], dtype)
    expected = np.array([1, 1, np.inf, 0, np.nan, np.nan, np.inf, 0, 1, 1], dtype)
    assert same_bits(reference.exp(x), expected)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1, -tiny, 1, 2.0**-50, 2.0**info.minexp], dtype)
    got = reference.log(x)
    assert same_bits(got[:8], np.array([-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan, np.nan, 0], dtype))
    assert got[8:].tolist() == pytest.approx([-50 * math.log(2), float(info.minexp) * math.log(2)], rel=1e-7)
    assert math.isclose(float(reference.log(np.array([tiny]))[0]), math.log(float(tiny)), rel_tol=1e-7)


@FLOATS
def test_exp_overflows_and_underflows_where_it_has_to(dtype):
    high, low = (88.7228, -103.97) if dtype == np.float32 else (709.78271289338397, -745.13)
    edges = np.array([high, high + 1e-4, low, low - 0.02], dtype)
    got = reference.exp(edges)
    assert np.isfinite(got[0])
    assert got[1] == np.inf
    assert got[2] == np.finfo(dtype).smallest_subnormal
    assert same_bits(got[3:], np.zeros(1, dtype))


def test_exp_of_single_bits_of_difference_stays_sorted():
    x = np.linspace(-20, 20, 20001).astype(np.float32)
    assert (np.diff(reference.exp(x)) >= 0).all()


def test_log_of_float32_is_log_of_float64_rounded_once_more():
    x = np.exp2(np.random.default_rng(2).uniform(-149, 127, 3000)).astype(np.float32)
    assert same_bits(reference.log(x), reference.log(x.astype(np.float64)).astype(np.float32))


def constants(dtype):
    """The column of the table of EXP-1 for a type, by the names in its first column."""
    number = r"-?(?:0x[0-9a-f.]+p[-+][0-9]+)"
    rows = re.findall(rf"^\| ([LMC12]+|c\[[0-9]\]) \| ({number})? ?\| ({number}) \|$", README, re.MULTILINE)
    assert len(rows) == 14
    columns = {name: f32 if dtype == np.float32 else f64 for name, f32, f64 in rows}
    return {name: dtype(float.fromhex(text)) for name, text in columns.items() if text}


def log_constants():
    """l[0..6], and the bits of the root of 1/2."""
    text = README[README.index("l[0..6] =") :].partition("=")[2]
    table = [float.fromhex(v) for v in re.findall(r"0x[0-9a-fp.+-]+", text)[:7]]
    return table, int(re.search(r"bits\(x\) - (0x3FE[0-9A-F]+)", README)[1], 16)


def single_exp(x, dtype):
    """EXP-1 of one numpy number, as the text has it."""
    c = constants(dtype)
    (lo, hi), (f, b) = [(-104, 89), (23, 127)] if dtype == np.float32 else [(-746, 710), (52, 1023)]

    def bits(v):
        return int(v.view(f"i{v.itemsize}"))

    def power(k):
        return np.array((k + b) << f, f"u{np.dtype(dtype).itemsize}").view(dtype)[()]

    x = dtype(lo) if x < lo else dtype(hi) if x > hi else x
    if math.isnan(x):
        return x
    t = x * c["L"] + c["M"]
    k = t - c["M"]
    i = bits(t) - bits(c["M"])
    assert i == k
    r = (x - k * c["C1"]) - k * c["C2"]
    degree = 4 if dtype == np.float32 else 9
    q = c[f"c[{degree}]"]
    for j in range(degree - 1, -1, -1):
        q = q * r + c[f"c[{j}]"]
    p = ((r * r) * q + r) + dtype(1)
    h = math.floor(i / 2)
    return (p * power(h)) * power(i - h)


def single_log(x):
    """LOG-1 of one Python float, as the text has it."""
    table, root = log_constants()
    c = {name: float(value) for name, value in constants(np.float64).items()}
    if math.isnan(x) or x < 0:
        return math.nan
    if x == 0:
        return -math.inf
    if x == math.inf:
        return x
    k = 0
    if x < 2.0**-1022:
        x, k = x * 2.0**54, -54
    bits = struct.unpack("<q", struct.pack("<d", x))[0]
    e = (bits - root) // 2**52
    (m,) = struct.unpack("<d", struct.pack("<q", bits - e * 2**52))
    assert math.sqrt(0.5) <= m < math.sqrt(2)
    f = m - 1
    s = f / (f + 2)
    z, scale = s * s, float(k + e)
    r = table[6]
    for j in range(5, -1, -1):
        r = r * z + table[j]
    r = r * z
    return scale * c["C1"] - ((s * (f - r) - scale * c["C2"]) - f)


@FLOATS
def test_the_constants_are_those_of_the_text(dtype):
    # A last bit of a high coefficient hardly ever reaches a result, so that results alone do not prove it.
    ours, text = functions.EXP[np.dtype(dtype)], constants(dtype)
    for name in ("L", "M", "C1", "C2"):
        assert float.fromhex(getattr(ours, name.lower())) == text[name]
    assert [float.fromhex(c) for c in ours.c] == [text[f"c[{j}]"] for j in range(len(text) - 4)]
    table, root = log_constants()
    assert [float.fromhex(c) for c in functions.LOG] == table
    assert root == functions.ROOT_HALF


@FLOATS
def test_exp_is_the_text_with_the_constants_of_its_table(dtype):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.uniform(-110, 95, 200), rng.uniform(-760, 720, 100), rng.uniform(-1, 1, 100)])
    values = np.concatenate([values.astype(dtype), corners(dtype)])
    with np.errstate(all="ignore"):
        expected = [single_exp(x, dtype) for x in values]
    assert same_bits(reference.exp(values), np.array(expected, dtype))


def test_log_is_the_text_with_the_constants_of_its_table():
    rng = np.random.default_rng(4)
    root = np.array([0x3FE6A09E667F3BCD])
    edges = np.concatenate([(root + i * 2**52 + j).view(np.float64) for i in (0, 1, 7) for j in (-1, 0, 1)])
    values = np.concatenate([np.exp2(rng.uniform(-1074, 1023, 200)), rng.uniform(0.5, 2, 100), edges])
    values = np.concatenate([values, corners(np.float64)])
    assert same_bits(reference.log(values), np.array([single_log(x) for x in values.tolist()]))
