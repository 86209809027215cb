"""scatter, index_copy, index_put and put: where several records go to one place, the last one stays, or all are added.

Order: csrc/README.md, `last` and DSEG-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentIndexError, ArgumentRuntimeError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import differentiate, fake, loop_over_batch, summed_to, zeros
from detprobe.ops._batches import elements_over_batch, slices_over_batch
from detprobe.ops._native import CALLS, OPS, tracing
from detprobe.ops._scatter_gradients import grown

__all__ = ["index_copy", "index_put", "put", "scatter"]

Gradients = tuple[Tensor | None, ...]


def _positions(records: Tensor) -> Tensor:
    """The number of each record in source order."""
    return torch.arange(records.numel(), dtype=torch.int64, device=records.device).view(records.shape)


def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor, *, validate: bool = False) -> Tensor:
    """torch.scatter; of several records for one place, the last in source order stays.

    Example:
        >>> detprobe.ops.scatter(torch.zeros(2), 0, torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
        tensor([0., 2.])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool.
        dim: the dimension that is indexed.
        index: int32 or int64, of the input's rank; no size above those of src, nor but along `dim` above the input's.
        src: of the input's dtype.
        validate: on CUDA, look at the index before the call, and wait for the device; on the CPU that is always done.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, last.
    """
    x, src = _check_index.pair("scatter", input, index, "src", src, _check_index.BOTH)
    at = _check.one_dim("scatter", dim, x.dim())
    if not (x.dim() and index.dim() and src.dim()):
        x, index, src = (one if one.dim() else one.unsqueeze(0) for one in (x, index, src))
    if index.numel():
        _check_index.same_rank("scatter", x, index, at, "src", src)
    wheres = lambda: _check_index.along(x, at, index)  # noqa: E731
    result: Tensor = _check_index.checked("scatter", wheres, validate, OPS.scatter.default, x, at, index, src)
    return result if input.dim() else result.squeeze(0)


@fake("scatter")
def _(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return x.clone()


def _scatter_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, index, src = inputs
    ctx.shape = src.shape
    ctx.save_for_backward(index)


def _scatter_backward(ctx: Any, g: Tensor) -> Gradients:
    (index,) = ctx.saved_tensors
    dim = ctx.dim
    if index.numel() == 0:
        return g, None, None, zeros(g, ctx.shape).clone()
    of_x = OPS.scatter.default(g, dim, index, zeros(g, index.shape)) if ctx.needs_input_grad[0] else None
    of_src = None
    if ctx.needs_input_grad[3]:
        own = _positions(index)
        last = OPS.scatter.default(zeros(own, g.shape), dim, index, own)
        lost = OPS.gather.default(last, dim, index, []) != own
        of_src = grown(OPS.gather.default(g, dim, index, []).masked_fill(lost, 0.0), ctx.shape)
    return of_x, None, None, of_src


differentiate("scatter", _scatter_setup, _scatter_backward)
elements_over_batch("scatter", 3)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, *, validate: bool = False) -> Tensor:
    """torch.index_copy; of several slices for one place, the last in source order stays.

    Example:
        >>> detprobe.ops.index_copy(torch.zeros(2), 0, torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
        tensor([0., 2.])

    Args:
        input: `[..., size, ...]` of float16, bfloat16, float32, float64, or of integers or bool.
        dim: the dimension that is indexed.
        index: `[n]` int64.
        source: `[..., n, ...]` of the input's dtype.
        validate: as for scatter.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, index_copy.
    """
    x, source = _check_index.pair("index_copy", input, index, "source", source, _check_index.LONG)
    at = _check.one_dim("index_copy", dim, x.dim())
    _check_index.vector("index_copy", index)
    if not (x.dim() and source.dim()):
        x, source = (one if one.dim() else one.unsqueeze(0) for one in (x, source))
    _check_index.slices("index_copy", x, at, index.numel(), "source", source, ArgumentIndexError)
    wheres = lambda: _check_index.along(x, at, index)  # noqa: E731
    arguments = (x, at, index, source)
    result: Tensor = _check_index.checked("index_copy", wheres, validate, OPS.index_copy.default, *arguments)
    return result if input.dim() else result.squeeze(0)


@fake("index_copy")
def _(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return x.clone()


def _index_copy_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, index, source = inputs
    ctx.shape = source.shape
    ctx.save_for_backward(index)


def _index_copy_backward(ctx: Any, g: Tensor) -> Gradients:
    (index,) = ctx.saved_tensors
    dim = ctx.dim
    of_x = OPS.index_copy.default(g, dim, index, zeros(g, ctx.shape)) if ctx.needs_input_grad[0] else None
    of_source = None
    if ctx.needs_input_grad[3]:
        own = _positions(index.reshape(-1))
        last = OPS.index_copy.default(zeros(own, [g.shape[dim]]), 0, index, own)
        lost = OPS.index_select.default(last, 0, index, []) != own
        lost = lost.view([-1 if d == dim else 1 for d in range(g.dim())])
        of_source = OPS.index_select.default(g, dim, index, []).masked_fill(lost, 0.0)
    return of_x, None, None, of_source


differentiate("index_copy", _index_copy_setup, _index_copy_backward)
slices_over_batch("index_copy", 3)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False, *, validate: bool = False) -> Tensor:
    """torch.put; of several elements for one place the last stays, or all are added in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.put(torch.zeros(1, 2), torch.tensor([1, -1]), torch.tensor([1.0, 2.0]), accumulate=True)
        tensor([[0., 3.]])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool, written to as if it were flat.
        index: `[...]` int64, from -numel to numel - 1.
        source: as many elements as index has, of the input's dtype.
        accumulate: add to what is there, instead of replacing it.
        validate: as for scatter.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, put.
    """
    x, source = _check_index.pair("put", input, index, "source", source, _check_index.LONG)
    _check.boolean("put", "accumulate", accumulate)
    if index.numel() != source.numel():
        raise ArgumentIndexError(
            f"put: source: expected {index.numel()} elements, as many as index {tuple(index.shape)} has, got "
            f"{source.numel()}, {tuple(source.shape)}"
        )
    wheres = lambda: _check_index.flat(x, index)  # noqa: E731
    arguments = (x, index, source, accumulate)
    result: Tensor = _check_index.checked("put", wheres, validate, OPS.put.default, *arguments)
    return result


@fake("put")
def _(x: Tensor, index: Tensor, source: Tensor, accumulate: bool) -> Tensor:
    return x.clone()


def _put_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, index, source, ctx.accumulate = inputs
    ctx.shape = source.shape
    ctx.save_for_backward(index)


def _put_backward(ctx: Any, g: Tensor) -> Gradients:
    (index,) = ctx.saved_tensors
    of_x, of_source = g, None
    if ctx.needs_input_grad[0] and not ctx.accumulate:
        of_x = OPS.put.default(g, index, zeros(g, index.shape), False)
    if ctx.needs_input_grad[2]:
        of_source = OPS.take.default(g, index)
        if not ctx.accumulate:
            own = _positions(index)
            last = OPS.put.default(zeros(own, [g.numel()]), index, own, False)
            of_source = of_source.masked_fill(OPS.take.default(last, index) != own, 0.0)
        of_source = of_source.reshape(ctx.shape)
    return of_x, None, of_source, None


differentiate("put", _put_setup, _put_backward)
loop_over_batch("put")


def index_put(
    input: Tensor,
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
    *,
    validate: bool = False,
) -> Tensor:
    """torch.index_put; of several records for one place the last stays, or all are added in one written order (DSEG-1).

    Example:
        >>> x, at = torch.zeros(2, 2), torch.tensor([1, -1])
        >>> detprobe.ops.index_put(x, (None, at), torch.tensor([1.0, 2.0]), accumulate=True)
        tensor([[0., 3.],
                [0., 3.]])

    Args:
        input: `[...]` of float16, bfloat16, float32, float64, or of integers or bool.
        indices: as for index.
        values: of the input's dtype, and of a shape that broadcasts to that of input[indices].
        accumulate: add to what is there, instead of replacing it.
        validate: as for scatter.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: a complex, float8, sparse or nested input.

    Source: csrc/README.md, index_put.
    """
    op = "index_put"
    if validate is False and not tracing():
        short: Tensor | None = CALLS.index_put(input, indices, values, accumulate)
        if short is not None:
            return short
    _check.tensor(op, "input", input)
    _check.tensor(op, "values", values)
    _check_index.numbers(op, "input", input)
    x, values = _check_index.one_dtype(op, input, "values", values)
    _check.boolean(op, "accumulate", accumulate)
    found = _check_index.advanced(op, x, indices)
    if values.device != x.device:
        if values.dim() or values.device.type != "cpu":
            _check.beside(op, "values", values, x)
        values = values.to(x.device)
    wheres = lambda: _check_index.each(x, found)  # noqa: E731
    try:
        result: Tensor = _check_index.checked(op, wheres, validate, OPS.index_put.default, x, found, values, accumulate)
    except RuntimeError as error:
        if torch.compiler.is_compiling() or x.device.type != "cpu" or type(error) is not RuntimeError:
            raise
        shape = tuple(torch.ops.aten.index.Tensor(x.detach(), found).shape)
        raise ArgumentRuntimeError(
            f"{op}: values: expected a shape that broadcasts to {shape}, that of input[indices], got "
            f"{tuple(values.shape)}"
        ) from None
    return result


@fake("index_put")
def _(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool) -> Tensor:
    return x.clone()


def _index_put_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, indices, values, ctx.accumulate = inputs
    ctx.shape, ctx.whole = values.shape, [one is None for one in indices]
    ctx.save_for_backward(*(one for one in indices if one is not None))


def _index_put_backward(ctx: Any, g: Tensor) -> Gradients:
    tensors = iter(ctx.saved_tensors)
    indices = [None if whole else next(tensors) for whole in ctx.whole]
    of_x, of_values = g, None
    if ctx.needs_input_grad[0] and not ctx.accumulate:
        of_x = OPS.index_put.default(g, indices, g.new_zeros(()), False)
    if ctx.needs_input_grad[2]:
        of_values = OPS.index.default(g, indices)
        if not ctx.accumulate:
            of_values = of_values.masked_fill(_is_lost(g, indices), 0.0)
        of_values = summed_to(of_values, ctx.shape)
    return of_x, None, of_values, None


def _is_lost(g: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Which records are not the last for their place: broadcasts to the shape of g[indices]."""
    shape, dim = [1] * g.dim(), 0
    for index in indices:
        taken = index.dim() if index is not None and index.dtype in (torch.bool, torch.uint8) else 1
        if index is not None:
            shape[dim : dim + taken] = g.shape[dim : dim + taken]
        dim += taken
    nowhere = g.new_zeros((), dtype=torch.int64).expand(shape)
    own = _positions(OPS.index.default(nowhere, indices))
    return OPS.index.default(OPS.index_put.default(nowhere, indices, own, False), indices) != own


differentiate("index_put", _index_put_setup, _index_put_backward)
loop_over_batch("index_put")
