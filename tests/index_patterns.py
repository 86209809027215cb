"""Indices as they come in practice and at the corners, for the tests of the scatter family; drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

PATTERNS = ("empty", "one hot", "unique", "sorted", "reversed", "zipf", "uniform")


def made(pattern: str, n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """About n indices within 0 .. size - 1: int64 [n], fewer where the pattern wants that."""
    if pattern == "empty":
        return np.zeros(0, np.int64)
    if pattern == "one hot":
        return np.full(n, rng.integers(size))
    if pattern == "unique":
        return rng.permutation(size)[:n]
    if pattern == "zipf":
        return np.minimum(rng.zipf(1.3, n), size) - 1
    drawn = rng.integers(0, size, n)
    if pattern == "sorted":
        return np.sort(drawn)
    return np.sort(drawn)[::-1].copy() if pattern == "reversed" else drawn


@st.composite
def indices(draw: st.DrawFn, most: int = 40, sizes: int = 9) -> tuple[np.ndarray, int, np.random.Generator]:
    """An index, the size that it goes into, and a generator for the numbers around it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, sizes))
    return made(draw(st.sampled_from(PATTERNS)), draw(st.integers(1, most)), size, rng), size, rng


def some_negative(index: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The same places, about half of them counted from the end."""
    return np.where(rng.random(index.shape) < 0.5, index - size, index)


def whole(rng: np.random.Generator, *shape: int, unit: int = 1) -> np.ndarray:
    """Small multiples of `unit` in f64, whose sums are exact in any order; ties are frequent."""
    return rng.integers(-4, 5, shape) * float(unit)
