"""Memory that nobody wrote, and the op that reads it.

A fresh tensor's bytes are filled with one value (the poison), and a shadow of its memory with another. What the step
then does to the memory is done to the shadow too. Elements that are equal in both were written; an op whose result
differs between the two has read an element that was not. Pure movement (a copy of a half-filled buffer) is followed,
not accused: the finding is the first op that computes with such an element, or the step's output that holds one.

What the fillings are is in `_filling`. Memory that changes between two ops was written by something below the
dispatcher (numpy, a kernel launched by hand): it is no longer watched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from detprobe.scanning._compare import Measure, difference, unlike
from detprobe.scanning._filling import fill, is_filling, same, watched
from detprobe.scanning._freeze import FrozenCall, rebuild_on, storage_bytes, storage_id
from detprobe.scanning._places import Place
from detprobe.scanning._tree import is_plain

__all__ = ["Poison", "Read", "fill_with_poison"]

_LIMIT = 1 << 30  # bytes; a larger buffer (a preallocated cache) is not filled

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
        self.ambiguous = not (tensor.is_floating_point() or tensor.is_complex()) and self.storage.resizable()
        self.op = op
        self.place = place
        self.shape = shape
        self.written = self._equal()

    def _equal(self) -> torch.Tensor:
        return same(_flat(self.storage, self.dtype), _flat(self.other, self.dtype))

    def disturbed(self) -> bool:
        """Something that the scan did not see has written here since the last `settle`."""
        if self.storage.nbytes() != self.other.nbytes():
            return True
        if self.ambiguous and not self.storage.resizable():
            return True  # numpy has had it, and may have written the very 0 or 1 that it found
        equal = self._equal()
        if not torch.equal(equal, self.written):
            return True
        mine, other = _flat(self.storage, self.dtype), _flat(self.other, self.dtype)
        return not bool((equal | is_filling(mine, other)).all())

    def settle(self) -> bool:
        """Remember what is written by now. Returns True when everything is."""
        if self.storage.nbytes() != self.other.nbytes():
            return True
        self.written = self._equal()
        return bool(self.written.all())


def _flat(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.Tensor:
    view = torch.empty(0, dtype=dtype, device=storage.device)
    return view.set_(storage, 0, (storage.nbytes() // dtype.itemsize,), (1,))


def fill_with_poison(tensor: Any, start: int = 0) -> bool:
    """Fill what an allocation returned, from byte `start` of its memory on. False where it was left alone."""
    if not isinstance(tensor, torch.Tensor) or not is_plain(tensor) or tensor.is_quantized:
        return False
    size = tensor.untyped_storage().nbytes()
    if not start < size <= _LIMIT or not watched(tensor.dtype) or start % tensor.element_size():
        return False
    fill(_flat(tensor.untyped_storage(), tensor.dtype)[start // tensor.element_size() :], 0)
    return True


class Poison:
    """The unwritten memory of one pass."""

    def __init__(self) -> None:
        self._shadows: dict[int, _Shadow] = {}

    def fill(self, tensor: Any, op: str, place: Place, start: int = 0) -> None:
        """Poison what an allocation returned, from byte `start` of its memory on, and watch it."""
        if not fill_with_poison(tensor, start):
            return
        storage = tensor.untyped_storage()
        other = storage_bytes(storage).clone().untyped_storage()
        fill(_flat(other, tensor.dtype)[start // tensor.element_size() :], 1)
        shape = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
        self._shadows[storage._cdata] = _Shadow(tensor, other, op, place, shape)

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
            if not is_plain(tensor) or not self.touches([tensor]):
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
            or not bool((same(mine, other) | is_filling(mine, other)).all())
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
