"""embedding: a copy of rows, whose gradient is summed in one written order. Order: DSEG-1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentTypeError, UnsupportedError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import acc, batched, differentiate, fake, loop, loop_over_batch, rounded, wide, zeros
from detprobe.ops._native import OPS
from detprobe.ops._plan import IndexPlan, of_index

__all__ = ["embedding", "padding", "table"]


def embedding(
    input: Tensor | IndexPlan,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    validate: bool = False,
) -> Tensor:
    """torch.nn.functional.embedding; its gradient is summed in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.embedding(torch.tensor([1, 1]), torch.tensor([[1.0], [2.0]]))
        tensor([[2.],
                [2.]])

    Args:
        input: `[...]` int32 or int64, or a plan of it.
        weight: `[rows, D]` of float16, bfloat16, float32 or float64.
        padding_idx: a row that is read as any other and has no gradient.
        max_norm: only None: the norms of rows would be changed on the way.
        norm_type: what goes with max_norm.
        scale_grad_by_freq: divide the gradient of each row by how often it is used.
        sparse: only False: the gradient is a dense tensor.
        validate: on CUDA, look at the input before the call, and wait for the device; on the CPU that is always done.

    Returns:
        `[..., D]` of the dtype of weight.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: max_norm, sparse; a weight of integers; a complex, sparse or nested one.

    Source: csrc/README.md, embedding.
    """
    op = "embedding"
    index, plan = of_index(input)
    _check.tensor(op, "input", index)
    table(op, weight, max_norm, sparse)
    _check_index.dtype(op, "input", index, _check_index.BOTH)
    _check.beside(op, "input", index, weight, "weight")
    _check.boolean(op, "scale_grad_by_freq", scale_grad_by_freq)
    _check_index.plan(op, weight, 0, plan, "weight", "input")
    row = -1 if padding_idx is None else padding(op, padding_idx, weight.shape[0])
    arguments = (weight, index, row, scale_grad_by_freq, plan)
    wheres = lambda: rows(weight, index)  # noqa: E731
    result: Tensor = _check_index.checked(op, wheres, validate, OPS.embedding.default, *arguments)
    return result


def table(op: str, weight: Any, max_norm: Any, sparse: Any) -> None:
    """Check a weight, and what would change it on the way or make its gradient another one."""
    _check.tensor(op, "weight", weight)
    if weight.dim() != 2:
        raise ArgumentRuntimeError(f"{op}: weight: expected shape [rows, D], got {tuple(weight.shape)}")
    _check.is_floating(op, "weight", weight)
    if max_norm is not None:
        raise UnsupportedError(
            f"{op}: max_norm: expected None, got {max_norm}: it writes into weight in the forward; "
            "bound the norms after the optimizer's step, with torch.renorm"
        )
    if sparse is not False:
        _check_index.dense(op, "sparse", sparse)


def padding(op: str, padding_idx: Any, count: int) -> int:
    """A row, counted from the front."""
    if isinstance(padding_idx, bool) or not isinstance(padding_idx, (int, torch.SymInt)):
        raise ArgumentTypeError(f"{op}: padding_idx: expected an int or None, got {padding_idx!r}")
    if not -count <= padding_idx < count:
        raise ArgumentRuntimeError(
            f"{op}: padding_idx: expected {-count} to {count - 1} for a weight of {count} rows, got {padding_idx}"
        )
    return int(padding_idx) if padding_idx >= 0 else int(padding_idx) + count


def rows(weight: Tensor, index: Tensor) -> list[_check_index.Where]:
    """The range of an index into the rows of a weight."""
    return [replace(one, name="input") for one in _check_index.along(weight, 0, index, "weight")]


@fake("embedding")
def _(weight: Tensor, index: Tensor, padding_idx: int, scale_grad_by_freq: bool, plan: Sequence[Tensor]) -> Tensor:
    return weight.new_empty([*index.shape, weight.shape[1]])


@fake("embedding_backward")
def _(
    g: Tensor, index: Tensor, rows: int, padding_idx: int, scale_grad_by_freq: bool, plan: Sequence[Tensor]
) -> Tensor:
    return g.new_empty([rows, g.shape[-1]])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, index, ctx.padding, ctx.scale, plan = inputs
    ctx.rows = weight.shape[0]
    ctx.save_for_backward(index, *plan)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    index, *plan = ctx.saved_tensors
    of_weight = OPS.embedding_backward.default(g, index, ctx.rows, ctx.padding, ctx.scale, plan)
    return of_weight, None, None, None, None


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, index, _, ctx.padding, ctx.scale, plan = inputs
    ctx.save_for_backward(index, *plan)


def _backward_backward(ctx: Any, gg: Tensor) -> tuple[Tensor | None, ...]:
    index, *plan = ctx.saved_tensors
    if ctx.scale:
        ones = index.new_ones([], dtype=torch.int64).expand(index.numel())
        counts = OPS.index_add.default(zeros(ones, gg.shape[:1]), 0, index.reshape(-1), ones, 1, plan)
        gg = rounded(wide(gg) / counts.clamp(min=1).to(acc(gg.dtype)).unsqueeze(1), gg.dtype)
    of_g = OPS.embedding.default(gg, index, -1, False, plan)
    if ctx.padding >= 0:
        of_g = of_g.masked_fill((index == ctx.padding).unsqueeze(-1), 0.0)
    return of_g, None, None, None, None, None


differentiate("embedding", _setup, _backward)
differentiate("embedding_backward", _backward_setup, _backward_backward)
loop_over_batch("embedding_backward")


def _batched() -> Any:
    one_by_one = loop("embedding")

    def rule(info: Any, in_dims: tuple[Any, ...], weight: Tensor, index: Tensor, *rest: Any) -> tuple[Tensor, int]:
        if in_dims[0] is not None or rest[-1]:  # a plan
            return one_by_one(info, in_dims, weight, index, *rest)  # type: ignore[no-any-return]
        return OPS.embedding.default(weight, index.movedim(in_dims[1], 0), *rest), 0

    return rule


batched("embedding", _batched())
