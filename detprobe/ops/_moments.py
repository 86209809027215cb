"""Variance, standard deviation, vector norms and logsumexp. Orders: csrc/README.md, "The ops"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentTypeError, UnsupportedError
from detprobe.ops import _check
from detprobe.ops._autograd import (
    count,
    differentiate,
    fake,
    formula_gradient,
    kept,
    like,
    mean_of,
    reduced_dims,
    reduced_shape,
    shift_dims,
    spread,
    total_of,
    wide,
)
from detprobe.ops._native import CALLS, OPS, tracing

__all__ = ["logsumexp", "std", "var", "vector_norm"]

_ORDERS = (0.0, 1.0, 2.0, math.inf, -math.inf)
_NARROWER = {
    torch.float64: (torch.float64,),
    torch.float32: (torch.float32, torch.float64),
    torch.float16: (torch.float16, torch.float32, torch.float64),
    torch.bfloat16: (torch.bfloat16, torch.float32, torch.float64),
}


def var(
    input: Tensor,
    dim: int | Sequence[int] | bool | None = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """torch.var in one written order: the mean, then the squares of the differences from it.

    Example:
        >>> detprobe.ops.var(torch.tensor([1.0, 2.0, 3.0]))
        tensor(1.)

    Args:
        input: `[...]` of float16, bfloat16, float32 or float64.
        dim: the dimensions of a row; None or an empty tuple: all. torch's old `var(input, unbiased)` works too.
        unbiased: True for a correction of 1, False for 0. None: see `correction`.
        keepdim: keep the dimensions, with size 1.
        correction: what is subtracted from the number of elements; 1 if nothing is said.

    Raises:
        ArgumentTypeError, ArgumentIndexError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: a complex, sparse or nested input.

    Source: csrc/README.md, var.
    """
    return OPS.var.default(input, *_var_arguments("var", input, dim, unbiased, keepdim, correction))


def std(
    input: Tensor,
    dim: int | Sequence[int] | bool | None = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """torch.std in one written order: the square root of `var`. Arguments and errors are those of `var`.

    Source: csrc/README.md, std.
    """
    return OPS.std.default(input, *_var_arguments("std", input, dim, unbiased, keepdim, correction))


def _var_arguments(op: str, input: Any, dim: Any, unbiased: Any, keepdim: Any, correction: Any) -> tuple[Any, ...]:
    _check.tensor(op, "input", input)
    if isinstance(dim, bool) and unbiased is None:
        dim, unbiased = None, dim
    if unbiased is not None:
        _check.boolean(op, "unbiased", unbiased)
        if correction is not None:
            raise ArgumentTypeError(f"{op}: expected unbiased or correction, got both: {unbiased} and {correction!r}")
        correction = int(unbiased)
    if correction is None:
        correction = 1
    _check.real(op, "correction", correction)
    _check.boolean(op, "keepdim", keepdim)
    if not input.dtype.is_complex:  # float8 is a RuntimeError of torch here
        _check.dtype_in(op, "input", input.dtype, _check.FLOATS, ArgumentRuntimeError)
    _check.is_floating(op, "input", input)
    return _check.sorted_dims(op, dim, input.dim()), keepdim, float(correction)


@fake("var")
def _(x: Tensor, dim: Sequence[int] | None, keepdim: bool, correction: float) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim))


@fake("std")
def _(x: Tensor, dim: Sequence[int] | None, keepdim: bool, correction: float) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim))


@fake("var_backward")
def _(g: Tensor, x: Tensor, dim: Sequence[int] | None, correction: float) -> Tensor:
    return like(x)


@fake("std_backward")
def _(g: Tensor, x: Tensor, std: Tensor, dim: Sequence[int] | None, correction: float) -> Tensor:
    return like(x)


def _var_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, ctx.keepdim, ctx.correction = inputs
    ctx.save_for_backward(x, output)


def _var_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    x, _ = ctx.saved_tensors
    g = kept(g, x.dim(), ctx.dim, ctx.keepdim)
    return OPS.var_backward.default(g, x, ctx.dim, ctx.correction), None, None, None


def _std_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    x, y = ctx.saved_tensors
    g, y = (kept(t, x.dim(), ctx.dim, ctx.keepdim) for t in (g, y))
    return OPS.std_backward.default(g, x, y, ctx.dim, ctx.correction), None, None, None


def _var_formula(g: Tensor, x: Tensor, dim: Sequence[int] | None, correction: float) -> Tensor:
    x_wide = wide(x)
    freedom = max(0.0, count(x, dim) - correction)
    scale = 2.0 / freedom if freedom else math.inf
    return (spread(wide(g) * scale, x.shape) * (x_wide - mean_of(x_wide, dim))).to(x.dtype)


def _std_formula(g: Tensor, x: Tensor, std: Tensor, dim: Sequence[int] | None, correction: float) -> Tensor:
    flat = std == 0
    slope = wide(g) / (2 * wide(std).masked_fill(flat, 1.0))
    return _var_formula(slope.masked_fill(flat, 0.0), x, dim, correction)


differentiate("var", _var_setup, _var_backward)
differentiate("std", _var_setup, _std_backward)
formula_gradient("var_backward", _var_formula)
formula_gradient("std_backward", _std_formula)
shift_dims("var", tensors=1, dim_at=1)
shift_dims("std", tensors=1, dim_at=1)
shift_dims("var_backward", tensors=2, dim_at=2)
shift_dims("std_backward", tensors=3, dim_at=3)


def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """torch.linalg.vector_norm of order 0, 1, 2, inf or -inf in one written order.

    Example:
        >>> detprobe.ops.vector_norm(torch.tensor([3.0, 4.0]))
        tensor(5.)

    Args:
        x: `[...]` of float16, bfloat16, float32 or float64.
        ord: 0 (how many are not zero), 1, 2, inf or -inf.
        dim: the dimensions of a row; None or an empty tuple: all of them.
        keepdim: keep them, with size 1.
        dtype: what the input is converted to first; not a narrower one.

    Raises:
        ArgumentTypeError, ArgumentIndexError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: another order; a complex, float8, sparse or nested input.

    Source: csrc/README.md, vector_norm.
    """
    if not tracing() and (result := CALLS.vector_norm(x, ord, dim, keepdim, dtype)) is not None:
        return result  # type: ignore[no-any-return]
    op = "vector_norm"
    _check.tensor(op, "x", x)
    if isinstance(ord, complex):
        raise ArgumentRuntimeError(f"{op}: ord: expected a real number, got {ord!r}")
    _check.real(op, "ord", ord)
    _check.boolean(op, "keepdim", keepdim)
    _check.is_floating(op, "x", x, ArgumentRuntimeError)
    if float(ord) not in _ORDERS:
        raise UnsupportedError(
            f"{op}: ord: expected 0, 1, 2, inf or -inf, got {ord!r}: no order is written for others; "
            "torch.linalg.vector_norm has them"
        )
    if dtype is not None:
        _check.result_dtype(op, dtype, _NARROWER[x.dtype], ArgumentRuntimeError)
    dims = _check.sorted_dims(op, dim, x.dim())
    if math.isinf(ord):
        empty = next((at for at in reduced_dims(x.dim(), dims) if x.shape[at] == 0), None)
        if empty is not None and (dims is not None or x.numel() == 0):
            raise ArgumentRuntimeError(
                f"{op}: ord {float(ord)} has no value for an empty row: dimension {empty} of {tuple(x.shape)} is empty"
            )
    return OPS.vector_norm.default(x, float(ord), dims, keepdim, dtype)


@fake("vector_norm")
def _(x: Tensor, ord: float, dim: Sequence[int] | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim), dtype=dtype or x.dtype)


@fake("vector_norm_backward")
def _(g: Tensor, x: Tensor, y: Tensor, ord: float, dim: Sequence[int] | None) -> Tensor:
    return torch.empty_like(x) if ord == 0 else like(x)


def _vector_norm_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.ord, ctx.dim, ctx.keepdim, _ = inputs
    ctx.save_for_backward(x, output)


def _vector_norm_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, y = ctx.saved_tensors
    g, y = (kept(t, x.dim(), ctx.dim, ctx.keepdim) for t in (g, y))
    gradient = OPS.vector_norm_backward.default(g, x.to(y.dtype), y, ctx.ord, ctx.dim).to(x.dtype)
    return gradient, None, None, None, None


def _vector_norm_formula(g: Tensor, x: Tensor, y: Tensor, ord: float, dim: Sequence[int] | None) -> Tensor | None:
    if ord == 0:
        return None
    z, y_all, g_all = wide(x), spread(wide(y), x.shape), spread(wide(g), x.shape)
    if ord == 2:
        flat = y_all == 0
        return ((z / y_all.masked_fill(flat, 1.0)) * g_all).masked_fill(flat, 0.0).to(x.dtype)
    if ord == 1:
        return (g_all * z.detach().sign()).to(x.dtype)
    with torch.no_grad():
        there = (z.abs() == y_all) | z.isnan()
        share = there.to(z.dtype) / total_of(there.to(z.dtype), dim) * z.sign()
    return (g_all * share).to(x.dtype)


differentiate("vector_norm", _vector_norm_setup, _vector_norm_backward)
formula_gradient("vector_norm_backward", _vector_norm_formula)
shift_dims("vector_norm", tensors=1, dim_at=2)
shift_dims("vector_norm_backward", tensors=3, dim_at=4)


def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """torch.logsumexp in one written order, with detprobe's own exp and log.

    Example:
        >>> detprobe.ops.logsumexp(torch.tensor([0.0, 0.0]), dim=0)
        tensor(0.6931)

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool, which become the default dtype.
        dim: the dimensions of a row; an empty tuple: all of them.
        keepdim: keep them, with size 1.

    Raises:
        ArgumentTypeError, ArgumentIndexError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, logsumexp.
    """
    op = "logsumexp"
    _check.tensor(op, "input", input)
    if dim is None:
        raise ArgumentTypeError(f"{op}: dim: expected an int or a tuple of ints, got None: pass dim=() for all")
    _check.dtype_in(op, "input", input.dtype, _check.FLOATS + _check.INTEGERS)
    _check.boolean(op, "keepdim", keepdim)
    dims = _check.sorted_dims(op, dim, input.dim())
    if not input.dtype.is_floating_point:
        input = input.to(torch.get_default_dtype())
    return OPS.logsumexp.default(input, dims, keepdim)


@fake("logsumexp")
def _(x: Tensor, dim: Sequence[int] | None, keepdim: bool) -> Tensor:
    return x.new_empty(reduced_shape(x, dim, keepdim))


@fake("logsumexp_backward")
def _(g: Tensor, x: Tensor, y: Tensor, dim: Sequence[int] | None) -> Tensor:
    return like(x)


def _logsumexp_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, ctx.keepdim = inputs
    ctx.save_for_backward(x, output)


def _logsumexp_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
    x, y = ctx.saved_tensors
    g, y = (kept(t, x.dim(), ctx.dim, ctx.keepdim) for t in (g, y))
    return OPS.logsumexp_backward.default(g, x, y, ctx.dim), None, None


def _logsumexp_formula(g: Tensor, x: Tensor, y: Tensor, dim: Sequence[int] | None) -> Tensor:
    return (spread(wide(g), x.shape) * OPS.exp.default(wide(x) - spread(wide(y), x.shape))).to(x.dtype)


differentiate("logsumexp", _logsumexp_setup, _logsumexp_backward)
formula_gradient("logsumexp_backward", _logsumexp_formula)
shift_dims("logsumexp", tensors=1, dim_at=1)
shift_dims("logsumexp_backward", tensors=3, dim_at=3)
