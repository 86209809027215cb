"""What the scatter family asks of an index and of what goes along with it (csrc/README.md, Indices).

Shapes and dtypes are checked before C++ is reached. The numbers in an index are checked there, before anything is
written; here they are looked at again only where that failed, to say it in full, or where `validate=True` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentIndexError, ArgumentRuntimeError, ArgumentTypeError, UnsupportedError
from detprobe.ops import _check

__all__ = [
    "BOTH",
    "LONG",
    "NUMBERS",
    "Where",
    "advanced",
    "along",
    "checked",
    "dense",
    "dtype",
    "each",
    "flat",
    "numbers",
    "one_dtype",
    "pair",
    "plan",
    "same_rank",
    "shown",
    "slices",
    "vector",
]

BOTH = (torch.int32, torch.int64)
LONG = (torch.int64,)
NUMBERS = frozenset(_check.FLOATS + _check.INTEGERS)
_MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class Where:
    """An index and its range, for a text about one of its numbers."""

    index: Tensor
    size: int
    of: str
    """Where the size comes from."""
    negative: bool = False
    """Whether numbers below 0 count from the end."""
    name: str = "index"


def numbers(op: str, name: str, value: Tensor) -> None:
    """Refuse what is neither one of the four floats nor an integer nor bool."""
    if value.dtype not in NUMBERS:
        _check.dtype_in(op, name, value.dtype, _check.FLOATS + _check.INTEGERS)


def dtype(
    op: str,
    name: str,
    index: Tensor,
    dtypes: Sequence[torch.dtype],
    error: type[Exception] = ArgumentRuntimeError,
) -> None:
    """Refuse an index of another dtype."""
    if index.dtype not in dtypes:
        _check.dtype_in(op, name, index.dtype, dtypes, error)


def one_dtype(op: str, x: Tensor, name: str, source: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse a source of another dtype than the input; under autocast, floats become the wider one of both."""
    if x.dtype == source.dtype:
        return x, source
    if x.is_floating_point() and source.is_floating_point() and torch.is_autocast_enabled(x.device.type):
        wider = torch.promote_types(x.dtype, source.dtype)
        return x.to(wider), source.to(wider)
    raise ArgumentRuntimeError(
        f"{op}: {name}: expected the dtype of input, {_check.names((x.dtype,))}, got {_check.names((source.dtype,))}: "
        "convert one of them"
    )


def pair(op: str, x: Any, index: Any, name: str, source: Any, dtypes: Sequence[torch.dtype]) -> tuple[Tensor, Tensor]:
    """Check three tensors, but for their shapes; returns input and source, of one dtype."""
    _check.tensor(op, "input", x)
    _check.tensor(op, "index", index)
    _check.tensor(op, name, source)
    numbers(op, "input", x)
    dtype(op, "index", index, dtypes)
    if x.dtype != source.dtype:
        x, source = one_dtype(op, x, name, source)
    device = x.device
    if device != index.device or device != source.device:
        _check.beside(op, "index", index, x)
        _check.beside(op, name, source, x)
    return x, source


def vector(op: str, index: Tensor) -> None:
    """Refuse an index of more than one dimension."""
    if index.dim() > 1:
        raise ArgumentIndexError(
            f"{op}: index: expected one dimension, got {index.dim()}, {tuple(index.shape)}: pass .flatten()"
        )


def slices(
    op: str, x: Tensor, dim: int, n: int, name: str, source: Tensor, error: type[Exception] = ArgumentRuntimeError
) -> None:
    """Refuse a source that is not `n` slices of the input along `dim`."""
    ours, theirs = x.shape, source.shape
    if len(ours) != len(theirs):
        raise error(
            f"{op}: {name}: expected {len(ours)} dimensions as input {tuple(ours)} has, got {len(theirs)}, "
            f"{tuple(theirs)}"
        )
    if theirs[dim] != n:
        raise error(
            f"{op}: {name}: expected size {n} along dim {dim}, one slice for each index, got {theirs[dim]}, "
            f"{tuple(theirs)}"
        )
    if ours[:dim] != theirs[:dim] or ours[dim + 1 :] != theirs[dim + 1 :]:
        expected = (*ours[:dim], n, *ours[dim + 1 :])
        raise ArgumentRuntimeError(
            f"{op}: {name}: expected shape {expected} (input's, but {n} along dim {dim}), got {tuple(theirs)}"
        )


def same_rank(op: str, x: Tensor, index: Tensor, dim: int, name: str = "", source: Tensor | None = None) -> None:
    """Refuse an index of other dimensions than the input, or with a size above the input's or the source's."""
    ours, at = x.shape, index.shape
    if len(ours) != len(at):
        raise ArgumentRuntimeError(
            f"{op}: index: expected {len(ours)} dimensions as input {tuple(ours)} has, got {len(at)}, {tuple(at)}: "
            "an index of rows is .unsqueeze(..).expand_as(..) of the other tensor, or use index_add and index_select"
        )
    theirs = ours if source is None else source.shape
    if len(theirs) != len(at):
        raise ArgumentRuntimeError(
            f"{op}: {name}: expected {len(at)} dimensions as index {tuple(at)} has, got {len(theirs)}, {tuple(theirs)}"
        )
    if at == theirs == ours:
        return
    for d, n in enumerate(at):
        if d != dim and n > ours[d]:
            raise ArgumentRuntimeError(
                f"{op}: index: expected no size above those of input {tuple(ours)} but along dim {dim}, got {tuple(at)}"
            )
        if source is not None and n > theirs[d]:
            raise ArgumentRuntimeError(
                f"{op}: index: expected no size above those of {name} {tuple(theirs)}, got {tuple(at)}"
            )


