"""The question that is asked of a sum again and again: how many elements are lost when M and -M stand at i and j?

All other elements are one small unit. A unit that is added to a partial sum with M in it vanishes by rounding; where
M and -M meet they cancel, and the units that are added from there on stay. So the result counts the elements that are
not under the addition at which i and j meet.

M and the unit are powers of two, so that no rounding but the swallowing happens: M leaves room for no overflow, and the
unit is so small that all of them together are swallowed, also by an accumulator of a wider format (float32 inside a sum
of float16 or bfloat16). A format counts whole numbers to 2^p only; where there are more elements, the units are laid in
portions, the rest is zero, and the counts are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from detprobe.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["FORMATS", "Masks", "NoTree"]

Sum = Callable[[torch.Tensor], Any]


class NoTree(Exception):  # noqa: N818 - an answer, which the probe writes into its report
    """The callable sums, but not in one fixed order of additions that round; the text says what was seen."""


class _Format(NamedTuple):
    huge: float
    unit: float
    countable: int
    """Whole numbers of units that the format holds, from 0 on: what one call can count."""


FORMATS = {
    torch.float64: _Format(2.0**1023, 1.0, 2**53),
    torch.float32: _Format(2.0**127, 1.0, 2**24),
    torch.bfloat16: _Format(2.0**127, 1.0, 2**8),
    torch.float16: _Format(2.0**15, 2.0**-24, 2**11),
}
_MOST = 2**14
"""Elements that are probed: all their units, 2^-10 together, are below half a step of 2^15 in a float32 accumulator."""


class Masks:
    """The callable, and the elements that are probed; every other element is zero in every call."""

    def __init__(self, fn: Sum, n: int, at: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        if len(at) > _MOST:
            raise ArgumentValueError(
                f"n: expected at most {_MOST} probed elements, got {len(at)}: probe some of them, as in leaves=256"
            )
        self.calls = 0
        self.at = tuple(at)
        self._fn = fn
        self._format = FORMATS[dtype]
        self._zeros = torch.zeros(n, dtype=dtype, device=device)
        self._index = torch.tensor(self.at, device=device)
        self._portions = _portions(len(self.at), self._format.countable)
        self._units = [self._laid(portion) for portion in self._portions]

    def lost(self, i: int, j: int) -> int:
        """Elements under the addition at which i and j meet, these two included."""
        left = 0
        for portion, units in zip(self._portions, self._units, strict=True):
            left += self._count(units, i, j, most=len(portion))
        return len(self.at) - left

    def keeps(self, i: int, j: int, k: int) -> bool:
        """Whether the unit at k is left when i and j have met: k is under neither of them there."""
        return self._count(self._laid([k]), i, j, most=1) == 1

    def sum_of(self, values: torch.Tensor | Sequence[float]) -> float:
        """One call: these values at the probed elements."""
        x = self._zeros.clone()
        x[self._index] = torch.as_tensor(values, dtype=torch.float64).to(x.device, x.dtype)
        return self.call(x)

    def call(self, x: torch.Tensor) -> float:
        """One call; the callable may write into `x` or keep it."""
        self.calls += 1
        return _number(self._fn(x))

    def check_is_sum(self) -> None:
        """Small whole numbers have one sum in every order and every format: does the callable give it?"""
        m, unit = len(self.at), self._format.unit
        some = min(m, 15)  # 15 * 13 units at most: bfloat16 counts to 256
        cases = [[0.0] * m, *([unit * (k == i) for k in range(m)] for i in {0, m // 2, m - 1})]
        for sign in (1.0, -1.0):
            spread = [0.0] * m
            for step in range(some):
                spread[step * m // some] = sign * unit * (step % 5 * 3 + 1)
            cases.append(spread)
        for case in cases:
            want, got = math.fsum(case) / unit, self.sum_of(case) / unit
            if not math.isfinite(got):
                raise ArgumentValueError(f"fn: expected a sum, and of small whole numbers it made {got}, not {want:g}")
            if got != want:
                raise ArgumentValueError(
                    "fn: expected a sum of all elements, and of small whole numbers, whose sum is exact in any order, "
                    f"it made {got:g}, not {want:g}: pass a function that adds and does nothing else"
                )

    def _laid(self, portion: Sequence[int]) -> torch.Tensor:
        x = self._zeros.clone()
        x[self._index[list(portion)]] = self._format.unit
        return x

    def _count(self, units: torch.Tensor, i: int, j: int, *, most: int) -> int:
        x = units.clone()
        x[self.at[i]], x[self.at[j]] = self._format.huge, -self._format.huge
        got = self.call(x) / self._format.unit
        if not math.isfinite(got):
            raise NoTree(f"Its output is not finite: {got} for {self._format.huge:g}, its negative, and small numbers.")
        if got != int(got) or not 0 <= got <= most:
            raise NoTree(
                f"It is no sum in a fixed order of roundings: {self._format.huge:g} and its negative, among {most} "
                f"units, left {got:g} units. A compensated sum does that."
            )
        return int(got)


def _portions(m: int, countable: int) -> list[range]:
    """The probed elements in runs that can be counted."""
    return [range(start, min(start + countable, m)) for start in range(0, m, countable)]


def _number(value: Any) -> float:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ArgumentValueError(
                f"fn: expected it to return one number, got a tensor of shape {tuple(value.shape)}: "
                "wrap it, as in lambda x: layer(x).sum()"
            )
        return float(value.detach().double())
    if isinstance(value, np.ndarray) and value.size == 1:
        return float(value.reshape(()))
    if isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool):
        return float(value)
    raise ArgumentTypeError(
        f"fn: expected it to return one number (a tensor of one element, or a float), got {type(value).__name__}"
    )
