"""Sums in known orders: nested tuples that say the order, and callables that add in it with float32 roundings."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st
from torch import Tensor


def chain(items: list[Any]) -> Any:
    total = items[0]
    for item in items[1:]:
        total = (total, item)
    return total


def halves(items: list[Any]) -> Any:
    if len(items) == 1:
        return items[0]
    middle = len(items) // 2
    return (halves(items[:middle]), halves(items[middle:]))


def lanes(items: list[Any], count: int) -> Any:
    return halves([chain(items[lane::count]) for lane in range(min(count, len(items)))])


def blocks(items: list[Any], size: int) -> Any:
    return chain([halves(items[at : at + size]) for at in range(0, len(items), size)])


def numpy_order(items: list[Any]) -> Any:
    """numpy's pairwise sum: 8 lanes in blocks of up to 128, halves of multiples of 8 above."""
    n = len(items)
    if n < 8:
        return chain(items)
    if n <= 128:
        whole = n - n % 8
        r = [chain(items[lane:whole:8]) for lane in range(8)]
        return chain([halves(r), *items[whole:]])
    half = n // 2 - n // 2 % 8
    return (numpy_order(items[:half]), numpy_order(items[half:]))


def fused_blocks(items: list[Any], width: int) -> Any:
    """An accumulator that takes up `width` elements in each step."""
    total: Any = None
    for at in range(0, len(items), width):
        step = items[at : at + width] if total is None else [total, *items[at : at + width]]
        total = tuple(step) if len(step) > 1 else step[0]
    return total


def adding(nested: Any, *, cutting: bool = False) -> Callable[[Tensor], float]:
    """A callable that adds in this order, each addition rounded to float32.

    Additions of more than two terms are exact and rounded once; `cutting` ones drop, before they add, what lies below
    the last place of their largest term.
    """

    def add(terms: list[float]) -> float:
        if cutting and len(terms) > 2:
            largest = max(map(abs, terms))
            grain = math.ldexp(1.0, math.frexp(largest)[1] - 24) if largest else 1.0
            terms = [math.trunc(term / grain) * grain for term in terms]
        return float(np.float32(math.fsum(terms)))

    def total(x: Tensor) -> float:
        values = x.tolist()

        def of(item: Any) -> float:
            return values[item] if isinstance(item, int) else add([of(child) for child in item])

        return of(nested)

    return total


@st.composite
def orders(draw: st.DrawFn, most: int, widest: int = 2) -> Any:
    """Any order over 1 .. most elements: terms are picked and joined until one is left."""
    n = draw(st.integers(1, most))
    random = Random(draw(st.integers(0, 2**32)))
    terms: list[Any] = list(range(n))
    while len(terms) > 1:
        random.shuffle(terms)
        width = min(len(terms), random.randint(2, widest))
        taken, terms = terms[:width], terms[width:]
        terms.append(tuple(taken))
    return terms[0]
