"""layer_norm and rms_norm: one op, centered or not. Order: csrc/README.md, "The ops"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentTypeError
from detprobe.ops import _check
from detprobe.ops._autograd import (
    acc,
    differentiate,
    fake,
    formula_gradient,
    like,
    loop_over_batch,
    mean_of,
    reduced_shape,
    spread,
    wide,
)
from detprobe.ops._native import CALLS, OPS, tracing

__all__ = ["layer_norm", "rms_norm"]


_EPSILONS = {dtype: torch.finfo(acc(dtype)).eps for dtype in _check.FLOATS}


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.layer_norm in one written order.

    Example:
        >>> detprobe.ops.layer_norm(torch.tensor([[1.0, 3.0]]), (2,))
        tensor([[-1.0000,  1.0000]])

    Args:
        input: `[..., *normalized_shape]` of float16, bfloat16, float32 or float64.
        normalized_shape: the last dimensions, which make a row.
        weight, bias: `normalized_shape`, of the input's dtype, or both float32 beside a 16-bit input.
        eps: added to the variance.

    Raises:
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, layer_norm.
    """
    call = (input, normalized_shape, weight, bias, eps, True)
    if not tracing() and (result := CALLS.layer_norm(*call)) is not None:
        return result  # type: ignore[no-any-return]
    dims = _arguments("layer_norm", input, normalized_shape, weight, bias)
    _check.real("layer_norm", "eps", eps)
    return OPS.layer_norm.default(input, dims, weight, bias, float(eps), True)[0]


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """torch.nn.functional.rms_norm in one written order.

    Example:
        >>> detprobe.ops.rms_norm(torch.tensor([[1.0, 1.0]]), (2,), eps=0.0)
        tensor([[1., 1.]])

    Args:
        input: `[..., *normalized_shape]` of float16, bfloat16, float32 or float64.
        normalized_shape: the last dimensions, which make a row.
        weight: `normalized_shape`, of the input's dtype, or float32 beside a 16-bit input.
        eps: added to the mean square; None: the machine epsilon of the type that is computed in.

    Raises:
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, rms_norm.
    """
    known = eps if eps is not None else _EPSILONS.get(getattr(input, "dtype", torch.float32))
    call = (input, normalized_shape, weight, None, known, False)
    if not tracing() and (result := CALLS.layer_norm(*call)) is not None:
        return result  # type: ignore[no-any-return]
    dims = _arguments("rms_norm", input, normalized_shape, weight, None)
    eps = _EPSILONS[input.dtype] if eps is None else eps
    _check.real("rms_norm", "eps", eps)
    return OPS.layer_norm.default(input, dims, weight, None, float(eps), False)[0]


def _arguments(op: str, input: Any, normalized_shape: Any, weight: Any, bias: Any) -> int:
    _check.tensor(op, "input", input)
    if not isinstance(normalized_shape, (tuple, list)):
        raise ArgumentTypeError(f"{op}: normalized_shape: expected a tuple of ints, got {normalized_shape!r}")
    shape = tuple(normalized_shape)
    if not shape:
        raise ArgumentRuntimeError(f"{op}: normalized_shape: expected at least one dimension, got {shape}")
    if tuple(input.shape[-len(shape) :]) != shape:
        raise ArgumentRuntimeError(
            f"{op}: input: expected a shape that ends with normalized_shape, {shape}, got {tuple(input.shape)}"
        )
    _check.is_floating(op, "input", input)
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            _check.parameter(op, name, value, input, shape, "normalized_shape")
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        raise ArgumentRuntimeError(
            f"{op}: expected weight and bias of one dtype, got {weight.dtype} and {bias.dtype}: convert one of them"
        )
    return len(shape)


@fake("layer_norm")
def _(
    x: Tensor, dims: int, weight: Tensor | None, bias: Tensor | None, eps: float, centered: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.shape[: x.dim() - dims]
    rstd = x.new_empty(rows, dtype=acc(x.dtype))
    return like(x), x.new_empty(rows if centered else [0], dtype=acc(x.dtype)), rstd


@fake("layer_norm_backward")
def _(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    dims: int,
    centered: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[x.dim() - dims :]
    dtype = x.dtype if weight is None else weight.dtype
    return (
        like(x) if wanted[0] else x.new_empty([0]),
        x.new_empty(shape if wanted[1] else [0], dtype=dtype),
        x.new_empty(shape if wanted[2] else [0], dtype=dtype),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, ctx.dims, weight, _, _, ctx.centered = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, mean, rstd, weight)


def _backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, mean, rstd, weight = ctx.saved_tensors
    wanted = [ctx.needs_input_grad[at] for at in (0, 2, 3)]
    gradients = OPS.layer_norm_backward.default(g, x, mean, rstd, weight, ctx.dims, ctx.centered, wanted)
    of_x, of_weight, of_bias = (one if want else None for one, want in zip(gradients, wanted, strict=True))
    return of_x, None, of_weight, of_bias, None, None


def _formula(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    dims: int,
    centered: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    inner = list(range(x.dim() - dims, x.dim()))
    h, scale, t = normalized(wide(x), rstd, inner, centered), rstd_of(wide(x), rstd, inner, centered), wide(g)
    if weight is not None:
        t = t * spread(wide(weight), x.shape)
    of_x = t - h * mean_of(t * h, inner)
    if centered:
        of_x = of_x - mean_of(t, inner)
    outer = list(range(x.dim() - dims))
    of_weight, of_bias = (wide(g) * h, wide(g)) if wanted[1] or wanted[2] else (None, None)
    if outer and of_weight is not None and of_bias is not None:
        of_weight, of_bias = (OPS.sum.default(one, outer, False, None) for one in (of_weight, of_bias))
    dtype = x.dtype if weight is None else weight.dtype
    return (
        (of_x * scale).to(x.dtype) if wanted[0] else None,
        of_weight.to(dtype) if wanted[1] and of_weight is not None else None,
        of_bias.to(dtype) if wanted[2] and of_bias is not None else None,
    )


def _deviation(x: Tensor, inner: Sequence[int], centered: bool) -> Tensor:
    return x - mean_of(x, inner) if centered else x


def rstd_of(x: Tensor, rstd: Tensor, inner: Sequence[int], centered: bool) -> Tensor:
    """1 / sqrt(variance + eps) of each row, spread over it, as a function of `x`; eps is what its value says it was."""
    d = _deviation(x, inner, centered)
    squares = mean_of(d * d, inner)
    known = rstd.reshape(reduced_shape(x, inner, True)).expand(x.shape)
    return (squares - squares.detach() + known.pow(-2)).pow(-0.5)


def normalized(x: Tensor, rstd: Tensor, inner: Sequence[int], centered: bool) -> Tensor:
    """The normalized rows as a function of `x`."""
    return _deviation(x, inner, centered) * rstd_of(x, rstd, inner, centered)


differentiate("layer_norm", _setup, _backward)
formula_gradient("layer_norm_backward", _formula)
loop_over_batch("layer_norm")
loop_over_batch("layer_norm_backward")
