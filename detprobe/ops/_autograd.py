"""What the registrations of all ops share: shapes, gradients of gradients, and rules for torch.vmap.

A backward op is differentiated by writing its formula again with ops that have a gradient, and asking autograd. Those
second derivatives are made of detprobe's sums and of single rounded operations, so they repeat as the ops do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from detprobe.errors import ArgumentValueError, UnsupportedError
from detprobe.ops._native import OPS

__all__ = [
    "acc",
    "as_dtype",
    "batched",
    "count",
    "differentiate",
    "fake",
    "formula_gradient",
    "kept",
    "like",
    "loop",
    "loop_over_batch",
    "mean_of",
    "reduced_dims",
    "reduced_shape",
    "rounded",
    "shift_dims",
    "spread",
    "summed_to",
    "to_front",
    "total_of",
    "wide",
    "zeros",
]


_Function = TypeVar("_Function", bound=Callable[..., Any])


_LIBRARY = torch.library.Library("detprobe", "IMPL")  # what is registered lives as long as this
_BATCHED: dict[str, Callable[..., Any]] = {}


def acc(dtype: torch.dtype) -> torch.dtype:
    """The type that an op computes in."""
    if not dtype.is_floating_point:
        return torch.int64
    return torch.float64 if dtype is torch.float64 else torch.float32


def wide(x: Tensor) -> Tensor:
    """The tensor in the type that an op computes in, which is exact."""
    return x.to(acc(x.dtype))


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What an op computed in acc, as it is stored: rounded once, and any NaN is the canonical one."""
    x = x.to(dtype)
    return x.masked_fill(x.isnan(), math.nan)


def zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """+0.0 of a shape, in the memory of one number: a destination, which an op copies anyway."""
    return like.new_zeros(()).expand(shape)


def like(x: Tensor) -> Tensor:
    """What a kernel allocates for a result of the shape of `x`: its strides, or contiguous where it has holes."""
    result = torch.empty_like(x)
    return result if result.stride() == x.stride() else x.new_empty(x.shape)