def advanced(op: str, x: Tensor, indices: Any) -> list[Tensor | None]:
    """The indices of index and index_put, on the device of the input."""
    if not isinstance(indices, (tuple, list)):
        raise ArgumentTypeError(
            f"{op}: indices: expected a tuple of tensors, got {type(indices).__name__}: write (index,) for one"
        )
    taken = 0
    found: list[Tensor | None] = []
    for at, index in enumerate(indices):
        name = f"indices[{at}]"
        if index is None:
            taken += 1
        else:
            _check.tensor(op, name, index)
            dtype(op, name, index, BOTH + _MASKS, ArgumentIndexError)
            taken += _mask(op, name, x, index, taken) if index.dtype in _MASKS else 1
            if index.device != x.device and index.device.type == "cpu":
                index = index.to(x.device)
            _check.beside(op, name, index, x)
        found.append(index)
    if taken > x.dim():
        raise ArgumentIndexError(
            f"{op}: indices: expected at most {x.dim()} for input {tuple(x.shape)}, got {len(found)} that take {taken}"
        )
    if all(index is None for index in found):
        raise ArgumentRuntimeError(f"{op}: indices: expected at least one tensor, got {tuple(indices)}")
    return found


def _mask(op: str, name: str, x: Tensor, mask: Tensor, at: int) -> int:
    shape = tuple(x.shape[at : at + mask.dim()])
    if tuple(mask.shape) != shape:
        raise ArgumentIndexError(
            f"{op}: {name}: expected a mask of shape {shape}, that of input {tuple(x.shape)} from dimension {at}, "
            f"got {tuple(mask.shape)}"
        )
    return mask.dim()


def along(x: Tensor, dim: int, index: Tensor, name: str = "input") -> list[Where]:
    """The range of an index along a dimension of a tensor."""
    size = x.shape[dim]
    return [Where(index, size, f"{name} {tuple(x.shape)} has size {size} along dim {dim}")]


def flat(x: Tensor, index: Tensor) -> list[Where]:
    """The range of an index into all elements."""
    size = x.numel()
    return [Where(index, size, f"input {tuple(x.shape)} has {size} elements", negative=True)]


def each(x: Tensor, indices: Sequence[Tensor | None]) -> list[Where]:
    """The ranges of the tensors of an advanced index."""
    found: list[Where] = []
    dim = 0
    for at, index in enumerate(indices):
        if index is not None and index.dtype not in _MASKS:
            found += [replace(one, negative=True, name=f"indices[{at}]") for one in along(x, dim, index)]
        dim += index.dim() if index is not None and index.dtype in _MASKS else 1
    return found


def shown(values: Tensor, most: int = 6) -> str:
    """The first numbers of a vector, for a text."""
    first = ", ".join(f"{value:g}" for value in values[:most].tolist())
    return f"[{first}{', ...' if values.shape[0] > most else ''}]"


def dense(op: str, name: str, value: Any) -> None:
    """Refuse sparse gradients."""
    _check.boolean(op, name, value)
    if value:
        raise UnsupportedError(f"{op}: {name}: expected False, got True: the gradient is a dense tensor here")


def plan(op: str, x: Tensor, dim: int, found: Sequence[Tensor], name: str = "input", index_name: str = "index") -> None:
    """Refuse a plan, if there is one, that was made for another size than that of a tensor along `dim`."""
    if found and found[1].shape[0] != x.shape[dim] + 1:
        raise ArgumentRuntimeError(
            f"{op}: {index_name}: expected a plan for {x.shape[dim]} destinations, the size of {name} {tuple(x.shape)} "
            f"along dim {dim}, got one for {found[1].shape[0] - 1}: build it with index_plan(index, {x.shape[dim]})"
        )


def checked(op: str, wheres: Callable[[], Sequence[Where]], validate: Any, call: Callable[..., Any], *args: Any) -> Any:
    """Call an op; where it refuses an index, say which, where and why.

    Args:
        op: the public name.
        wheres: gives the indices and their ranges.
        validate: what the caller asked for: look at indices that are not on the CPU, too, which waits for the device.
    """
    if torch.compiler.is_compiling():
        return call(*args)
    if validate is not False:
        _check.boolean(op, "validate", validate)
        for where in wheres():
            if where.index.device.type != "cpu":
                _say(op, where)
    try:
        return call(*args)
    except (IndexError, RuntimeError) as error:
        for where in wheres():
            if where.index.device.type == "cpu":
                _say(op, where)
        name, _, rest = str(error).partition(": ")
        if type(error) is RuntimeError and name in (op, getattr(getattr(call, "__self__", None), "name", op)):
            raise ArgumentRuntimeError(f"{op}: " + rest.partition("\n")[0]) from None
        raise


def _say(op: str, where: Where) -> None:
    """Raise for the first number that is out of range; on CUDA this waits for the device."""
    index, size, negative = where.index, where.size, where.negative
    if index.dtype in _MASKS or index.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(index):
        return
    values = index.reshape(-1)
    low = -size if negative else 0
    wrong = ((values < low) | (values >= size)).nonzero()
    if not wrong.numel():
        return
    position = int(wrong[0])
    place = f"position {position}"
    if index.dim() > 1:
        rest, coordinates = position, [0] * 0
        for n in reversed(index.shape):
            rest, at = divmod(rest, n)
            coordinates.insert(0, at)
        place += f", which is {tuple(coordinates)}"
    expected = f"{low} to {size - 1}" if size else "no index"
    raise ArgumentIndexError(
        f"{op}: {where.name}: expected {expected}, got {int(values[position])} at {place}: {where.of}"
    ) from None
