"""The two fillings of fresh memory, and how to know them again.

Floats get a pattern of two unlikely numbers and, on the other side, two others of the opposite signs, so that sums,
signs, extremes, softmax and argmax all come out differently. Integers get 0 and 1, bools True and False: as an index or
a mask the first is safe, and `any`, `all`, `max` and sums tell the sides apart. Tensors are compared as words, which
every type has.
"""

from __future__ import annotations

import functools

import torch

__all__ = ["fill", "is_filling", "same", "watched", "words_of"]

_SIDES = ((0.72360679, -1.30277564), (-0.41421356, 1.61803399))
_PATTERN = 0x9E3779B97F4A7C15  # which of the two stands where, in every 64 elements
_FLOATS = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
)
_REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
_INTEGERS = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def watched(dtype: torch.dtype) -> bool:
    """True for the types that have fillings."""
    return dtype in _INTEGERS or _REAL.get(dtype, dtype) in _FLOATS


def words_of(tensor: torch.Tensor) -> torch.Tensor:
    """Its elements as integers; a complex number is two."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    word = _WORDS[tensor.dtype.itemsize]
    words: torch.Tensor = tensor.view(word)
    return words.contiguous()


def same(mine: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Per word: the same bits."""
    return words_of(mine) == words_of(other)


def fill(flat: torch.Tensor, side: int) -> None:
    """Fill a contiguous run of elements with one of the two fillings."""
    words = words_of(flat).view(-1)
    tile = _tile(flat.dtype, side).to(words.device)
    whole = words.numel() // tile.numel() * tile.numel()
    words[:whole].view(-1, tile.numel()).copy_(tile)
    words[whole:].copy_(tile[: words.numel() - whole])


def is_filling(mine: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Per word: one filling here and the other there, also after a change of type."""
    x, y = words_of(mine), words_of(other)
    a, b = (_marks(mine.dtype, side).to(x.device) for side in (0, 1))
    return torch.isin(x, a) & torch.isin(y, b)


@functools.cache
def _tile(dtype: torch.dtype, side: int) -> torch.Tensor:
    """64 elements as words."""
    if dtype in _INTEGERS:
        value = side if dtype is not torch.bool else 1 - side
        return torch.full((64,), value, dtype=_WORDS[dtype.itemsize], device="cpu")
    values = [_SIDES[side][_PATTERN >> at & 1] for at in range(64)]
    return words_of(torch.tensor(values, dtype=torch.float64, device="cpu").to(_REAL.get(dtype, dtype)))


@functools.cache
def _marks(dtype: torch.dtype, side: int) -> torch.Tensor:
    """The words that a filling may have become: as made in this type, or converted to it from another."""
    if dtype in _INTEGERS:
        return torch.tensor([0, 1], dtype=_WORDS[dtype.itemsize], device="cpu")
    real = _REAL.get(dtype, dtype)
    exact = torch.tensor([*_SIDES[side]], dtype=torch.float64, device="cpu")
    found = [exact.to(kind).to(torch.float64).to(real) for kind in _FLOATS]
    found.append(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu").to(real))  # integers that became floats
    marks: torch.Tensor = torch.cat([words_of(values) for values in found]).unique()
    return marks
