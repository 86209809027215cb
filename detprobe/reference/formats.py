"""Stored numbers and the type that ops compute in ("acc"), as csrc/README.md names them.

A dtype is named by a string. numpy has no bfloat16, and its float16 is not used: both are stored as uint16 bits. Every
other dtype is the numpy dtype of its name. What acc is: float32 for float16, bfloat16 and float32, float64 for float64,
int64 for integers and bool.
"""

# numpy's operators on arrays of any dtype are Any to mypy.
# mypy: disable-error-code=no-any-return

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from detprobe.reference.compare import Format, Kind

__all__ = ["Array", "acc_dtype", "in_acc", "narrow", "quiet", "round_to_bits", "widen"]

Array = npt.NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")

FLOATS = {
    "float16": Format(Kind.FLOAT, 2, 1, 5, 10, 15),
    "bfloat16": Format(Kind.FLOAT, 2, 1, 8, 7, 127),
    "float32": Format(Kind.FLOAT, 4, 1, 8, 23, 127),
    "float64": Format(Kind.FLOAT, 8, 1, 11, 52, 1023),
}
HALVES = ("float16", "bfloat16")
INTEGERS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
NAN = {"float16": 0x7E00, "bfloat16": 0x7FC0, "float32": 0x7FC00000, "float64": 0x7FF8000000000000}


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """numpy says nothing of overflow, NaN and division by zero, which are ordinary here."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return inner


def acc_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of acc for a stored dtype."""
    if name in INTEGERS:
        return np.dtype(np.int64)
    if name not in FLOATS:
        raise ValueError(f"expected one of {[*FLOATS, *INTEGERS]}, got {name!r}")
    return np.dtype(np.float64 if name == "float64" else np.float32)


@quiet
def in_acc(value: float, z: Array) -> Array:
    """round_acc of a Python number, for arithmetic with `z`: [1]."""
    return np.array([value], z.dtype)


@quiet
def widen(stored: Array, name: str) -> Array:
    """Stored elements as acc, exactly.

    Args:
        stored: [...] uint16 bits for float16 and bfloat16, else an array of the dtype `name`.
    """
    stored = np.asarray(stored)
    expected = np.dtype(np.uint16 if name in HALVES else name)
    if stored.dtype != expected:
        raise ValueError(f"expected {name} stored as {expected}, got {stored.dtype}")
    if name not in HALVES:
        return stored.astype(acc_dtype(name))
    format = FLOATS[name]
    exponent = (stored >> format.mantissa_bits) & ((1 << format.exponent_bits) - 1)
    mantissa = (stored & ((1 << format.mantissa_bits) - 1)).astype(np.float64)
    sign = np.where(stored >> 15 != 0, -1.0, 1.0)
    mantissa = np.where(exponent > 0, mantissa + 2.0**format.mantissa_bits, mantissa)
    scale = np.maximum(exponent.astype(np.int32), 1) - (format.bias + format.mantissa_bits)
    number = sign * np.ldexp(mantissa, scale)  # exact in f64, and again in f32
    top = exponent == (1 << format.exponent_bits) - 1
    fraction = stored & ((1 << format.mantissa_bits) - 1)
    special = np.where(fraction == 0, sign * np.inf, np.nan)
    return np.where(top, special, number).astype(np.float32)


@quiet
def narrow(z: Array, name: str) -> Array:
    """acc as stored elements: one rounding to nearest, ties to even. Every NaN becomes the one of csrc/README.md.

    Integers keep their low bits; bool is whether any bit is set.

    Returns:
        [...] uint16 bits for float16 and bfloat16, else an array of the dtype `name`.
    """
    z = np.asarray(z)
    if (name in INTEGERS) != (z.dtype == np.int64):
        raise ValueError(f"expected acc of {name}, got {z.dtype}")
    if name == "bool":
        return z != 0
    if name in INTEGERS:
        return z.astype(name)
    if name in HALVES:
        return _narrow_half(z.astype(np.float64), name)
    nan = np.array(NAN[name], np.uint32 if name == "float32" else np.uint64).view(name)
    return np.where(np.isnan(z), nan, z.astype(name))


def _narrow_half(z: Array, name: str) -> Array:
    """The bits of a 16-bit format. Scaling by a power of two is exact in f64, so that rint is the only rounding."""
    format = FLOATS[name]
    lowest = 1 - format.bias  # the exponent of the smallest normal number, and of the subnormals
    size = np.where(np.isfinite(z), np.abs(z), 0.0)
    exponent = np.where(size > 0, np.maximum(np.frexp(size)[1] - 1, lowest), lowest)
    units = np.rint(np.ldexp(size, format.mantissa_bits - exponent)).astype(np.int64)
    # A normal number's units include its hidden bit, so that the exponent counts from `lowest` here, and a carry fits.
    bits = ((exponent.astype(np.int64) - lowest) << format.mantissa_bits) + units
    infinity = ((1 << format.exponent_bits) - 1) << format.mantissa_bits
    bits = np.where(np.isinf(z), infinity, np.minimum(bits, infinity)) + np.where(np.signbit(z), 0x8000, 0)
    return np.where(np.isnan(z), NAN[name], bits).astype(np.uint16)


def round_to_bits(value: int, exponent: int, name: str) -> int:
    """The bits of value * 2^exponent, rounded once to nearest, ties to even, in integers alone; 0 gives +0.0."""
    format = FLOATS[name]
    size, lowest = abs(value), 1 - format.bias
    if size == 0:
        return 0
    unit = max(size.bit_length() - 1 + exponent, lowest) - format.mantissa_bits  # exponent of the last place
    if unit <= exponent:
        units = size << (exponent - unit)
    else:
        units, rest = divmod(size, 1 << (unit - exponent))
        half = 1 << (unit - exponent - 1)
        units += rest > half or (rest == half and units % 2 == 1)
    bits = ((unit + format.mantissa_bits - lowest) << format.mantissa_bits) + units
    bits = min(bits, ((1 << format.exponent_bits) - 1) << format.mantissa_bits)
    return bits | (1 << (8 * format.bytes - 1)) if value < 0 else bits
