"""The batch axis: does a sample's result depend on what else is in the batch?

The forward runs twice: once on the first sample alone, to learn which dimension of which argument of each op is the
batch, and once on the whole batch, where each op is replayed on the first sample's part of its frozen inputs and
compared with that part of the whole. An op whose result for the first sample moves when the *other* samples are
exchanged mixes samples by intent (batch normalisation) and is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from detprobe.scanning._compare import difference
from detprobe.scanning._explain import cause_of_axis
from detprobe.scanning._freeze import FrozenCall, flat_tensors
from detprobe.scanning._inputs import Arguments
from detprobe.scanning._places import Places
from detprobe.scanning._plain import run_plainly
from detprobe.scanning._schema import COMPUTES, facts_of
from detprobe.scanning._state import State
from detprobe.scanning._tally import Evidence, Tally, key_of
from detprobe.scanning._tree import describe, is_plain, map_tensors

__all__ = ["BatchMode", "ShapeMode", "batch_size", "first_sample"]


class _Shape(NamedTuple):
    """Stands for a tensor of the slice's run."""

    shape: torch.Size


class _Logged(NamedTuple):
    func: Any
    args: Any
    kwargs: Any


def batch_size(arguments: Arguments) -> int | None:
    """The common first dimension of the inputs; None where they have none, or it is 1."""
    sizes = {t.shape[0] for t in arguments.tensors() if t.dim() > 0}
    size = sizes.pop() if len(sizes) == 1 else 1
    return size if size > 1 else None


def first_sample(arguments: Arguments) -> Arguments:
    """The same arguments with the first entry of the batch alone."""

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:1].detach().requires_grad_(tensor.requires_grad) if tensor.dim() else tensor

    return Arguments(map_tensors(cut, arguments.args), map_tensors(cut, arguments.kwargs))


class ShapeMode(TorchDispatchMode):
    """Writes down every op's arguments, shapes in the place of tensors."""

    def __init__(self, state: State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log: list[_Logged] = []
        self._state = state

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.log.append(_Logged(func, *(map_tensors(lambda t: _Shape(t.shape), v) for v in (tuple(args), kwargs))))
        return run_plainly(self._state.undo, func, args, kwargs)


class BatchMode(TorchDispatchMode):
    """Runs the whole batch, and each op on the first sample's part too."""

    def __init__(self, log: list[_Logged], tally: Tally, places: Places, state: State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log = log
        self._at = 0
        self._tally = tally
        self._places = places
        self._state = state
        self.lost = ""
        """The op at which the two runs parted, after which nothing was judged; empty if they did not."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        place = self._places.here(depth=2)
        logged = self._log[self._at] if self._at < len(self._log) else None
        self._at += 1
        output = run_plainly(self._state.undo, func, args, kwargs)
        if not isinstance(func, torch._ops.OpOverload):
            return output
        facts = facts_of(func)
        if logged is None or logged.func is not func:
            self.lost = self.lost or facts.name
        if self.lost or facts.kind is not COMPUTES or facts.written or facts.draws or logged is None:
            return output
        tensors = flat_tensors(args, kwargs)
        if not all(map(is_plain, tensors)):
            return output
        call = FrozenCall(func, facts, args, kwargs, tensors)
        try:
            evidence = _judge(call, call.results(output, args, kwargs), logged)
        except Exception:  # the op does not take the part alone: nothing can be said
            evidence = None
        key = key_of(facts.name, place)
        if evidence is not None and not self._tally.accused(key):
            self._tally.found(key, "order-sensitive", evidence)
        return output


def _judge(call: FrozenCall, whole: list[Any], logged: _Logged) -> Evidence | None:
    shapes = _shapes_of(logged)
    if len(shapes) != len(call.tensors):
        return None
    dims = [_batch_dim(t.shape, shape) for t, shape in zip(call.tensors, shapes, strict=True)]
    if all(dim is None for dim in dims):
        return None
    sizes = {id(t): (d, s[d]) for t, s, d in zip(call.tensors, shapes, dims, strict=True) if d is not None}

    def part(tensor: torch.Tensor) -> torch.Tensor:
        dim, size = sizes.get(id(tensor), (None, 0))
        return tensor if dim is None else tensor.narrow(dim, 0, size)

    def others_exchanged(tensor: torch.Tensor) -> torch.Tensor | None:
        dim, size = sizes.get(id(tensor), (None, 0))
        if dim is None:
            return None
        rest = tensor.narrow(dim, size, tensor.shape[dim] - size).flip(dim)
        return torch.cat([tensor.narrow(dim, 0, size), rest], dim)

    args, kwargs = _with_scalars_of(call, logged, part)
    alone = call.results(call.func(*args, **kwargs), args, kwargs)
    mine = [_matching(w, a) for w, a in zip(whole, alone, strict=True)]
    pairs = [(m, a) for m, a in zip(mine, alone, strict=True) if m is not None]
    measure = difference([m for m, _ in pairs], [a for _, a in pairs])
    if measure is None:
        return None
    mixed = [_matching(w, a) for w, a in zip(call.again(others_exchanged), alone, strict=True)]
    if difference([m for m in mine if m is not None], [m for m in mixed if m is not None]) is not None:
        return None
    again = call.results(call.func(*args, **kwargs), args, kwargs)
    if difference(alone, again) is not None:
        return None  # it does not even repeat: the rerun axis has that
    label = f"the first sample alone against the batch: {describe(args)} against {describe(call.args)}"
    return Evidence("batch", 2, 2, measure, cause_of_axis("batch", label), shapes=describe(call.tensors))


def _shapes_of(logged: _Logged) -> list[torch.Size]:
    found: list[torch.Size] = []
    for value in (*logged.args, *logged.kwargs.values()):
        if isinstance(value, _Shape):
            found.append(value.shape)
        elif isinstance(value, list | tuple):
            found.extend(item.shape for item in value if isinstance(item, _Shape))
    return found


def _batch_dim(whole: torch.Size, part: torch.Size) -> int | None:
    """The one dimension in which the slice is smaller; None where nothing differs.

    Raises:
        ValueError: they differ in another way.
    """
    if len(whole) != len(part):
        raise ValueError
    differ = [d for d, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b]
    if len(differ) > 1:
        raise ValueError
    return differ[0] if differ else None


def _matching(whole: Any, alone: Any) -> torch.Tensor | None:
    """The part of a result that belongs to the slice; None where the result has no batch dimension."""
    if not isinstance(whole, torch.Tensor) or not isinstance(alone, torch.Tensor):
        return None
    dim = _batch_dim(whole.shape, alone.shape)
    return None if dim is None else whole.narrow(dim, 0, alone.shape[dim])


def _with_scalars_of(call: FrozenCall, logged: _Logged, part: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The slice's call: its own numbers and sizes, and parts of the whole batch's tensors."""
    tensors = iter(call.tensors)

    def fill(value: Any) -> Any:
        if isinstance(value, _Shape):
            return part(next(tensors))
        if isinstance(value, list | tuple):
            return type(value)(fill(item) for item in value)
        return value

    args = tuple(fill(value) for value in logged.args)
    return args, {name: fill(value) for name, value in logged.kwargs.items()}
