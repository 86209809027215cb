"""IEEE arithmetic on single Python numbers by fractions: slow, and written apart from detprobe.reference."""

import math
from fractions import Fraction

import numpy as np

MANTISSA = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
BIAS = {"float16": 15, "bfloat16": 127, "float32": 127, "float64": 1023}
ACC = {np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}


def nearest(exact, name):
    """A fraction rounded to a format, ties to even, as a Python float; `exact` is not 0."""
    size = abs(exact)
    top = size.numerator.bit_length() - size.denominator.bit_length()
    top -= Fraction(2) ** top > size
    step = Fraction(2) ** (max(top, 1 - BIAS[name]) - MANTISSA[name])
    size = round(size / step) * step  # Python's round: ties to even
    size = float(size) if size < Fraction(2) ** (BIAS[name] + 1) else math.inf
    return size if exact > 0 else -size


def add(x, y, name):
    """x + y of two Python floats."""
    if not (math.isfinite(x) and math.isfinite(y)) or x == 0 or y == 0:
        return x + y
    exact = Fraction(x) + Fraction(y)
    return nearest(exact, name) if exact else 0.0


def fma(x, y, z, name):
    """x * y + z of three Python floats, rounded once."""
    if not (math.isfinite(x) and math.isfinite(y)) or x == 0 or y == 0:
        return x * y + z
    if not math.isfinite(z):
        return z
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    return nearest(exact, name) if exact else 0.0


def same_bits(got, expected):
    """Whether two arrays have one dtype, one shape and the same bits, up to what NaN they hold."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    words = f"u{got.dtype.itemsize}"
    same = np.ascontiguousarray(got).view(words) == np.ascontiguousarray(expected).view(words)
    if got.dtype.kind == "f":
        same |= np.isnan(got) & np.isnan(expected)
    return bool(np.all(same))


def words(*values, dtype=np.float32):
    """Numbers from their bits."""
    dtype = np.dtype(dtype)
    return np.array(values, f"u{dtype.itemsize}").view(dtype)


def corners(dtype):
    """[n] numbers at which something special happens: both signs of each."""
    name = ACC[np.dtype(dtype)]
    mantissa, bias = MANTISSA[name], BIAS[name]
    one = bias << mantissa
    top = (2 * bias + 1) << mantissa
    bits = [0, 1, 2, (1 << mantissa) - 1, 1 << mantissa, (1 << mantissa) + 1, one, one + 1, one - 1, top - 1, top]
    values = words(*bits, dtype=dtype)
    return np.concatenate([values, -values, words(top + 1, dtype=dtype)])
