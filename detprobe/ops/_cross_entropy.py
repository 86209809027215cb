"""cross_entropy. Order: csrc/README.md, "cross_entropy"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentIndexError, ArgumentRuntimeError, ArgumentTypeError, ArgumentValueError
from detprobe.ops import _check
from detprobe.ops._autograd import (
    acc,
    differentiate,
    fake,
    formula_gradient,
    like,
    loop_over_batch,
    spread,
    total_of,
    wide,
)
from detprobe.ops._native import CALLS, OPS, tracing

__all__ = ["cross_entropy"]

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
OP = "cross_entropy"


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """torch.nn.functional.cross_entropy in one written order, with detprobe's own exp and log.

    Example:
        >>> detprobe.ops.cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    Args:
        input: logits `[classes]` or `[n, classes, ...]` of float16, bfloat16, float32 or float64.
        target: classes `[n, ...]` of int64 or uint8, or probabilities of the input's shape and dtype.
        weight: `[classes]` of the input's dtype. It has no gradient.
        ignore_index: samples of this class count for nothing; not with probabilities.
        reduction: "none", "mean" (over the weights of the samples) or "sum".
        label_smoothing: how much of the target is spread over all classes, 0 to 1.

    Raises:
        ArgumentIndexError: a class out of range, on the CPU. On CUDA the kernel asserts, as torch's does.
        ArgumentTypeError, ArgumentValueError, ArgumentRuntimeError: where torch raises TypeError and so on.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, cross_entropy.
    """
    if not tracing() and reduction in _REDUCTIONS:
        call = (input, target, weight, _REDUCTIONS[reduction], ignore_index, label_smoothing)
        if (result := CALLS.cross_entropy(*call)) is not None:
            return result  # type: ignore[no-any-return]
    target = _arguments(input, target, weight, ignore_index, reduction, label_smoothing)
    arguments = (input, target, weight, _REDUCTIONS[reduction], ignore_index, float(label_smoothing))
    if torch.compiler.is_compiling():
        return OPS.cross_entropy.default(*arguments)[0]
    try:
        return OPS.cross_entropy.default(*arguments)[0]
    except (IndexError, RuntimeError):
        _check_classes(input, target, ignore_index)  # on the way there it would cost a pass over the target
        raise


def _check_classes(input: Tensor, target: Tensor, ignore_index: int) -> None:
    if target.device.type != "cpu" or target.dtype.is_floating_point:
        return
    classes = input.shape[_class_dim(input)]
    wrong = target[((target < 0) | (target >= classes)) & (target != ignore_index)]
    if wrong.numel():
        raise ArgumentIndexError(
            f"{OP}: target: expected classes 0 to {classes - 1}, or ignore_index {ignore_index}, got "
            f"{wrong.flatten()[0].item()}: input {tuple(input.shape)} has {classes} classes"
        ) from None


def _class_dim(input: Tensor) -> int:
    return min(1, input.dim() - 1)


def _arguments(input: Any, target: Any, weight: Any, ignore_index: Any, reduction: Any, label_smoothing: Any) -> Tensor:
    for name, value in (("input", input), ("target", target)):
        _check.tensor(OP, name, value)
    if reduction not in _REDUCTIONS:
        raise ArgumentValueError(f"{OP}: reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise ArgumentTypeError(f"{OP}: ignore_index: expected an int, got {ignore_index!r}")
    _check.real(OP, "label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentRuntimeError(f"{OP}: label_smoothing: expected a number from 0 to 1, got {label_smoothing}")
    _check.beside(OP, "target", target, input)
    if input.dim() == 0:
        raise ArgumentIndexError(f"{OP}: input: expected [classes] or [n, classes, ...], got a tensor of 0 dimensions")
    _check.is_floating(OP, "input", input)
    classes = input.shape[_class_dim(input)]
    if weight is not None:
        _check.tensor(OP, "weight", weight)
        _check.beside(OP, "weight", weight, input)
        _check.shape_of(OP, "weight", weight, (classes,), "one for each class")
        _check.dtype_in(OP, "weight", weight.dtype, (input.dtype,), ArgumentRuntimeError)
        if weight.requires_grad and torch.is_grad_enabled():
            raise ArgumentRuntimeError(f"{OP}: weight: there is no gradient for it, and it requires grad: detach() it")
    if input.shape == target.shape:
        return _probabilities(input, target, ignore_index)
    return _classes(input, target)


def _probabilities(input: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    if not target.dtype.is_floating_point:
        raise ArgumentRuntimeError(
            f"{OP}: target: expected probabilities of {input.dtype}, since it has the shape of input, "
            f"{tuple(input.shape)}, got {target.dtype}"
        )
    if ignore_index >= 0:
        raise ArgumentRuntimeError(f"{OP}: ignore_index: expected none beside probabilities, got {ignore_index}")
    _check.dtype_in(OP, "target", target.dtype, (input.dtype,), ArgumentRuntimeError)
    return target


def _classes(input: Tensor, target: Tensor) -> Tensor:
    expected = tuple(input.shape[:1] + input.shape[2:]) if input.dim() > 1 else ()
    got = tuple(target.shape)
    if input.dim() == 1 and len(got) < 2:
        if got not in ((), (1,)):
            raise ArgumentValueError(
                f"{OP}: target: expected one class beside input {tuple(input.shape)}, got shape {got}"
            )
    elif got != expected:
        error = ArgumentValueError if input.dim() == 2 and len(got) == 1 else ArgumentRuntimeError
        raise error(f"{OP}: target: expected shape {expected} beside input {tuple(input.shape)}, got {got}")
    if target.dtype not in (torch.int64, torch.uint8):
        raise ArgumentRuntimeError(
            f"{OP}: target: expected classes of int64 or uint8, or probabilities of shape {tuple(input.shape)}, got "
            f"{target.dtype} of shape {got}"
        )
    return target.reshape(expected).to(torch.int64)


@fake("cross_entropy")
def _(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore_index: int, smoothing: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    at = _class_dim(x)
    samples = [*x.shape[:at], *x.shape[at + 1 :]]
    wide_type = acc(x.dtype)
    total, largest, logsum = (x.new_empty(shape, dtype=wide_type) for shape in ([], samples, samples))
    return x.new_empty(samples if reduction == 0 else []), total, largest, logsum


@fake("cross_entropy_backward")
def _(
    g: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    total: Tensor,
    max: Tensor,
    logsum: Tensor,
    reduction: int,
    ignore_index: int,
    smoothing: float,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    of_target = like(x) if wanted[1] else target.new_empty([0])
    return like(x) if wanted[0] else x.new_empty([0]), of_target


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, target, weight, ctx.reduction, ctx.ignore_index, ctx.smoothing = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, target, weight, *output[1:])


def _backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    gradients = OPS.cross_entropy_backward.default(
        g, *ctx.saved_tensors, ctx.reduction, ctx.ignore_index, ctx.smoothing, wanted
    )
    of_x, of_target = (one if want else None for one, want in zip(gradients, wanted, strict=True))
    return of_x, of_target, None, None, None, None


def _formula(
    g: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    total: Tensor,
    max: Tensor,
    logsum: Tensor,
    reduction: int,
    ignore_index: int,
    smoothing: float,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    at = _class_dim(x)
    x_wide = wide(x)
    classes = x.shape[at]
    w = x_wide.new_ones(classes) if weight is None else wide(weight)
    w = w.view(-1, *([1] * max_dims(x, at))).expand(x.shape)
    scale = wide(g) / total if reduction == 1 else wide(g)
    k = spread(scale.unsqueeze(at) if reduction == 0 else scale, x.shape)
    lp = OPS.softmax.default(x_wide, at, True, None)
    of_target = None
    if target.dtype.is_floating_point:
        q = wide(target)
        h = w * (q * (1 - smoothing) + smoothing / classes)
        of_target = (k * -(w * lp * (1 - smoothing))).to(target.dtype) if wanted[1] else None
    else:
        ignored = (target == ignore_index).unsqueeze(at)
        kind = target.masked_fill(target == ignore_index, 0).unsqueeze(at)
        own = torch.zeros_like(x_wide).scatter_(at, kind, 1.0)
        own_weight = w.gather(at, kind).expand(x.shape)
        h = (own * ((1 - smoothing) * own_weight) + smoothing / classes * w).masked_fill(ignored, 0.0)
    of_x = k * (OPS.exp.default(lp) * total_of(h, [at]) - h)
    return of_x.to(x.dtype) if wanted[0] else None, of_target


def max_dims(x: Tensor, at: int) -> int:
    """How many dimensions come after the classes."""
    return x.dim() - 1 - at


differentiate(OP, _setup, _backward)
formula_gradient("cross_entropy_backward", _formula)
loop_over_batch(OP)
loop_over_batch("cross_entropy_backward")
