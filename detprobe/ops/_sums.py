"""Sums, means, inner products and prefix sums. Orders: csrc/README.md, DSUM-1, EXACT-1 and DSCAN-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError
from detprobe.ops import _check
from detprobe.ops._autograd import as_dtype, count, differentiate, fake, kept, reduced_shape, shift_dims, spread
from detprobe.ops._native import CALLS, OPS, tracing

__all__ = ["cumsum", "dot", "exact_sum", "mean", "sum"]

_SUMMED = _check.FLOATS + _check.INTEGERS + (torch.uint16, torch.uint32, torch.uint64)
_RESULTS = _check.FLOATS + _check.INTEGERS[:-1]  # torch sums into bool as well, which is no sum


def sum(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """torch.sum in one written order (DSUM-1).

    Example:
        >>> detprobe.ops.sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1)
        tensor([3., 7.])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool, which are summed as int64.
        dim: the dimensions to sum over; None or an empty tuple: all of them.
        keepdim: keep them, with size 1.
        dtype: what the input is converted to before it is summed.

    Raises:
        ArgumentTypeError, ArgumentIndexError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, sum.
    """
    if not tracing() and (result := CALLS.sum(input, dim, keepdim, dtype)) is not None:
        return result  # type: ignore[no-any-return]
    return OPS.sum.default(input, *_sum_arguments("sum", input, dim, keepdim, dtype))


def exact_sum(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """The sum as a real number, rounded once: no order of the elements can change it (EXACT-1).

    Arguments, result and errors are those of `sum`.

    Example:
        >>> detprobe.ops.exact_sum(torch.tensor([1e30, 1.0, -1e30]))
        tensor(1.)

    Source: csrc/README.md, exact_sum.
    """
    if not tracing() and (result := CALLS.exact_sum(input, dim, keepdim, dtype)) is not None:
        return result  # type: ignore[no-any-return]
    arguments = _sum_arguments("exact_sum", input, dim, keepdim, dtype)
    return OPS.exact_sum.default(input, *arguments)


def _sum_arguments(op: str, input: Any, dim: Any, keepdim: Any, dtype: Any) -> tuple[Any, ...]:
    _check.tensor(op, "input", input)
    _check.dtype_in(op, "input", input.dtype, _SUMMED)
    _check.boolean(op, "keepdim", keepdim)
    _check.result_dtype(op, dtype, _RESULTS)
    return _check.sorted_dims(op, dim, input.dim()), keepdim, dtype


def _summed_dtype(x: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)


@fake("sum")
def _(x: Tensor, dim: Sequence[int] | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim), dtype=_summed_dtype(x, dtype))


@fake("exact_sum")
def _(x: Tensor, dim: Sequence[int] | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim), dtype=_summed_dtype(x, dtype))


def _reduce_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, ctx.keepdim, _ = inputs
    ctx.shape, ctx.dtype, ctx.count = x.shape, x.dtype, count(x, ctx.dim)


def _sum_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    g = kept(g, len(ctx.shape), ctx.dim, ctx.keepdim).to(ctx.dtype)
    return spread(g, ctx.shape), None, None, None


for _name in ("sum", "exact_sum"):
    differentiate(_name, _reduce_setup, _sum_backward)
    shift_dims(_name, tensors=1, dim_at=1)


def mean(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """torch.mean in one written order: the sum of DSUM-1, divided once.

    Example:
        >>> detprobe.ops.mean(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0, keepdim=True)
        tensor([[2., 3.]])

    Args:
        input: `[...]` of float16, bfloat16, float32 or float64; of integers with a floating `dtype`.
        dim: the dimensions to average over; None or an empty tuple: all of them.
        keepdim: keep them, with size 1.
        dtype: what the input is converted to before it is summed.

    Raises:
        ArgumentTypeError, ArgumentIndexError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, mean.
    """
    if not tracing() and (result := CALLS.mean(input, dim, keepdim, dtype)) is not None:
        return result  # type: ignore[no-any-return]
    _check.tensor("mean", "input", input)
    _check.boolean("mean", "keepdim", keepdim)
    if dtype is None:
        _check.is_floating("mean", "input", input, ArgumentRuntimeError)
    else:
        _check.dtype_in("mean", "input", input.dtype, _SUMMED)
        complex_ = isinstance(dtype, torch.dtype) and dtype.is_complex
        if complex_:
            _check.result_dtype("mean", dtype, _check.FLOATS)
        _check.result_dtype("mean", dtype, _check.FLOATS, ArgumentRuntimeError)
    dims = _check.sorted_dims("mean", dim, input.dim())
    return OPS.mean.default(input, dims, keepdim, dtype)


@fake("mean")
def _(x: Tensor, dim: Sequence[int] | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim), dtype=dtype or x.dtype)


def _mean_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    g = OPS.divide.default(kept(g, len(ctx.shape), ctx.dim, ctx.keepdim), ctx.count).to(ctx.dtype)
    return spread(g, ctx.shape), None, None, None


differentiate("mean", _reduce_setup, _mean_backward)
shift_dims("mean", tensors=1, dim_at=1)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """torch.dot in one written order: DSUM-1 with fused multiply-adds in its leaves.

    Example:
        >>> detprobe.ops.dot(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
        tensor(11.)

    Args:
        input, tensor: `[n]`, of one dtype: float16, bfloat16, float32, float64, or an integer, which wraps.

    Raises:
        ArgumentTypeError: not two tensors.
        ArgumentRuntimeError: not two vectors of one length, dtype and device.
        UnsupportedError: bool, complex, float8, sparse or nested vectors.

    Source: csrc/README.md, dot.
    """
    if not tracing() and (result := CALLS.dot(input, tensor)) is not None:
        return result  # type: ignore[no-any-return]
    for name, value in (("input", input), ("tensor", tensor)):
        _check.tensor("dot", name, value)
        if value.dim() != 1:
            raise ArgumentRuntimeError(
                f"dot: {name}: expected a vector [n], got {value.dim()} dimensions, {tuple(value.shape)}: "
                "pass .flatten(), or use torch.matmul for matrices"
            )
        _check.dtype_in("dot", name, value.dtype, _RESULTS)
    _check.beside("dot", "tensor", tensor, input)
    if input.dtype != tensor.dtype:
        raise ArgumentRuntimeError(f"dot: expected two vectors of one dtype, got {input.dtype} and {tensor.dtype}")
    _check.shape_of("dot", "tensor", tensor, input.shape, "the shape of input")
    return OPS.dot.default(input, tensor, None, False)


@fake("dot")
def _(a: Tensor, b: Tensor, dim: Sequence[int] | None, keepdim: bool) -> Tensor:
    return a.new_empty(reduced_shape(a, dim, keepdim))


def _dot_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, ctx.dim, ctx.keepdim = inputs
    ctx.save_for_backward(a, b)


def _dot_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    a, b = ctx.saved_tensors
    g = kept(g, a.dim(), ctx.dim, ctx.keepdim)
    of_a, of_b = (
        OPS.multiply.default(other, g) if wanted else None
        for other, wanted in zip((b, a), ctx.needs_input_grad, strict=False)
    )
    return of_a, of_b, None, None


differentiate("dot", _dot_setup, _dot_backward)
shift_dims("dot", tensors=2, dim_at=2)


def cumsum(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """torch.cumsum in one written order (DSCAN-1).

    Example:
        >>> detprobe.ops.cumsum(torch.tensor([1.0, 2.0, 3.0]), dim=0)
        tensor([1., 3., 6.])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool, which are summed as int64.
        dim: the dimension to walk along.
        dtype: what the input is converted to before it is summed.

    Raises:
        ArgumentTypeError, ArgumentIndexError: where torch raises TypeError and IndexError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, cumsum.
    """
    if dtype is None and not tracing() and (result := CALLS.cumsum(input, dim)) is not None:
        return result  # type: ignore[no-any-return]
    _check.tensor("cumsum", "input", input)
    _check.dtype_in("cumsum", "input", input.dtype, _SUMMED)
    _check.result_dtype("cumsum", dtype, _RESULTS)
    at = _check.one_dim("cumsum", dim, input.dim())
    return OPS.cumsum.default(input, at, False, dtype)


@fake("cumsum")
def _(x: Tensor, dim: int, reverse: bool, dtype: torch.dtype | None) -> Tensor:
    return torch.empty_like(as_dtype(x, _summed_dtype(x, dtype)))


def _cumsum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, ctx.reverse, _ = inputs
    ctx.dtype = x.dtype


def _cumsum_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    return OPS.cumsum.default(g, ctx.dim, not ctx.reverse, None).to(ctx.dtype), None, None, None


differentiate("cumsum", _cumsum_setup, _cumsum_backward)
shift_dims("cumsum", tensors=1, dim_at=1)
