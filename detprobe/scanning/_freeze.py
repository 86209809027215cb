"""One call of one op, frozen: it can be run again on the same inputs, as often as needed.

Arguments that the op only reads are used as they are. What it writes is copied before the first run, as bytes of the
storage, and laid out again for every replay with the same strides, storage offset, overlap, sharing between arguments
and address modulo 64 bytes: a kernel may take another path for another layout. Generators are set back before each
replay and left as the first run left them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from detprobe.scanning._generators import Draws
from detprobe.scanning._schema import OpFacts
from detprobe.scanning._tree import map_tensors

__all__ = ["FrozenCall", "flat_tensors", "fresh_in", "rebuild_on", "storage_bytes", "storage_id", "written_by"]

_ALIGNMENT = 64  # what torch's CPU allocator gives; a divisor of what the CUDA allocator gives


def storage_id(tensor: torch.Tensor) -> int:
    """Identity of the memory behind a tensor; views share it."""
    return int(tensor.untyped_storage()._cdata)


def storage_bytes(storage: torch.UntypedStorage, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """uint8 [stop - start] view of a storage's bytes."""
    stop = storage.nbytes() if stop is None else stop
    view = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return view.set_(storage, start, (stop - start,), (1,))


def flat_tensors(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors of a call's arguments; the schema allows them alone or in lists."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, torch.Tensor))
    return found


def written_by(facts: OpFacts, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors among a call's arguments that the op writes."""
    found: list[torch.Tensor] = []
    for position, name in facts.written:
        value = kwargs[name] if name in kwargs else (args[position] if position < len(args) else None)
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, torch.Tensor))
    return found


def fresh_in(facts: OpFacts, output: Any) -> list[Any]:
    """What is new in an op's output; written arguments that come back are left out."""
    fresh = facts.fresh_returns
    if not fresh:
        return []
    if len(fresh) == 1:
        values = [output] if fresh[0] else []
    else:
        values = [value for value, new in zip(output, fresh, strict=True) if new]
    found: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            found.extend(value)
        else:
            found.append(value)
    return found


