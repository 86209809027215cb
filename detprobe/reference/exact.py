"""EXACT-1: the sum of a row as a real number, in Python's integers, rounded once."""

from __future__ import annotations

import math

import numpy as np

from detprobe.reference.arithmetic import integer_parts
from detprobe.reference.formats import FLOATS, NAN, Array, narrow, round_to_bits
from detprobe.reference.order import length_of, sum_rows

__all__ = ["exact_sum_rows"]

LOWEST = -1074 - 53  # no exponent that integer_parts gives is below it


def exact_sum_rows(z: Array, name: str) -> Array:
    """The correctly rounded sum of every row; no order of the elements can change it.

    Example:
        >>> exact_sum_rows(np.array([[1e308, 1.0, -1e308]]), "float64")
        array([1.])

    Args:
        z: [rows, n] acc.
        name: dtype of the result.

    Returns:
        [rows] stored, as `narrow` has it: this op has no rounding of its own before the last one.

    Source: csrc/README.md, EXACT-1.
    """
    length_of(z)
    if z.dtype == np.int64:
        return narrow(sum_rows(z), name)
    words = np.dtype(f"u{FLOATS[name].bytes}")
    bits = np.array([_exact_sum(row, name) for row in z.tolist()], words)
    return bits if name in ("float16", "bfloat16") else bits.view(name)


def _exact_sum(row: list[float], name: str) -> int:
    """The bits of the sum."""
    format = FLOATS[name]
    top = 1 << (8 * format.bytes - 1)
    infinity = ((1 << format.exponent_bits) - 1) << format.mantissa_bits
    plus, minus = math.inf in row, -math.inf in row
    if (plus and minus) or any(math.isnan(x) for x in row):
        return NAN[name]
    if plus or minus:
        return infinity if plus else top | infinity
    if row and all(x == 0 and math.copysign(1.0, x) < 0 for x in row):
        return top
    total = 0
    for x in row:
        mantissa, exponent = integer_parts(x)
        total += mantissa << (exponent - LOWEST)
    return round_to_bits(total, LOWEST, name)
