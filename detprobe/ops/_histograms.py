"""bincount, histc and histogram: exact counts, and weights summed by DSEG-1. Bins: csrc/README.md, "Bins"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentTypeError, ArgumentValueError, UnsupportedError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import acc, differentiate, fake, loop_over_batch
from detprobe.ops._native import OPS

__all__ = ["Histogram", "bincount", "histc", "histogram"]


class Histogram(NamedTuple):
    """What `histogram` returns."""

    hist: Tensor
    """`[bins]`"""
    bin_edges: Tensor
    """`[bins + 1]`"""


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """torch.bincount; weights are summed in one written order (DSEG-1). Waits for the device, as torch's does.

    Example:
        >>> detprobe.ops.bincount(torch.tensor([0, 2, 2]), torch.tensor([1.0, 2.0, 4.0]))
        tensor([1., 0., 6.])

    Args:
        input: `[n]` of integers of at least 0.
        weights: `[n]` of floats, integers or bool. They have no gradient.
        minlength: the least size of the result.

    Returns:
        `[max(largest + 1, minlength)]` int64; with weights float32 where they are, else float64.

    Raises:
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: an input of floats or bool; a sparse or nested one.

    Source: csrc/README.md, bincount.
    """
    op = "bincount"
    _check.tensor(op, "input", input)
    _check.dtype_in(op, "input", input.dtype, _check.INTEGERS[:-1])
    if input.dim() != 1:
        raise ArgumentRuntimeError(f"{op}: input: expected shape [n], got {tuple(input.shape)}: pass .flatten()")
    _whole(op, "minlength", minlength, 0)
    if weights is not None:
        _check.tensor(op, "weights", weights)
        _check_index.numbers(op, "weights", weights)
        _check.shape_of(op, "weights", weights, input.shape, "that of input")
        _check.beside(op, "weights", weights, input)
    result: Tensor = _check_index.checked(op, list, False, OPS.bincount.default, input, weights, minlength)
    return result


def _whole(op: str, name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise ArgumentTypeError(f"{op}: {name}: expected an int, got {value!r}")
    if value < least:
        raise ArgumentRuntimeError(f"{op}: {name}: expected at least {least}, got {value}")


def _ends(op: str, low: Any, high: Any, names: tuple[str, str]) -> None:
    for name, value in zip(names, (low, high), strict=True):
        _check.real(op, name, value)
        if not math.isfinite(value):
            raise ArgumentRuntimeError(f"{op}: {name}: expected a finite number, got {value}")
    if low > high:
        raise ArgumentRuntimeError(f"{op}: expected {names[0]} not above {names[1]}, got {low} and {high}")


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """torch.histc with exact counts; without a range it waits for the device, as torch's does.

    Example:
        >>> detprobe.ops.histc(torch.tensor([1.0, 2.0, 1.0]), bins=2, min=0, max=3)
        tensor([2., 1.])

    Args:
        input: `[...]` of float16, bfloat16, float32 or float64.
        bins: how many bins of one width.
        min, max: the range; where they are equal, that of the input.

    Returns:
        `[bins]` of the input's dtype, without a gradient.

    Raises:
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, histc.
    """
    _check.tensor("histc", "input", input)
    _check.is_floating("histc", "input", input)
    _whole("histc", "bins", bins, 1)
    _ends("histc", min, max, ("min", "max"))
    result: Tensor = _check_index.checked("histc", list, False, OPS.histc.default, input, bins, min, max)
    return result


def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """torch.histogram, on any device; weights are summed in one written order (DSEG-1).

    Example:
        >>> detprobe.ops.histogram(torch.tensor([1.0, 2.0, 1.0]), bins=2, range=(0.0, 3.0)).hist
        tensor([2., 1.])

    Args:
        input: `[...]` of float16, bfloat16, float32 or float64.
        bins: how many bins of one width, or their edges: `[bins + 1]` of the input's dtype, not descending.
        range: of bins of one width, as (low, high); None: that of the input.
        weight: of the shape and dtype of the input. It has no gradient.
        density: divide by the sum and by the width of each bin.

    Returns:
        Histogram: hist `[bins]` and bin_edges `[bins + 1]`, both of the input's dtype.

    Raises:
        ArgumentTypeError, ArgumentRuntimeError: where torch raises TypeError and RuntimeError.
        ArgumentValueError: edges that descend; on CUDA they are not looked at.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, histogram.
    """
    op = "histogram"
    _check.tensor(op, "input", input)
    _check.is_floating(op, "input", input)
    _check.boolean(op, "density", density)
    if weight is not None:
        _check.tensor(op, "weight", weight)
        _check.shape_of(op, "weight", weight, input.shape, "that of input")
        _check.dtype_in(op, "weight", weight.dtype, (input.dtype,), ArgumentRuntimeError)
        _check.beside(op, "weight", weight, input)
    if isinstance(bins, Tensor):
        if range is not None:
            raise ArgumentTypeError(f"{op}: range: expected None beside edges, got {tuple(range)}")
        edges = _edges(op, bins, input)
    else:
        _whole(op, "bins", bins, 1)
        if range is not None:
            if len(range) != 2:
                raise ArgumentRuntimeError(f"{op}: range: expected two numbers, got {tuple(range)}")
            _ends(op, range[0], range[1], ("range[0]", "range[1]"))
            range = [float(value) for value in range]
        edges = _check_index.checked(op, list, False, OPS.histogram_edges.default, input, bins, range)
    hist = _check_index.checked(op, list, False, OPS.histogram.default, input, edges, weight, density)
    return Histogram(hist, edges.to(input.dtype))


def _edges(op: str, edges: Tensor, input: Tensor) -> Tensor:
    _check.tensor(op, "bins", edges)
    if edges.dim() != 1 or edges.shape[0] < 2:
        raise ArgumentRuntimeError(
            f"{op}: bins: expected edges [bins + 1], at least two of them, got shape {tuple(edges.shape)}"
        )
    _check.dtype_in(op, "bins", edges.dtype, (input.dtype,), ArgumentRuntimeError)
    _check.beside(op, "bins", edges, input)
    if edges.device.type == "cpu" and not torch.compiler.is_compiling() and not bool((edges[:-1] <= edges[1:]).all()):
        raise ArgumentValueError(
            f"{op}: bins: expected edges that do not descend, got {_check_index.shown(edges)}: sort them"
        )
    return edges.contiguous()


@fake("bincount")
def _(x: Tensor, weights: Tensor | None, minlength: int) -> Tensor:
    if x.is_meta and not isinstance(x, torch._subclasses.FakeTensor):
        raise UnsupportedError("bincount: input: expected a tensor with data, which decide the size, got one on meta")
    size = torch.library.get_ctx().new_dynamic_size(min=minlength)
    dtype = torch.int64 if weights is None else torch.float32 if weights.dtype is torch.float32 else torch.float64
    return x.new_empty([size], dtype=dtype)


@fake("histc")
def _(x: Tensor, bins: int, low: float, high: float) -> Tensor:
    return x.new_empty([bins])


@fake("histogram_edges")
def _(x: Tensor, bins: int, range: Sequence[float] | None) -> Tensor:
    return x.new_empty([bins + 1], dtype=acc(x.dtype))


@fake("histogram")
def _(x: Tensor, edges: Tensor, weight: Tensor | None, density: bool) -> Tensor:
    return x.new_empty([edges.shape[0] - 1])


def _without_gradient(name: str, refused: bool) -> None:
    """A result that has none; where torch says so only when it is asked for one, the same is done here."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not refused:
            ctx.mark_non_differentiable(output)

    def backward(ctx: Any, g: Tensor) -> Any:
        raise UnsupportedError(f"{name}: there is no gradient: detach() its arguments")

    differentiate(name, setup, backward)
    loop_over_batch(name)


_without_gradient("histc", refused=False)
_without_gradient("histogram_edges", refused=False)
_without_gradient("bincount", refused=True)
_without_gradient("histogram", refused=True)