def as_dtype(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The conversion that `dtype=` asks for."""
    return x if dtype is None else x.to(dtype)


def reduced_dims(ndim: int, dim: Sequence[int] | None) -> list[int]:
    """`dim` of a schema as ascending numbers; None and nothing stand for all."""
    return sorted(one % ndim for one in dim) if dim and ndim else list(range(ndim))


def reduced_shape(x: Tensor, dim: Sequence[int] | None, keepdim: bool) -> list[int]:
    gone = set(reduced_dims(x.dim(), dim))
    return [1 if at in gone else size for at, size in enumerate(x.shape) if keepdim or at not in gone]


def count(x: Tensor, dim: Sequence[int] | None) -> int:
    return math.prod(x.shape[at] for at in reduced_dims(x.dim(), dim))


def kept(t: Tensor, ndim: int, dim: Sequence[int] | None, keepdim: bool) -> Tensor:
    """A reduced tensor with the reduced dimensions put back, with size 1."""
    if not keepdim:
        for at in reduced_dims(ndim, dim):
            t = t.unsqueeze(at)
    return t


class _Spread(torch.autograd.Function):
    """expand, with a gradient that is summed in detprobe's order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, shape: Sequence[int]) -> Tensor:
        return x.expand(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return summed_to(g, ctx.shape), None


def summed_to(g: Tensor, shape: Sequence[int]) -> Tensor:
    """The gradient of what was broadcast from a shape: summed over the dimensions that it had not."""
    added = g.dim() - len(shape)
    gone = [at for at in range(g.dim()) if at < added or _differ(shape[at - added], g.shape[at])]
    return OPS.sum.default(g, gone, False, None).reshape(shape) if gone else g


def _differ(a: int, b: int) -> bool:
    """Whether two sizes differ; sizes that only data decide are taken for equal, since they come from one mask."""
    if isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):
        from torch.fx.experimental.symbolic_shapes import guard_or_false

        return guard_or_false(a != b)
    return a != b


def spread(t: Tensor, shape: Sequence[int]) -> Tensor:
    """`t` expanded to a shape."""
    if tuple(t.shape) == tuple(shape):
        return t
    if not (torch.is_grad_enabled() and t.requires_grad):
        return t.expand(shape)
    result: Tensor = _Spread.apply(t, shape)  # type: ignore[no-untyped-call]
    return result


def total_of(x: Tensor, dim: Sequence[int] | None) -> Tensor:
    """The sums of rows, spread over the rows."""
    return spread(OPS.sum.default(x, dim, True, None), x.shape)


def mean_of(x: Tensor, dim: Sequence[int] | None) -> Tensor:
    """The means of rows, spread over the rows."""
    return spread(OPS.mean.default(x, dim, True, None), x.shape)


def _has_tangent(value: Any) -> bool:
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None


def fake(name: str) -> Callable[[_Function], _Function]:
    """Say what an op returns for tensors without data: shape, dtype and strides."""
    register: Callable[[_Function], _Function] = torch.library.register_fake(f"detprobe::{name}")
    return register


def differentiate(name: str, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Give an op its gradient.

    torch.library.register_autograd does the same, and refuses torch.func.grad and its like: those need a Function with
    a setup_context and a rule for vmap.
    """
    op = getattr(OPS, name).raw
    below = torch._C._AutoDispatchBelowAutograd

    # The last argument: where the dispatcher goes on; None in functorch, which calls at a level of its own.
    def forward(*args: Any) -> Any:
        if args[-1] is None:
            return op(*args[:-1])
        with below():
            return op.redispatch(args[-1], *args[:-1])

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup(ctx, inputs[:-1], output)

    def gradients(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        found = backward(ctx, *grads)
        return (*found, None) if isinstance(found, tuple) else (found, None)

    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _BATCHED[name](info, in_dims[:-1], *args[:-1])

    methods = {"forward": forward, "setup_context": setup_context, "backward": gradients, "vmap": vmap}
    members = {key: staticmethod(method) for key, method in methods.items()}
    function: Any = type(f"{name}_with_gradient", (torch.autograd.Function,), members)
    getattr(OPS, name).function = function

    def kernel(keys: Any, *args: Any) -> Any:
        if forward_ad._current_level >= 0 and any(_has_tangent(value) for value in args):
            raise UnsupportedError(
                f"{name}: there is no forward-mode gradient (torch.func.jvp, torch.autograd.forward_ad): "
                "use reverse mode (torch.func.vjp, backward)"
            )
        keys = keys & torch._C._after_autograd_keyset
        if not (torch.is_grad_enabled() and torch._C._any_requires_grad(*args)):
            with below():
                return op.redispatch(keys, *args)
        return function.apply(*args, keys)

    _LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)


def formula_gradient(name: str, formula: Callable[..., Any]) -> None:
    """Give a backward op the gradient of `formula`, which takes its arguments and returns what it returns.

    Of results that are not wanted or that depend on nothing, the formula may return None.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.places = [at for at, value in enumerate(inputs) if isinstance(value, Tensor)]
        ctx.rest = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.save_for_backward(*(inputs[at] for at in ctx.places))
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        arguments = list(ctx.rest)
        with torch.enable_grad():
            for at, value in zip(ctx.places, ctx.saved_tensors, strict=True):
                # An alias each: one tensor may stand in two places, and each of them has its own gradient.
                arguments[at] = value.view_as(value)
            results = formula(*arguments)
        results = results if isinstance(results, tuple) else (results,)
        wanted = [at for at in ctx.places if ctx.needs_input_grad[at]]
        pairs = [
            (result, g)
            for result, g in zip(results, grads, strict=True)
            if g is not None and result is not None and result.requires_grad
        ]
        found: list[Tensor | None] = [None] * len(arguments)
        if pairs and wanted:
            outputs, weights = zip(*pairs, strict=True)
            gradients = torch.autograd.grad(
                outputs,
                [arguments[at] for at in wanted],
                weights,
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
            )
            for at, gradient in zip(wanted, gradients, strict=True):
                found[at] = gradient
        return tuple(found)

    differentiate(name, setup, backward)


def batched(name: str, rule: Callable[..., Any]) -> None:
    """Give an op its rule for torch.vmap."""
    _BATCHED[name] = rule
    torch.library.register_vmap(f"detprobe::{name}", rule)


def to_front(value: Tensor, at: int | None, size: int) -> Tensor:
    """A tensor with the batch as its first dimension; expanded where it has none."""
    return value.unsqueeze(0).expand(size, *value.shape) if at is None else value.movedim(at, 0)


def shift_dims(name: str, tensors: int, dim_at: int) -> None:
    """vmap of an op on `tensors` tensors of equal rank: the batch goes to the front and the dimensions move by one."""
    op = getattr(OPS, name).default

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        values = list(args)
        for at in range(tensors):
            values[at] = to_front(values[at], in_dims[at], info.batch_size)
        ndim = values[0].dim() - 1
        dim = values[dim_at]
        if ndim == 0:  # a row of one element
            values[:tensors] = [value.unsqueeze(1) for value in values[:tensors]]
            values[dim_at] = 1 if isinstance(dim, int) else [1]
        elif isinstance(dim, int):
            values[dim_at] = dim % ndim + 1
        else:
            values[dim_at] = [at + 1 for at in reduced_dims(ndim, dim)]
        result = op(*values)
        return (result.squeeze(1) if ndim == 0 and result.dim() == 2 else result), 0

    batched(name, rule)


def _sample(value: Any, at: Any, i: int) -> Any:
    if isinstance(value, Tensor):
        return value if at is None else value.select(at, i)
    if isinstance(value, (list, tuple)) and isinstance(at, (list, tuple)):
        return [_sample(one, place, i) for one, place in zip(value, at, strict=True)]
    return value


def loop(name: str) -> Callable[..., Any]:
    """A rule for torch.vmap: one call for each sample."""
    op = getattr(OPS, name).default

    def rule(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
        if info.batch_size == 0:
            raise ArgumentValueError(f"{name}: torch.vmap: expected a batch of at least one sample, got an empty one")
        results = [
            op(*(_sample(v, at, i) for v, at in zip(args, in_dims, strict=True))) for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = tuple(torch.stack(each) for each in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


def loop_over_batch(name: str) -> None:
    """vmap of an op whose rows cannot hold the batch: one call for each sample."""
    batched(name, loop(name))
