"""batch_norm and its running statistics. Order: csrc/README.md, "The ops"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentValueError
from detprobe.ops import _check
from detprobe.ops._autograd import (
    acc,
    differentiate,
    fake,
    formula_gradient,
    like,
    loop_over_batch,
    mean_of,
    spread,
    wide,
)
from detprobe.ops._native import CALLS, OPS, tracing
from detprobe.ops._norms import normalized, rstd_of

__all__ = ["batch_norm"]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm in one written order.

    Example:
        >>> detprobe.ops.batch_norm(torch.tensor([[1.0], [3.0]]), None, None, training=True)
        tensor([[-1.0000],
                [ 1.0000]])

    Args:
        input: `[n, c, ...]` of float16, bfloat16, float32 or float64.
        running_mean, running_var: `[c]`; while training they are updated in place, or both None.
        weight, bias: `[c]`. All four have the input's dtype, or float32 beside a 16-bit input.
        training: use the statistics of the batch; else the running ones.
        momentum: the share of the batch in the running statistics.
        eps: added to the variance.

    Raises:
        ArgumentTypeError, ArgumentValueError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, batch_norm and "Running statistics".
    """
    call = (input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not tracing() and (result := CALLS.batch_norm(*call)) is not None:
        return result  # type: ignore[no-any-return]
    op = "batch_norm"
    _check.tensor(op, "input", input)
    _check.is_floating(op, "input", input)
    _arguments(input, training, momentum, eps)
    channels = input.shape[1] if input.dim() > 1 else 0
    given = (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias))
    for name, value in given[:2]:
        if value is None and not training:
            raise ArgumentRuntimeError(f"{op}: {name}: expected a tensor where training is False, got None")
    if (running_mean is None) != (running_var is None):
        raise ArgumentValueError(f"{op}: expected running_mean and running_var, or neither; got one of them")
    for name, value in given:
        if value is not None:
            _check.parameter(op, name, value, input, (channels,), "the channels of input")
    if input.dim() < 2:
        raise ArgumentRuntimeError(f"{op}: input: expected [n, c, ...], got shape {tuple(input.shape)}")
    present = [value.dtype for _, value in given if value is not None]
    if len(set(present)) > 1:
        raise ArgumentRuntimeError(
            f"{op}: expected {', '.join(n for n, v in given if v is not None)} of one dtype, got "
            f"{', '.join(str(dtype) for dtype in present)}: convert some of them"
        )
    if not training:
        return OPS.batch_norm_inference.default(input, running_mean, running_var, weight, bias, float(eps))[0]
    for name, value in given[:2]:
        if value is not None and value.requires_grad and torch.is_grad_enabled():
            raise ArgumentRuntimeError(
                f"{op}: {name}: expected a tensor without a gradient, got one that requires grad"
            )
    y: Tensor
    y, mean, squares, _ = OPS.batch_norm_training.default(input, weight, bias, float(eps))
    if running_mean is not None and running_var is not None and input.numel():
        update_running(running_mean, running_var, mean, squares, input.numel() // channels, float(momentum))
    return y


def update_running(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, squares: Tensor, samples: int, momentum: float
) -> None:
    """The running statistics, in place, after a batch of `samples` elements per channel."""
    with torch.no_grad():
        mean, squares = mean.detach(), squares.detach()
        running_mean.copy_(OPS.running_average.default(running_mean, mean, 1.0, momentum))
        running_var.copy_(OPS.running_average.default(running_var, squares, samples - 1, momentum))


def _arguments(input: Tensor, training: Any, momentum: Any, eps: Any) -> None:
    op = "batch_norm"
    _check.boolean(op, "training", training)
    _check.real(op, "momentum", momentum)
    _check.real(op, "eps", eps)
    samples = math.prod(input.shape[:1] + input.shape[2:])
    if training and samples == 1:
        raise ArgumentValueError(
            f"{op}: input: expected more than one value per channel while training, got shape {tuple(input.shape)}"
        )
    if eps < 0 or (training and eps == 0):
        raise ArgumentValueError(
            f"{op}: eps: expected a {'positive' if training else 'non-negative'} number, got {eps}"
        )


@fake("batch_norm_training")
def _(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, squares, rstd = (x.new_empty([x.shape[1]], dtype=acc(x.dtype)) for _ in range(3))
    return like(x), mean, squares, rstd


@fake("batch_norm_inference")
def _(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    return like(x), x.new_empty([x.shape[1]], dtype=acc(x.dtype))


@fake("batch_norm_backward")
def _(
    g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, training: bool, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = x.dtype if weight is None else weight.dtype
    of_weight, of_bias = (x.new_empty([x.shape[1] if want else 0], dtype=dtype) for want in wanted[1:])
    return like(x) if wanted[0] else x.new_empty([0]), of_weight, of_bias


@fake("running_average")
def _(running: Tensor, value: Tensor, divisor: float, momentum: float) -> Tensor:
    return running.new_empty(running.shape)


def _training_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _, _ = inputs
    _, mean, squares, rstd = output
    ctx.mark_non_differentiable(mean, squares, rstd)
    ctx.save_for_backward(x, mean, rstd, weight)


def _inference_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, mean, _, weight, _, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, mean, output[1], weight)


def _gradients(ctx: Any, g: Tensor, training: bool, places: Sequence[int]) -> list[Tensor | None]:
    x, mean, rstd, weight = ctx.saved_tensors
    wanted = [ctx.needs_input_grad[at] for at in places]
    gradients = OPS.batch_norm_backward.default(g, x, wide(mean), rstd, weight, training, wanted)
    return [one if want else None for one, want in zip(gradients, wanted, strict=True)]


def _training_backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    return (*_gradients(ctx, g, True, (0, 1, 2)), None)


def _inference_backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    of_x, of_weight, of_bias = _gradients(ctx, g, False, (0, 3, 4))
    return of_x, None, None, of_weight, of_bias, None


def _formula(
    g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, training: bool, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    rows = [at for at in range(x.dim()) if at != 1]
    mean_all, rstd_all = (t.view(-1, *([1] * (x.dim() - 2))) for t in (mean, rstd))
    g_wide, x_wide = wide(g), wide(x)
    if training:
        h, scale = normalized(x_wide, rstd_all, rows, True), rstd_of(x_wide, rstd_all, rows, True)
        of_x = g_wide - mean_of(g_wide, rows) - h * mean_of(g_wide * h, rows)
    else:
        h, scale, of_x = (x_wide - mean_all) * rstd_all, rstd_all.expand(x.shape), g_wide
    if weight is not None:
        scale = spread(wide(weight).view(-1, *([1] * (x.dim() - 2))), x.shape) * scale
    dtype = x.dtype if weight is None else weight.dtype
    return (
        (of_x * scale).to(x.dtype) if wanted[0] else None,
        OPS.sum.default(g_wide * h, rows, False, None).to(dtype) if wanted[1] else None,
        OPS.sum.default(g_wide, rows, False, None).to(dtype) if wanted[2] else None,
    )


differentiate("batch_norm_training", _training_setup, _training_backward)
differentiate("batch_norm_inference", _inference_setup, _inference_backward)
formula_gradient("batch_norm_backward", _formula)
for _name in ("batch_norm_training", "batch_norm_inference", "batch_norm_backward", "running_average"):
    loop_over_batch(_name)
