"""DIGEST-1 in numpy: 128 bits from a logical byte stream and a shape, as csrc/README.md writes it down."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["digest"]

Words = npt.NDArray[np.uint64]

GAMMA = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio, made odd
MODULUS = 2**64


def digest(data: bytes, shape: tuple[int, ...]) -> str:
    """32 hexadecimal digits for the bytes of a tensor, in logical row-major order, and its shape.

    Example:
        >>> digest(b"", (0,))
        '0db34e4cb0a9fc3f7d9899cb30650770'

    Source: csrc/README.md, DIGEST-1.
    """
    lane0, lane1 = _lanes(data)
    key = _shape_key(len(data), shape)
    return f"{_scramble((lane0 + key) % MODULUS):016x}{_scramble(lane1 ^ _scramble((key + GAMMA) % MODULUS)):016x}"


def _lanes(data: bytes) -> tuple[int, int]:
    """The two sums over all words, modulo 2^64."""
    words = np.frombuffer(data + bytes(-len(data) % 8), dtype="<u8").astype(np.uint64)
    # numpy's unsigned arrays wrap in silence, its scalars warn: everything stays an array
    positions = np.arange(1, len(words) + 1, dtype=np.uint64)
    keys = _scramble_all(positions * _array(GAMMA))
    by_xor = _scramble_all(words ^ keys)
    by_sum = _scramble_all(words + _scramble_all(keys + _array(GAMMA)))
    return int(np.add.reduce(by_xor)), int(np.add.reduce(by_sum))


def _shape_key(byte_count: int, shape: tuple[int, ...]) -> int:
    key = _scramble((byte_count + GAMMA) % MODULUS)
    key = _scramble((key + len(shape)) % MODULUS)
    for size in shape:
        key = _scramble(key ^ ((size + GAMMA) % MODULUS))
    return key


def _scramble(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014) on a Python integer."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> shift)) * factor % MODULUS
    return z ^ (z >> 31)


def _scramble_all(z: Words) -> Words:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> _array(shift))) * _array(factor)
    return z ^ (z >> _array(31))


def _array(value: int) -> Words:
    return np.array([value], dtype=np.uint64)
