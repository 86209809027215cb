"""torch.vmap of the scatter family: the batch is one more dimension that an index does not speak of."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from detprobe.ops._autograd import batched, loop, to_front
from detprobe.ops._native import OPS

__all__ = ["elements_over_batch", "slices_over_batch"]

# Where the ops of this family that have a dimension take it and the index.
_DIM, _INDEX = 1, 2


def _is_batched(at: Any) -> bool:
    return any(_is_batched(one) for one in at) if isinstance(at, (list, tuple)) else at is not None


def _rule(name: str, tensors: tuple[int, ...]) -> None:
    """One call on all samples, with the batch in front of those at `tensors`; a loop where the rest is batched."""
    op, one_by_one = getattr(OPS, name).default, loop(name)

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        values = list(args)
        alone = any(_is_batched(at) for k, at in enumerate(in_dims) if k not in tensors)
        ndim = values[0].dim() - (in_dims[0] is not None)
        if alone or ndim == 0:
            return one_by_one(info, in_dims, *args)  # type: ignore[no-any-return]
        for k in tensors:
            values[k] = to_front(values[k], in_dims[k], info.batch_size)
        values[_DIM] = values[_DIM] % ndim + 1
        return op(*values), 0

    batched(name, rule)


def slices_over_batch(name: str, *others: int) -> None:
    """vmap of an op on slices along a dimension: of the input and of what stands at `others`."""
    _rule(name, (0, *others))


def elements_over_batch(name: str, *others: int) -> None:
    """vmap of an op whose index has the dimensions of the input: the batch is one of them."""
    _rule(name, (0, _INDEX, *others))
