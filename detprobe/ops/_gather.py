"""index_select, gather, take and the advanced index: copies, whose gradients are sums in a written order (DSEG-1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import differentiate, fake, loop_over_batch, zeros
from detprobe.ops._batches import elements_over_batch, slices_over_batch
from detprobe.ops._native import OPS
from detprobe.ops._plan import IndexPlan, of_index

__all__ = ["gather", "index", "index_select", "take"]


def _input(op: str, x: Any, index: Any, dtypes: Sequence[torch.dtype]) -> None:
    _check.tensor(op, "input", x)
    _check.tensor(op, "index", index)
    _check_index.numbers(op, "input", x)
    _check_index.dtype(op, "index", index, dtypes)
    _check.beside(op, "index", index, x)


def index_select(input: Tensor, dim: int, index: Tensor | IndexPlan, *, validate: bool = False) -> Tensor:
    """torch.index_select; its gradient is an index_add in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.index_select(torch.tensor([1.0, 2.0]), 0, torch.tensor([1, 1, 0]))
        tensor([2., 2., 1.])

    Args:
        input: `[..., size, ...]` of float16, bfloat16, float32, float64, or of integers or bool.
        dim: the dimension that is indexed.
        index: `[n]` int32 or int64, or a plan of it.
        validate: on CUDA, look at the index before the call, and wait for the device; on the CPU that is always done.

    Returns:
        `[..., n, ...]`

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, index_select.
    """
    return _index_select("index_select", input, dim, index, validate)


def _index_select(op: str, input: Tensor, dim: int, index: Any, validate: bool) -> Tensor:
    at_index, plan = of_index(index)
    _input(op, input, at_index, _check_index.BOTH)
    at = _check.one_dim(op, dim, input.dim())
    _check_index.vector(op, at_index)
    x = input if input.dim() else input.unsqueeze(0)
    _check_index.plan(op, x, at, plan)
    arguments = (x, at, at_index, plan)
    wheres = lambda: _check_index.along(x, at, at_index)  # noqa: E731
    result: Tensor = _check_index.checked(op, wheres, validate, OPS.index_select.default, *arguments)
    return result if input.dim() or result.numel() != 1 else result.squeeze(0)


@fake("index_select")
def _(x: Tensor, dim: int, index: Tensor, plan: Sequence[Tensor]) -> Tensor:
    return torch.index_select(x, dim, index)


def _along_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, index, plan = inputs
    ctx.shape = x.shape
    ctx.save_for_backward(index, *plan)


def _index_select_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    index, *plan = ctx.saved_tensors
    return OPS.index_add.default(zeros(g, ctx.shape), ctx.dim, index, g, 1, plan), None, None, None


differentiate("index_select", _along_setup, _index_select_backward)
slices_over_batch("index_select")


def gather(
    input: Tensor, dim: int, index: Tensor | IndexPlan, *, sparse_grad: bool = False, validate: bool = False
) -> Tensor:
    """torch.gather; its gradient is a scatter_add in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.gather(torch.tensor([[1.0, 2.0]]), 1, torch.tensor([[1, 1, 0]]))
        tensor([[2., 2., 1.]])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool.
        dim: the dimension that is indexed.
        index: int32 or int64, of the input's rank; but along `dim` no size above the input's. Or a plan of `[n]`, for
            whole slices, as for index_select.
        sparse_grad: only False: the gradient is a dense tensor.
        validate: as for index_select.

    Returns:
        Of the shape of the index.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input; sparse_grad.

    Source: csrc/README.md, gather.
    """
    if sparse_grad is not False:
        _check_index.dense("gather", "sparse_grad", sparse_grad)
    if isinstance(index, IndexPlan):
        return _index_select("gather", input, dim, index, validate)
    _input("gather", input, index, _check_index.BOTH)
    at = _check.one_dim("gather", dim, input.dim())
    x, places = (one if one.dim() else one.unsqueeze(0) for one in (input, index))
    if index.numel():
        _check_index.same_rank("gather", x, places, at)
    wheres = lambda: _check_index.along(x, at, index)  # noqa: E731
    result: Tensor = _check_index.checked("gather", wheres, validate, OPS.gather.default, x, at, places, [])
    return result if index.dim() else result.squeeze(0)


@fake("gather")
def _(x: Tensor, dim: int, index: Tensor, plan: Sequence[Tensor]) -> Tensor:
    return torch.gather(x, dim, index)


def _gather_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    index, *plan = ctx.saved_tensors
    return OPS.scatter_reduce.default(zeros(g, ctx.shape), ctx.dim, index, g, "sum", True, plan), None, None, None


differentiate("gather", _along_setup, _gather_backward)
elements_over_batch("gather")


def take(input: Tensor, index: Tensor, *, validate: bool = False) -> Tensor:
    """torch.take; its gradient is a put in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.take(torch.tensor([[1.0, 2.0]]), torch.tensor([1, -1, 0]))
        tensor([2., 2., 1.])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool, read as if it were flat.
        index: `[...]` int64, from -numel to numel - 1.
        validate: as for index_select.

    Returns:
        Of the shape of the index.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, take.
    """
    _input("take", input, index, _check_index.LONG)
    wheres = lambda: _check_index.flat(input, index)  # noqa: E731
    result: Tensor = _check_index.checked("take", wheres, validate, OPS.take.default, input, index)
    return result


@fake("take")
def _(x: Tensor, index: Tensor) -> Tensor:
    return x.new_empty(index.shape)


def _take_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, index = inputs
    ctx.shape = x.shape
    ctx.save_for_backward(index)


def _take_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
    (index,) = ctx.saved_tensors
    return OPS.put.default(zeros(g, ctx.shape), index, g, True), None


differentiate("take", _take_setup, _take_backward)
loop_over_batch("take")


def index(input: Tensor, indices: Sequence[Tensor | None], *, validate: bool = False) -> Tensor:
    """input[indices]; its gradient is an index_put in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.index(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (None, torch.tensor([1, -1])))
        tensor([[2., 2.],
                [4., 4.]])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool.
        indices: for each dimension of the input a tensor of int32 or int64, from -size to size - 1, or None for the
            whole dimension, which is `:` in brackets. A mask of bool or uint8 takes as many dimensions as it has. The
            tensors broadcast with each other.
        validate: as for index_select.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, advanced index.
    """
    _check.tensor("index", "input", input)
    _check_index.numbers("index", "input", input)
    found = _check_index.advanced("index", input, indices)
    wheres = lambda: _check_index.each(input, found)  # noqa: E731
    result: Tensor = _check_index.checked("index", wheres, validate, OPS.index.default, input, found)
    return result


@fake("index")
def _(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return torch.ops.aten.index.Tensor(x, _of_one_shape(list(indices)))  # type: ignore[no-any-return]


def _of_one_shape(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Numbers broadcast: tensors without data lose a dimension where one of them has none."""
    numbers = [one for one in indices if one is not None and one.dtype not in (torch.bool, torch.uint8)]
    if len(numbers) < 2 or len(numbers) < sum(one is not None for one in indices):
        return indices
    expanded = iter(torch.broadcast_tensors(*numbers))
    return [None if one is None else next(expanded) for one in indices]


def _index_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, indices = inputs
    ctx.shape, ctx.whole = x.shape, [one is None for one in indices]
    ctx.save_for_backward(*(one for one in indices if one is not None))


def _index_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
    tensors = iter(ctx.saved_tensors)
    indices = [None if whole else next(tensors) for whole in ctx.whole]
    return OPS.index_put.default(zeros(g, ctx.shape), indices, g, True), None


differentiate("index", _index_setup, _index_backward)
loop_over_batch("index")
