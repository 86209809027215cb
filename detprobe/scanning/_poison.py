"""Memory that nobody wrote, and the op that reads it.

A fresh tensor's bytes are filled with one value (the poison), and a shadow of its memory with another. What the step
then does to the memory is done to the shadow too. Elements that are equal in both were written; an op whose result
differs between the two has read an element that was not. Pure movement (a copy of a half-filled buffer) is followed,
not accused: the finding is the first op that computes with such an element, or the step's output that holds one.

Floats get two ordinary numbers of unlike sign; integers a pattern of 0 and 1 and its inverse, which can be used as an
index. Memory that changes between two ops was written by something below the
dispatcher (numpy, a kernel launched by hand): it is no longer watched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from detprobe.scanning._compare import Measure, difference, unlike
from detprobe.scanning._freeze import FrozenCall, rebuild_on, storage_bytes, storage_id
from detprobe.scanning._places import Place

__all__ = ["Poison", "Read", "fill_with_poison"]

_FLOATS = (0.72360679, -1.61803398)
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_WATCHED_FLOATS = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)
_LIMIT = 1 << 30  # bytes; a larger buffer (a preallocated cache) is not filled
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# Ops that only carry elements from one place to another.
_MOVES = frozenset(
    f"aten::{name}"
    for name in (
        "clone copy_ copy _to_copy cat stack index index_select gather take slice_scatter select_scatter "
        "diagonal_scatter as_strided_scatter index_put index_put_ _index_put_impl_ index_copy index_copy_ "
        "scatter scatter_ masked_scatter masked_scatter_ masked_fill masked_fill_ masked_select where roll flip repeat "
        "constant_pad_nd tril triu tril_ triu_ _foreach_copy_ view_copy expand_copy permute_copy slice_copy "
        "select_copy unfold_copy _reshape_copy contiguous split_copy as_strided_copy fill_ fill put put_"
    ).split()
)

# Ops that write every element of their first argument and read none of it: no need to run them twice to see that.
_FILLS = frozenset(
    f"aten::{name}_"
    for name in "bernoulli cauchy exponential fill geometric log_normal normal random uniform zero".split()
)


class Read(NamedTuple):
    """An op read what nobody wrote."""

    maker: str
    """The op that made the memory."""
    place: Place
    """Where it was made."""
    shape: str
    measure: Measure
    """How the result moves with the unwritten bytes."""


class _Shadow:
    """One watched storage, and what it would hold had it been filled with the other poison."""

    def __init__(self, tensor: torch.Tensor, other: torch.UntypedStorage, op: str, place: Place, shape: str) -> None:
        self.dtype = tensor.dtype
        self.storage = tensor.untyped_storage()  # held: its identity is not given to another one meanwhile
        self.other = other
        self.op = op
        self.place = place
        self.shape = shape
        self.written = self._equal()

    def _equal(self) -> torch.Tensor:
        return _same(_flat(self.storage, self.dtype), _flat(self.other, self.dtype))

    def disturbed(self) -> bool:
        """Something that the scan did not see has written here since the last `settle`."""
        if self.storage.nbytes() != self.other.nbytes():
            return True
        equal = self._equal()
        if not torch.equal(equal, self.written):
            return True
        mine, other = _flat(self.storage, self.dtype), _flat(self.other, self.dtype)
        return not bool((equal | _is_poison(mine, other)).all())

    def settle(self) -> bool:
        """Remember what is written by now. Returns True when everything is."""
        if self.storage.nbytes() != self.other.nbytes():
            return True
        self.written = self._equal()
        return bool(self.written.all())


def _flat(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.Tensor:
    view = torch.empty(0, dtype=dtype, device=storage.device)
    return view.set_(storage, 0, (storage.nbytes() // dtype.itemsize,), (1,))


def _same(mine: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Per element: the same bits."""
    if mine.dtype.itemsize > 8:
        a, b = (torch.view_as_real(t).contiguous().view(torch.int64) for t in (mine, other))
        return (a == b).all(-1)
    word = _WORDS[mine.dtype.itemsize]
    return mine.contiguous().view(word) == other.contiguous().view(word)


