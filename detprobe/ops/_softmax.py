"""softmax and log_softmax. Order: csrc/README.md, "The ops"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detprobe.ops import _check
from detprobe.ops._autograd import as_dtype, differentiate, fake, formula_gradient, like, shift_dims, total_of, wide
from detprobe.ops._native import CALLS, OPS, tracing

__all__ = ["log_softmax", "softmax"]


def softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """torch.softmax in one written order, with detprobe's own exp.

    Example:
        >>> detprobe.ops.softmax(torch.tensor([0.0, 0.0]), dim=0)
        tensor([0.5000, 0.5000])

    Args:
        input: `[...]` of float16, bfloat16, float32 or float64; of integers with a floating `dtype`.
        dim: the dimension that a row runs along.
        dtype: what the input is converted to first.

    Raises:
        ArgumentTypeError, ArgumentIndexError: where torch raises TypeError and IndexError.
        UnsupportedError: integers without a `dtype`; a complex, float8, sparse or nested input.

    Source: csrc/README.md, softmax.
    """
    if dtype is None and not tracing() and (result := CALLS.softmax(input, dim, False)) is not None:
        return result  # type: ignore[no-any-return]
    at = _arguments("softmax", input, dim, dtype)
    return OPS.softmax.default(input, at, False, dtype)


def log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """torch.log_softmax in one written order, with detprobe's own exp and log. Arguments: those of `softmax`.

    Source: csrc/README.md, log_softmax.
    """
    if dtype is None and not tracing() and (result := CALLS.softmax(input, dim, True)) is not None:
        return result  # type: ignore[no-any-return]
    at = _arguments("log_softmax", input, dim, dtype)
    return OPS.softmax.default(input, at, True, dtype)


def _arguments(op: str, input: Any, dim: Any, dtype: Any) -> int:
    _check.tensor(op, "input", input)
    if dtype is None:
        _check.is_floating(op, "input", input)
    else:
        _check.dtype_in(op, "input", input.dtype, _check.FLOATS + _check.INTEGERS)
        _check.result_dtype(op, dtype, _check.FLOATS)
    return _check.one_dim(op, dim, input.dim())


@fake("softmax")
def _(x: Tensor, dim: int, log: bool, dtype: torch.dtype | None) -> Tensor:
    return like(as_dtype(x, dtype))


@fake("softmax_backward")
def _(g: Tensor, y: Tensor, dim: int, log: bool) -> Tensor:
    return like(y)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, ctx.log, _ = inputs
    ctx.dtype = x.dtype
    ctx.save_for_backward(output)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    (y,) = ctx.saved_tensors
    return OPS.softmax_backward.default(g, y, ctx.dim, ctx.log).to(ctx.dtype), None, None, None


def _formula(g: Tensor, y: Tensor, dim: int, log: bool) -> Tensor:
    g_wide, y_wide = wide(g), wide(y)
    if log:
        return (g_wide - OPS.exp.default(y_wide) * total_of(g_wide, [dim])).to(y.dtype)
    return ((g_wide - total_of(g_wide * y_wide, [dim])) * y_wide).to(y.dtype)


differentiate("softmax", _setup, _backward)
formula_gradient("softmax_backward", _formula)
shift_dims("softmax", tensors=1, dim_at=1)
shift_dims("softmax_backward", tensors=2, dim_at=2)
