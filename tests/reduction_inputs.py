"""Inputs of the reductions, made of integers alone: words of a linear congruence, laid out in memory as told.

No generator of torch or numpy takes part, so that the same numbers come on every version of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from bit_patterns import FORMATS, place
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MULTIPLIER = 6364136223846793005  # of Knuth's MMIX
KINDS = (
    *("normal", "wide", "cancelling", "huge", "tiny", "zeros", "minus zeros", "plus infinity", "minus infinity"),
    *("both infinities", "nan", "bits"),
)


def stream(seed: int, count: int) -> np.ndarray:
    """[count] uint64, mixed from the states of a multiplicative congruence modulo 2^64."""
    with np.errstate(over="ignore"):
        state = np.cumprod(np.full(count, MULTIPLIER, np.uint64)) * np.uint64(2 * seed + 1)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return state ^ (state >> np.uint64(27))


def words(dtype: torch.dtype, kind: str, rows: int, n: int, seed: int = 0) -> np.ndarray:
    """[rows, n] words of one kind; of "mixed", every row is of another kind, and the seed says of which the first."""
    format = FORMATS[dtype]
    unsigned = np.dtype(f"u{format.bytes}")
    if kind == "mixed":
        parts = [words(dtype, KINDS[(r + seed) % len(KINDS)], 1, n, seed + 977 * r) for r in range(rows)]
        return np.concatenate(parts) if parts else np.zeros((0, n), unsigned)
    draw = stream(seed, rows * n).reshape(rows, n)
    if not format.exponent_bits:
        return (draw & np.uint64(1) if dtype is torch.bool else draw >> np.uint64(11)).astype(unsigned)
    top = (1 << format.exponent_bits) - 1
    sign = draw & np.uint64(1)
    fraction = (draw >> np.uint64(8)) & np.uint64((1 << format.mantissa_bits) - 1)
    pick = (draw >> np.uint64(1)) % np.uint64(97)

    def numbers(lowest: int, highest: int, sign: np.ndarray = sign) -> np.ndarray:
        exponent = np.uint64(lowest) + pick % np.uint64(highest - lowest + 1)
        bits = (sign << np.uint64(format.bytes * 8 - 1)) | (exponent << np.uint64(format.mantissa_bits)) | fraction
        return bits.astype(unsigned)

    minus = 1 << (format.bytes * 8 - 1)
    infinity = top << format.mantissa_bits
    normal = numbers(format.bias - 3, format.bias + 1)
    at = np.arange(rows * n).reshape(rows, n) if n else np.zeros((rows, 0), int)
    if kind == "normal":
        return normal
    if kind == "wide":
        return numbers(format.bias - 11, format.bias + 9)
    if kind == "cancelling":  # each number again, farther on and with the other sign, but for a few
        half = (n + 1) // 2
        wide = numbers(format.bias - 6, format.bias + 9)
        wide[:, half:] = (wide[:, : n - half] ^ unsigned.type(minus))[:, ::-1]
        wide[:, ::37] = normal[:, ::37]
        return wide
    if kind == "huge":
        return numbers(top - 4, top - 1)
    if kind == "tiny":
        return numbers(0, 2)
    if kind == "zeros":
        return (sign << np.uint64(format.bytes * 8 - 1)).astype(unsigned)
    if kind == "minus zeros":
        return np.full((rows, n), minus, unsigned)
    if kind == "plus infinity":
        return np.where(at % 41 == 3, unsigned.type(infinity), normal)
    if kind == "minus infinity":
        return np.where(at % 43 == 1, unsigned.type(infinity | minus), normal)
    if kind == "both infinities":
        return np.where(at % 29 == 2, unsigned.type(infinity) | (normal & unsigned.type(minus)), normal)
    if kind == "nan":  # quiet and signalling ones, of either sign
        nan = (normal & unsigned.type(minus)) | unsigned.type(infinity | 1) | fraction.astype(unsigned)
        return np.where(at % 53 == 5 % max(1, n), nan, normal)
    if kind == "bits":
        return (draw >> np.uint64(3)).astype(unsigned)
    raise ValueError(f"expected one of {(*KINDS, 'mixed')}, got {kind!r}")


def tensor(dtype: torch.dtype, shape: Sequence[int], kind: str = "normal", seed: int = 0, **layout: object) -> Tensor:
    """A tensor of one kind of numbers, whose rows run along the last dimension; `layout` is that of `place`."""
    shape = tuple(shape)
    n = shape[-1] if shape else 1
    return place(words(dtype, kind, prod(shape[:-1]), n, seed), dtype, shape, **layout)  # type: ignore[arg-type]


LAYOUTS: dict[str, dict[str, object]] = {
    "contiguous": {},
    "transposed": {"order": (1, 0)},
    "steps inside": {"steps": (1, 3)},
    "every second": {"steps": (1, 2)},
    "steps outside": {"steps": (2, 1)},
    "transposed steps": {"order": (1, 0), "steps": (2, 3)},
    "offset": {"offset": 5},
    "one row for all": {"expanded": (0,)},
    "one element for a row": {"expanded": (1,)},
    "one element for all": {"expanded": (0, 1)},
}


@dataclass(frozen=True)
class Problem:
    """A matrix of `rows` rows of length `n`, and what stands beside it in calls."""

    dtype: torch.dtype
    rows: int
    n: int
    kind: str = "normal"
    layout: str = "contiguous"
    seed: int = 0
    weights: str = "normal"

    @property
    def x(self) -> Tensor:
        return tensor(self.dtype, (self.rows, self.n), self.kind, self.seed, **LAYOUTS[self.layout])

    @property
    def other(self) -> Tensor:
        """[rows, n], normal numbers."""
        return tensor(self.dtype, (self.rows, self.n), "normal", self.seed + 1, **LAYOUTS[self.layout])

    def along(self, n: int, salt: int = 0, dtype: torch.dtype | None = None) -> Tensor:
        """[n] numbers of the kind that weights have here."""
        return tensor(dtype or self.dtype, (n,), self.weights, self.seed + 2 + salt)

    def positive(self, n: int) -> Tensor:
        return tensor(self.dtype, (n,), "normal", self.seed + 9).abs()

    def classes(self, ignored: int | None = None) -> Tensor:
        """[rows] int64 from 0 to n - 1; every third is `ignored`."""
        target = torch.from_numpy((stream(self.seed + 3, self.rows) >> np.uint64(9)).astype(np.int64) % max(1, self.n))
        if ignored is not None:
            target[::3] = ignored
        return target

    @property
    def shares(self) -> Tensor:
        """[rows, n] numbers from 0 to 1."""
        return tensor(self.dtype, (self.rows, self.n), "normal", self.seed + 5, **LAYOUTS[self.layout]).abs() / 4

    @property
    def wider(self) -> torch.dtype:
        """The type that weights may have beside the input's own."""
        return torch.float32 if self.dtype in (torch.float16, torch.bfloat16) else self.dtype
