"""The bit comparison in numpy and exact rational numbers, as csrc/README.md writes it down.

Numbers are decoded to fractions, so that no floating-point operation of this machine takes part but one division at the
end, which Python rounds correctly.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Format", "Kind", "Record", "compare"]

SATURATED = 2**63 - 1
Number = Fraction | float  # a float only for what no fraction holds: an infinity


class Kind(IntEnum):
    """How the bits of a number are read; the values are those of csrc/arith/ulp.h."""

    FLOAT = 0
    """Sign, exponent, mantissa; the largest exponent holds infinities and NaN (IEEE 754)."""
    FLOAT_FN = 1
    """No infinities; NaN is all ones in exponent and mantissa."""
    FLOAT_FNUZ = 2
    """No infinities and no -0, whose pattern is the one NaN."""
    EXPONENT = 3
    """An unsigned power of two; all ones is NaN."""
    SIGNED = 4
    """Two's complement."""
    UNSIGNED = 5
    """bool too."""
    OPAQUE = 6
    """Bits without a number."""


class Format(NamedTuple):
    """One element: `parts` numbers (2 for complex) of `bytes` bytes each."""

    kind: Kind
    bytes: int
    parts: int = 1
    exponent_bits: int = 0
    mantissa_bits: int = 0
    bias: int = 0


@dataclass(frozen=True)
class Record:
    """The five counters of one comparison, in the order of a row of `records`."""

    count: int
    nan_count: int
    ulp: int
    abs: int
    first: int


def compare(a: npt.NDArray[Any], b: npt.NDArray[Any], format: Format) -> Record:
    """How two tensors of one shape differ.

    Example:
        >>> f32 = Format(Kind.FLOAT, 4, 1, 8, 23, 127)
        >>> compare(np.array([0x3F800000], np.uint32), np.array([0x3F800001], np.uint32), f32)
        Record(count=1, nan_count=0, ulp=1, abs=4503599627370496000, first=0)

    Args:
        a, b: [..., elements * parts] unsigned integers of `format.bytes` bytes, in logical row-major order; the parts
            of an element lie side by side.

    Source: csrc/README.md, "compare".
    """
    expected = np.dtype(f"u{format.bytes}")
    if a.dtype != expected or b.dtype != expected or a.shape != b.shape or a.size % format.parts:
        raise ValueError(f"expected two arrays of {expected}, of one shape and {format.parts} parts an element")
    left, right = a.reshape(-1, format.parts), b.reshape(-1, format.parts)
    nan_count, ulp, gap = 0, -1, -1
    differing = np.flatnonzero((left != right).any(axis=1)).tolist()
    for i in differing:
        mixed = False
        for x, y in zip(left[i].tolist(), right[i].tolist(), strict=True):
            if x == y:
                continue
            numbers = int(not _is_nan(x, format)) + int(not _is_nan(y, format))
            mixed = mixed or numbers == 1
            if numbers == 2 and format.kind is not Kind.OPAQUE:
                ulp = max(ulp, min(abs(_rank(x, format) - _rank(y, format)), SATURATED))
                gap = max(gap, _bits(_distance(_value(x, format), _value(y, format))))
        nan_count += mixed
    return Record(len(differing), nan_count, ulp, gap, differing[0] if differing else -1)


def _fields(x: int, format: Format) -> tuple[int, int, int]:
    """Sign, exponent and mantissa of a float."""
    exponent = (x >> format.mantissa_bits) & ((1 << format.exponent_bits) - 1)
    return x >> (format.bytes * 8 - 1), exponent, x & ((1 << format.mantissa_bits) - 1)


def _is_nan(x: int, format: Format) -> bool:
    sign, exponent, mantissa = _fields(x, format)
    top_exponent, top_mantissa = (1 << format.exponent_bits) - 1, (1 << format.mantissa_bits) - 1
    if format.kind is Kind.FLOAT:
        return exponent == top_exponent and mantissa != 0
    if format.kind is Kind.FLOAT_FN:
        return exponent == top_exponent and mantissa == top_mantissa
    if format.kind is Kind.FLOAT_FNUZ:
        return sign == 1 and exponent == 0 and mantissa == 0
    return format.kind is Kind.EXPONENT and x == 255


def _rank(x: int, format: Format) -> int:
    """The place of a number in the ordered row of all numbers of its format; both zeros are at 0."""
    half = 1 << (format.bytes * 8 - 1)
    if format.kind is Kind.SIGNED:
        return x if x < half else x - 2 * half
    if format.kind in (Kind.UNSIGNED, Kind.EXPONENT):
        return x
    return x if x < half else half - x


def _value(x: int, format: Format) -> Number:
    """What the bits stand for: exact, but for integers, which are rounded to f64 first."""
    if format.kind in (Kind.SIGNED, Kind.UNSIGNED):
        return Fraction(float(_rank(x, format)))
    if format.kind is Kind.EXPONENT:
        return Fraction(2) ** (x - 127)
    sign, exponent, mantissa = _fields(x, format)
    if format.kind is Kind.FLOAT and exponent == (1 << format.exponent_bits) - 1:
        return -math.inf if sign else math.inf
    if exponent > 0:
        mantissa += 1 << format.mantissa_bits
    scale = Fraction(2) ** (max(exponent, 1) - format.bias - format.mantissa_bits)
    return -mantissa * scale if sign else mantissa * scale


def _distance(x: Number, y: Number) -> float:
    """|x - y|, rounded once to the nearest f64, ties to even."""
    if isinstance(x, float) or isinstance(y, float):
        return math.inf  # two different numbers, one of them infinite
    exact = abs(x - y)
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return math.inf


def _bits(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits
