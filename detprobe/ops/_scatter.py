"""index_add, scatter_add and scatter_reduce: sums, products and extremes into destinations. Order: DSEG-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentTypeError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import acc, differentiate, fake, rounded, wide
from detprobe.ops._batches import elements_over_batch, slices_over_batch
from detprobe.ops._native import CALLS, OPS, tracing
from detprobe.ops._plan import IndexPlan, of_index
from detprobe.ops._scatter_gradients import of_scatter

__all__ = ["index_add", "scatter_add", "scatter_reduce"]

_REDUCES = ("sum", "prod", "mean", "amax", "amin")
_UNPLANNED = (None, None)


def index_add(
    input: Tensor, dim: int, index: Tensor | IndexPlan, source: Tensor, *, alpha: float = 1, validate: bool = False
) -> Tensor:
    """torch.index_add in one written order (DSEG-1): to each slice of the input, those of the source that go there.

    Example:
        >>> detprobe.ops.index_add(torch.zeros(2), 0, torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
        tensor([0., 3.])

    Args:
        input: `[..., size, ...]` of float16, bfloat16, float32, float64, or of integers or bool, which wrap.
        dim: the dimension that is indexed.
        index: `[n]` int32 or int64, or a plan of it.
        source: `[..., n, ...]` of the input's dtype.
        alpha: the source is multiplied with it; for integers an integer.
        validate: on CUDA, look at the index before the call, and wait for the device; on the CPU that is always done.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, index_add.
    """
    return _index_add("index_add", input, dim, index, "source", source, alpha, validate)


def _index_add(
    op: str, input: Tensor, dim: int, index: Any, name: str, source: Tensor, alpha: Any, validate: bool
) -> Tensor:
    index, plan = of_index(index)
    if validate is False and not tracing():
        short: Tensor | None = CALLS.index_add(input, dim, index, source, alpha, *(plan or _UNPLANNED))
        if short is not None:
            return short
    x, source = _check_index.pair(op, input, index, name, source, _check_index.BOTH)
    at = _check.one_dim(op, dim, x.dim())
    _check_index.vector(op, index)
    if not (x.dim() and source.dim()):
        x, source = (one if one.dim() else one.unsqueeze(0) for one in (x, source))
    _check_index.slices(op, x, at, index.numel(), name, source)
    _check_index.plan(op, x, at, plan)
    alpha = 1 if alpha == 1 else _alpha(alpha, x.dtype)
    arguments = (x, at, index, source, alpha, plan)
    wheres = lambda: _check_index.along(x, at, index)  # noqa: E731
    result: Tensor = _check_index.checked(op, wheres, validate, OPS.index_add.default, *arguments)
    return result if input.dim() else result.squeeze(0)


def _alpha(alpha: Any, dtype: torch.dtype) -> Any:
    if isinstance(alpha, complex):
        raise ArgumentRuntimeError(f"index_add: alpha: expected a real number, got {alpha}")
    _check.real("index_add", "alpha", alpha)
    if dtype.is_floating_point:
        return alpha
    if alpha != int(alpha):
        raise ArgumentRuntimeError(
            f"index_add: alpha: expected an integer beside {_check.names((dtype,))}, got {alpha}: "
            "convert input and source to a float"
        )
    return int(alpha)


@fake("index_add")
def _(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Any, plan: Sequence[Tensor]) -> Tensor:
    return x.clone()


def _index_add_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, index, _, ctx.alpha, plan = inputs
    ctx.save_for_backward(index, *plan)


def _index_add_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    index, *plan = ctx.saved_tensors
    of_source = None
    if ctx.needs_input_grad[3]:
        of_source = OPS.index_select.default(g, ctx.dim, index, plan)
        if ctx.alpha != 1:
            product = OPS.multiply.default(wide(of_source), g.new_full((), ctx.alpha, dtype=acc(g.dtype)))
            of_source = product if product.dtype == g.dtype else rounded(product, g.dtype)
    return g, None, None, of_source, None, None


differentiate("index_add", _index_add_setup, _index_add_backward)
slices_over_batch("index_add", 3)


def scatter_add(input: Tensor, dim: int, index: Tensor | IndexPlan, src: Tensor, *, validate: bool = False) -> Tensor:
    """torch.scatter_add in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.scatter_add(torch.zeros(2), 0, torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
        tensor([0., 3.])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool, which wrap.
        dim: the dimension that is indexed.
        index: int32 or int64, of the input's rank; no size above those of src, nor but along `dim` above the input's.
            Or a plan of `[n]`, for whole slices: then src is `[..., n, ...]` beside an input of `[..., size, ...]`.
        src: of the input's dtype.
        validate: as for index_add.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, scatter_add.
    """
    if isinstance(index, IndexPlan):
        return _index_add("scatter_add", input, dim, index, "src", src, 1, validate)
    return _scatter("scatter_add", input, dim, index, src, "sum", True, validate)


def scatter_reduce(
    input: Tensor,
    dim: int,
    index: Tensor | IndexPlan,
    src: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
    validate: bool = False,
) -> Tensor:
    """torch.scatter_reduce in one written order (DSEG-1).

    Example:
        >>> at, src = torch.tensor([1, 1]), torch.tensor([1.0, 2.0])
        >>> detprobe.ops.scatter_reduce(torch.zeros(2), 0, at, src, "mean", include_self=False)
        tensor([0.0000, 1.5000])

    Args:
        input, dim, index, src: as for scatter_add; there is no mean of bool.
        reduce: "sum", "prod", "mean", "amax" or "amin".
        include_self: whether what the input holds takes part, where something goes.
        validate: as for index_add.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input; a mean of bool.

    Source: csrc/README.md, scatter_reduce.
    """
    if not isinstance(reduce, str):
        raise ArgumentTypeError(f"scatter_reduce: reduce: expected one of {', '.join(_REDUCES)}, got {reduce!r}")
    if reduce not in _REDUCES:
        raise ArgumentRuntimeError(f"scatter_reduce: reduce: expected one of {', '.join(_REDUCES)}, got {reduce!r}")
    _check.boolean("scatter_reduce", "include_self", include_self)
    return _scatter("scatter_reduce", input, dim, index, src, reduce, include_self, validate)


def _scatter(
    op: str, input: Tensor, dim: int, index: Any, src: Tensor, reduce: str, include_self: bool, validate: bool
) -> Tensor:
    index, plan = of_index(index)
    if validate is False and not tracing():
        given = (input, dim, index, src, reduce, include_self)
        short: Tensor | None = CALLS.scatter_reduce(*given, *(plan or _UNPLANNED))
        if short is not None:
            return short
    x, src = _check_index.pair(op, input, index, "src", src, _check_index.BOTH)
    at = _check.one_dim(op, dim, x.dim())
    if reduce == "mean" and x.dtype is torch.bool:
        _check.dtype_in(op, "input", x.dtype, _check.FLOATS + _check.INTEGERS[:-1])
    if not (x.dim() and index.dim() and src.dim()):
        x, index, src = (one if one.dim() else one.unsqueeze(0) for one in (x, index, src))
    if plan:
        _check_index.vector(op, index)
        _check_index.slices(op, x, at, index.numel(), "src", src)
        _check_index.plan(op, x, at, plan)
        index = index.view([-1 if d == at else 1 for d in range(x.dim())]).expand(src.shape)
    elif index.numel():  # torch asks nothing of the shape of an empty one
        _check_index.same_rank(op, x, index, at, "src", src)
    arguments = (x, at, index, src, reduce, include_self, plan)
    wheres = lambda: _check_index.along(x, at, index)  # noqa: E731
    result: Tensor = _check_index.checked(op, wheres, validate, OPS.scatter_reduce.default, *arguments)
    return result if input.dim() else result.squeeze(0)


@fake("scatter_reduce")
def _(
    x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool, plan: Sequence[Tensor]
) -> Tensor:
    return x.clone()


def _scatter_reduce_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim, index, src, ctx.reduce, ctx.include_self, plan = inputs
    values = (x, src, output) if ctx.reduce in ("prod", "amax", "amin") else ()
    ctx.save_for_backward(index, *values, *plan)
    ctx.values, ctx.shape = len(values), src.shape


def _scatter_reduce_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    index, *rest = ctx.saved_tensors
    values, plan = rest[: ctx.values], rest[ctx.values :]
    wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[3])
    of_x, of_src = of_scatter(g, ctx.dim, index, plan, ctx.reduce, ctx.include_self, values, ctx.shape, wanted)
    return of_x, None, None, of_src, None, None, None


differentiate("scatter_reduce", _scatter_reduce_setup, _scatter_reduce_backward)
elements_over_batch("scatter_reduce", 3)