class _Span:
    """The bytes of one storage between the first and the last that the call's arguments touch, kept for replays."""

    __slots__ = ("address", "pristine", "start", "storage")

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        extents = [_extent(t) for t in tensors]
        self.start = min(low for low, _ in extents)
        stop = max(high for _, high in extents)
        self.storage = tensors[0].untyped_storage()
        self.pristine = storage_bytes(self.storage, self.start, stop).clone()
        self.address = self.storage.data_ptr() + self.start

    def changed(self) -> bool:
        """True when the memory no longer holds these bytes."""
        now = storage_bytes(self.storage, self.start, self.start + self.pristine.numel())
        return not torch.equal(now, self.pristine)

    def copy(self) -> tuple[torch.UntypedStorage, int]:
        """A new storage with these bytes, and what to add to a byte offset to find its place there."""
        room = torch.empty(self.pristine.numel() + _ALIGNMENT, dtype=torch.uint8, device=self.pristine.device)
        shift = (self.address - room.data_ptr()) % _ALIGNMENT
        room[shift : shift + self.pristine.numel()].copy_(self.pristine)
        return room.untyped_storage(), shift - self.start


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """First and last-plus-one byte of a tensor in its storage."""
    size = tensor.element_size()
    first = int(tensor.storage_offset()) * size
    if tensor.numel() == 0:
        return first, first
    last = sum((int(n) - 1) * int(stride) for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (last + 1) * size


class _Laid(NamedTuple):
    """How a tensor lies in its storage. Taken before the first run: an op may change it."""

    shape: Any
    stride: Any
    offset: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Laid:
        return cls(tensor.shape, tensor.stride(), int(tensor.storage_offset()))

    def place(self, like: torch.Tensor, storage: torch.UntypedStorage, shift: int) -> torch.Tensor:
        """A tensor that lies so in another storage, `shift` bytes further on."""
        offset, rest = divmod(self.offset * like.element_size() + shift, like.element_size())
        if rest:
            raise NotImplementedError("its memory is not aligned to its element size")
        fresh = torch.empty(0, dtype=like.dtype, device=like.device)
        return fresh.set_(storage, offset, self.shape, self.stride)


class FrozenCall:
    """An op, its arguments, and what is needed to run it again on the same bytes.

    `results` of a run are the fresh tensors and scalars that the op returned, then the written arguments.
    """

    __slots__ = ("_draws", "_laid", "_spans", "_undeclared", "args", "facts", "func", "kwargs", "tensors")

    def __init__(
        self,
        func: Callable[..., Any],
        facts: OpFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[torch.Tensor],
    ) -> None:
        self.func = func
        self.facts = facts
        self.args = args
        self.kwargs = kwargs
        self.tensors = tensors
        self._spans: dict[int, _Span] = {}
        self._laid: dict[int, _Laid] = {}
        self._undeclared: list[int] = []
        self._draws: Draws | None = None
        if facts.written or not facts.native:
            self._freeze_written()
        if facts.draws or not facts.native:
            self._draws = Draws(self.tensors, args, kwargs, everywhere=not facts.native)

    def _freeze_written(self) -> None:
        declared = {storage_id(t) for t in written_by(self.facts, self.args, self.kwargs)}
        shared: dict[int, list[torch.Tensor]] = {}
        for tensor in self.tensors:
            sid = storage_id(tensor)
            if sid in declared or not self.facts.native:
                shared.setdefault(sid, []).append(tensor)
        self._spans = {sid: _Span(tensors) for sid, tensors in shared.items()}
        self._laid = {id(t): _Laid.of(t) for tensors in shared.values() for t in tensors}
        self._undeclared = [sid for sid in shared if sid not in declared]

    def written_unseen(self) -> list[tuple[torch.UntypedStorage, int, torch.Tensor]]:
        """Memory that a foreign op has written without saying so: storage, first byte, the bytes from before.

        To be asked after `first`. What it did not write is from then on used as it is.
        """
        found = []
        for sid in self._undeclared:
            span = self._spans[sid]
            if span.changed():
                found.append((span.storage, span.start, span.pristine))
            else:
                del self._spans[sid]
        self._undeclared = []
        return found

    def first(self) -> tuple[Any, list[Any]]:
        """Run on the caller's own arguments. Returns what the op returned, and its results."""
        output = self.func(*self.args, **self.kwargs)
        if self._draws is not None:
            self._draws.mark()
        return output, self.results(output, self.args, self.kwargs)

    def again(self, swap: Callable[[torch.Tensor], torch.Tensor | None] | None = None) -> list[Any]:
        """Run on equal inputs and return the results. `swap` may give another tensor in the place of an argument."""
        args, kwargs = self.thaw(swap)
        if self._draws is None:
            return self.results(self.func(*args, **kwargs), args, kwargs)
        with self._draws.replay():
            return self.results(self.func(*args, **kwargs), args, kwargs)

    def drew(self) -> bool:
        """True when the first run moved a generator. To be asked after `first`."""
        return self._draws is not None and self._draws.moved()

    def thaw(
        self, swap: Callable[[torch.Tensor], torch.Tensor | None] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for another run: what the op writes as fresh copies, the rest as it is."""
        if not self._spans and swap is None:
            return self.args, self.kwargs
        copies = {sid: span.copy() for sid, span in self._spans.items()}

        def replace(tensor: torch.Tensor) -> torch.Tensor:
            if swap is not None and (other := swap(tensor)) is not None:
                return other
            copy = copies.get(storage_id(tensor)) if copies else None
            return tensor if copy is None else self._laid[id(tensor)].place(tensor, *copy)

        return map_tensors(replace, tuple(self.args)), map_tensors(replace, dict(self.kwargs))

    def writes(self, tensor: torch.Tensor) -> bool:
        """True when the op may write this argument's memory."""
        return bool(self._spans) and storage_id(tensor) in self._spans

    def draws_unseen(self) -> bool:
        """True when a run moves a generator although the op's schema does not say so.

        From then on the call's generators are set back before each run, to the state of now.
        """
        if self._draws is not None:
            return False
        watch = Draws(self.tensors, self.args, self.kwargs, everywhere=True)
        args, kwargs = self.thaw()
        self.func(*args, **kwargs)
        watch.mark()
        if watch.moved():
            self._draws = watch
        return watch.moved()

    def results(self, output: Any, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
        """What a run on `args` and `kwargs` that returned `output` has computed."""
        results = fresh_in(self.facts, output)
        if self.facts.opaque:
            results = [value for position, value in enumerate(results) if position not in self.facts.opaque]
        if self.facts.written:
            results.extend(written_by(self.facts, args, kwargs))
        return results


def rebuild_on(tensor: torch.Tensor, storage: torch.UntypedStorage) -> torch.Tensor:
    """The same view of another storage of the same size."""
    return _Laid.of(tensor).place(tensor, storage, 0)
