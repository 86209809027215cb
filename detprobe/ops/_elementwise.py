"""One rounded operation for each element, which no compiler fuses with another: what gradients are made of.

Not public: torch's own multiplication gives the same bits where nothing is fused. They are ops so that torch.compile
leaves them alone, and `exp` and `log` so that there is one of each on every device.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from detprobe.ops._autograd import batched, differentiate, fake, like
from detprobe.ops._native import OPS

__all__: list[str] = []


@fake("multiply")
def _(a: Tensor, b: Tensor) -> Tensor:
    return like(a)


@fake("divide")
def _(a: Tensor, b: float) -> Tensor:
    return like(a)


@fake("exp")
def _(x: Tensor) -> Tensor:
    return like(x)


@fake("log")
def _(x: Tensor) -> Tensor:
    return like(x)


def _multiply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _multiply_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = ctx.saved_tensors
    of_a = OPS.multiply.default(g.to(a.dtype), b) if ctx.needs_input_grad[0] else None
    if not ctx.needs_input_grad[1]:
        return of_a, None
    product = OPS.multiply.default(a, g)
    added = a.dim() - b.dim()
    gone = [at for at in range(a.dim()) if at < added or b.shape[at - added] != a.shape[at]]
    summed = OPS.sum.default(product, gone, False, None).reshape(b.shape) if gone else product
    return of_a, summed.to(b.dtype)


def _divide_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.divisor = inputs[1]


def _divide_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
    return OPS.divide.default(g, ctx.divisor), None


def _exp_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _exp_backward(ctx: Any, g: Tensor) -> Tensor:
    return OPS.multiply.default(g, ctx.saved_tensors[0])


def _log_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _log_backward(ctx: Any, g: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    gradient: Tensor = g / x
    return gradient


differentiate("multiply", _multiply_setup, _multiply_backward)
differentiate("divide", _divide_setup, _divide_backward)
differentiate("exp", _exp_setup, _exp_backward)
differentiate("log", _log_setup, _log_backward)


def _batched_multiply(info: Any, in_dims: tuple[int | None, ...], a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    a = a.movedim(in_dims[0], 0) if in_dims[0] is not None else a.expand(info.batch_size, *a.shape)
    if in_dims[1] is not None:
        b = b.movedim(in_dims[1], 0)
        b = b.reshape(info.batch_size, *([1] * (a.dim() - b.dim())), *b.shape[1:])
    return OPS.multiply.default(a, b), 0


def _along(name: str) -> None:
    op = getattr(OPS, name).default
    batched(name, lambda info, in_dims, x, *rest: (op(x, *rest), in_dims[0]))


batched("multiply", _batched_multiply)
for _name in ("divide", "exp", "log"):
    _along(_name)