def _poisons(dtype: torch.dtype, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two fillings of n elements, for the types that are watched."""
    if dtype in _INTEGERS:
        generator = torch.Generator("cpu").manual_seed(n)
        pattern = torch.randint(0, 2, (n,), generator=generator, device="cpu").to(dtype)
        return pattern, (1 - pattern.to(torch.int8)).to(dtype)
    first, second = (torch.full((1,), v, dtype=torch.float64, device="cpu").to(dtype).expand(n) for v in _FLOATS)
    return first, second


def _is_poison(mine: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Per element: the poison here and the other poison there. (Integers: 0 and 1, either way round.)"""
    if mine.dtype in _INTEGERS:
        a, b = mine.to(torch.int64), other.to(torch.int64)
        return ((a == 0) & (b == 1)) | ((a == 1) & (b == 0))
    if mine.dtype not in _WATCHED_FLOATS:
        return torch.zeros(mine.shape, dtype=torch.bool, device=mine.device)
    fillings = _poisons(mine.dtype, 1)
    if mine.dtype.itemsize == 1:  # float8 has few operations: compare as bytes
        x, y = (f.contiguous().view(torch.uint8).to(mine.device) for f in fillings)
        return (mine.contiguous().view(torch.uint8) == x) & (other.contiguous().view(torch.uint8) == y)
    x, y = (f.to(mine.device) for f in fillings)
    return (mine == x) & (other == y)


def fill_with_poison(tensor: Any) -> torch.Tensor | None:
    """Fill what an allocation returned. Returns its memory as one run of elements; None where it was left alone."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided or tensor.is_quantized:
        return None
    storage = tensor.untyped_storage()
    if tensor.is_meta or not 0 < storage.nbytes() <= _LIMIT or tensor.dtype not in (*_INTEGERS, *_WATCHED_FLOATS):
        return None
    flat = _flat(storage, tensor.dtype)
    return flat.copy_(_poisons(tensor.dtype, flat.numel())[0])


class Poison:
    """The unwritten memory of one pass."""

    def __init__(self) -> None:
        self._shadows: dict[int, _Shadow] = {}

    def fill(self, tensor: Any, op: str, place: Place) -> None:
        """Poison what an allocation returned, and watch it."""
        flat = fill_with_poison(tensor)
        if flat is None:
            return
        other = torch.empty_like(flat).copy_(_poisons(flat.dtype, flat.numel())[1])
        shape = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
        self._shadows[storage_id(tensor)] = _Shadow(tensor, other.untyped_storage(), op, place, shape)

    def touches(self, tensors: list[torch.Tensor]) -> bool:
        """True when an argument's memory has unwritten elements. To be asked before the call's first run."""
        if not self._shadows:
            return False
        touched = False
        for tensor in tensors:
            sid = storage_id(tensor)
            if (shadow := self._shadows.get(sid)) is not None:
                if shadow.disturbed():
                    del self._shadows[sid]
                else:
                    touched = True
        return touched

    def follow(self, call: FrozenCall, results: list[Any]) -> Read | None:
        """Run the call on the shadows too, after its first run, and compare. Returns what it read, if it did."""
        shadows = {sid: s for t in call.tensors if (s := self._shadows.get(sid := storage_id(t))) is not None}
        if call.facts.name in _FILLS and len(call.tensors) == 1:
            self._overwritten(call.tensors)
            return None
        origin = self._origin(call, shadows)

        def swap(tensor: torch.Tensor) -> torch.Tensor | None:
            shadow = shadows.get(storage_id(tensor))
            return None if shadow is None else rebuild_on(tensor, shadow.other)

        try:
            others = call.again(swap)
        except Exception:  # the op lives with one value of the unwritten bytes and not with another: it read them
            others = []
        if len(others) != len(results):
            return self._accuse(origin, Measure(1.0, None, None), [*results, *call.tensors])
        worst: Measure | None = None
        for mine, other in zip(results, others, strict=True):
            found = self._judge(call.facts.name, mine, other, origin)
            worst = worst if found is None else found.worst(worst)
        if worst is not None and difference(results, call.again()) is None:
            return self._accuse(origin, worst, results)
        self._settle(results)
        return None

    def left_in(self, tensors: list[torch.Tensor]) -> list[Read]:
        """Unwritten elements in what the step hands out, one entry per place where they were made."""
        found: dict[tuple[str, Place], Read] = {}
        for tensor in tensors:
            if tensor.layout is not torch.strided or not self.touches([tensor]):
                continue
            shadow = self._shadows[storage_id(tensor)]
            measure = difference([tensor], [rebuild_on(tensor, shadow.other)])
            if measure is not None:
                found[shadow.op, shadow.place] = Read(shadow.op, shadow.place, shadow.shape, measure)
        return list(found.values())

    def _origin(self, call: FrozenCall, shadows: dict[int, _Shadow]) -> _Shadow:
        """The memory to name: the first argument whose own elements are unwritten."""
        for tensor in call.tensors:
            shadow = shadows.get(storage_id(tensor))
            if shadow is not None and difference([tensor], [rebuild_on(tensor, shadow.other)]) is not None:
                return shadow
        return next(iter(shadows.values()))

    def _judge(self, op: str, mine: Any, other: Any, origin: _Shadow) -> Measure | None:
        measure = difference([mine], [other])
        if measure is None:
            return None
        if (
            not isinstance(mine, torch.Tensor)
            or unlike(mine, other)
            or not bool((_same(mine, other) | _is_poison(mine, other)).all())
        ):
            return measure
        if storage_id(mine) in self._shadows:
            return None  # what the op did not write is as unwritten as before
        if op not in _MOVES:
            return measure
        storage = mine.untyped_storage()  # the poison moved into memory of its own: watch that too
        copy = storage_bytes(storage).clone().untyped_storage()
        rebuild_on(mine, copy).copy_(other)
        self._shadows[storage._cdata] = _Shadow(mine, copy, origin.op, origin.place, origin.shape)
        return None

    def _accuse(self, origin: _Shadow, measure: Measure, results: list[Any]) -> Read:
        """Accuse once: what the op touched counts as written from here on."""
        self._overwritten(results)
        return Read(origin.op, origin.place, origin.shape, measure)

    def _overwritten(self, values: list[Any]) -> None:
        """Every element of these tensors counts as written."""
        for value in values:
            if isinstance(value, torch.Tensor) and (shadow := self._shadows.get(storage_id(value))) is not None:
                rebuild_on(value, shadow.other).copy_(value)
        self._settle(values)

    def _settle(self, results: list[Any]) -> None:
        for value in results:
            if isinstance(value, torch.Tensor):
                shadow = self._shadows.get(sid := storage_id(value))
                if shadow is not None and shadow.settle():
                    del self._shadows[sid]
