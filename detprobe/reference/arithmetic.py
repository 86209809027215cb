"""The operations of the contract that numpy lacks: fma, and the parts of a number.

numpy's own +, -, *, / and sqrt on arrays are one IEEE operation each, rounded once and with subnormals, and it fuses
none of them.
"""

from __future__ import annotations

import math

import numpy as np

from detprobe.reference.formats import Array, quiet, round_to_bits

__all__ = ["fma", "integer_parts", "sign"]

# Within these exponents of factors (FACTOR) and addend (ADDEND), nothing below overflows or falls under 2^-1022.
FACTOR = 400
ADDEND = 900
SPLITTER = 2.0**27 + 1  # Veltkamp's constant for 53 bits


@quiet
def fma(x: Array, y: Array, z: Array) -> Array:
    """x * y + z, rounded once; int64 wraps.

    Args:
        x, y, z: [...] of one dtype: float32, float64 or int64.

    Source: S. Boldo, G. Melquiond, Emulation of FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to
    Odd, IEEE Trans. Computers 57 (2008).
    """
    x, y, z = np.broadcast_arrays(x, y, z)
    if x.dtype == np.int64:
        wrapped = x.astype(np.uint64) * y.astype(np.uint64) + z.astype(np.uint64)
        return wrapped.astype(np.int64)
    if x.dtype == np.float32:
        # The product is exact in f64, and 53 bits are more than 24 + 2: rounding to odd first does no harm.
        product = x.astype(np.float64) * y.astype(np.float64)
        return _add_to_odd(product, z.astype(np.float64)).astype(np.float32)
    return _fma64(x, y, z)


def _fma64(x: Array, y: Array, z: Array) -> Array:
    product = x * y
    out = product + z  # right where the product is exact: a factor is zero, infinite or NaN
    number = np.isfinite(x) & np.isfinite(y) & (x != 0) & (y != 0)
    out = np.where(number & (z == 0), product, out)
    out = np.where(number & ~np.isfinite(z), z, out)  # also where the product overflows
    hard = number & np.isfinite(z) & (z != 0)
    exponents = [np.frexp(v)[1] for v in (x, y, z)]
    limits = (FACTOR, FACTOR, ADDEND)
    easy = hard & np.all([np.abs(e) < limit for e, limit in zip(exponents, limits, strict=True)], axis=0)
    high, low = _two_product(np.where(easy, x, 1.0), np.where(easy, y, 1.0))
    upper, lower = _two_sum(np.where(easy, z, 1.0), low)
    head, tail = _two_sum(high, upper)
    out = np.where(easy, head + _add_to_odd(tail, lower), out)
    for index in zip(*np.nonzero(hard & ~easy), strict=True):
        out[index] = _fma_of_integers(float(x[index]), float(y[index]), float(z[index]))
    return out


def _fma_of_integers(x: float, y: float, z: float) -> float:
    (a, i), (b, j), (c, k) = integer_parts(x), integer_parts(y), integer_parts(z)
    exponent = min(i + j, k)
    total = (a * b << (i + j - exponent)) + (c << (k - exponent))
    return float(np.array(round_to_bits(total, exponent, "float64"), np.uint64).view(np.float64))


def integer_parts(x: float) -> tuple[int, int]:
    """(m, e) with x = m * 2^e, exactly."""
    fraction, exponent = math.frexp(x)
    return int(math.ldexp(fraction, 53)), exponent - 53


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """The rounded sum, and what the rounding lost, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x: Array, y: Array) -> tuple[Array, Array]:
    """The rounded product, and what the rounding lost, exactly (Dekker, with Veltkamp's split)."""
    product = x * y
    (a, b), (c, d) = _split(x), _split(y)
    return product, b * d - (((product - a * c) - b * c) - a * d)


def _split(x: Array) -> tuple[Array, Array]:
    scaled = x * SPLITTER
    high = scaled - (scaled - x)
    return high, x - high


def _add_to_odd(x: Array, y: Array) -> Array:
    """x + y in f64, rounded to odd: if not exact, the neighbour whose last bit is 1."""
    total, lost = _two_sum(x, y)
    even = total.view(np.int64) % 2 == 0
    inexact = np.isfinite(total) & (lost != 0)
    return np.where(inexact & even, np.nextafter(total, np.where(lost > 0, np.inf, -np.inf)), total)


@quiet
def sign(z: Array) -> Array:
    """+1, -1; +0.0 for both zeros; NaN for NaN."""
    one, zero = z.dtype.type(1), z.dtype.type(0)
    return np.where(z > 0, one, np.where(z < 0, -one, np.where(z == 0, zero, z)))
