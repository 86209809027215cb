"""segment_sum, segment_mean and segment_max: segments that lie in a row along dimension 0. Order: DSEG-1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentTypeError, ArgumentValueError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import acc, batched, differentiate, fake, loop, rounded, wide, zeros
from detprobe.ops._native import OPS

__all__ = ["segment_max", "segment_mean", "segment_sum"]


def segment_sum(input: Tensor, *, lengths: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """The sum of the slices of each segment in one written order (DSEG-1); 0 for an empty one.

    Example:
        >>> detprobe.ops.segment_sum(torch.tensor([1.0, 2.0, 4.0]), lengths=torch.tensor([2, 1]))
        tensor([3., 4.])

    Args:
        input: `[n, ...]` of float16, bfloat16, float32 or float64.
        lengths: `[s]` int32 or int64, at least 0, with the sum n. Or else:
        offsets: `[s + 1]` int32 or int64, ascending from at least 0 to at most n; segment j is the slices offsets[j] to
            offsets[j + 1] - 1. What is before the first or after the last belongs to no segment.

    Returns:
        `[s, ...]` of the input's dtype.

    Raises:
        ArgumentTypeError: not tensors; neither lengths nor offsets, or both.
        ArgumentRuntimeError: another dtype, shape or device; offsets that do not fit. On CUDA the device asserts these.
        ArgumentValueError: lengths that do not fit. On CUDA the device asserts.
        UnsupportedError: integers; a complex, sparse or nested input.

    Source: csrc/README.md, segment_sum.
    """
    return _reduced("segment_sum", input, lengths, offsets, "sum", 0.0)


def segment_mean(input: Tensor, *, lengths: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """The mean of the slices of each segment; NaN for an empty one. Arguments and errors: those of `segment_sum`.

    Source: csrc/README.md, segment_mean.
    """
    return _reduced("segment_mean", input, lengths, offsets, "mean", math.nan)


def segment_max(input: Tensor, *, lengths: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """The largest of each segment, NaN before all; -inf for an empty one. Arguments and errors: those of `segment_sum`.

    Source: csrc/README.md, segment_max.
    """
    return _reduced("segment_max", input, lengths, offsets, "amax", -math.inf)


def _reduced(op: str, input: Any, lengths: Any, offsets: Any, reduce: str, empty: float) -> Tensor:
    _check.tensor(op, "input", input)
    _check.is_floating(op, "input", input)
    if input.dim() == 0:
        raise ArgumentRuntimeError(f"{op}: input: expected [n, ...], got a tensor of 0 dimensions")
    if (lengths is None) == (offsets is None):
        raise ArgumentTypeError(
            f"{op}: expected either lengths or offsets, got {'neither' if lengths is None else 'both'}"
        )
    name, given = ("offsets", offsets) if lengths is None else ("lengths", lengths)
    _check.tensor(op, name, given)
    _check_index.dtype(op, name, given, _check_index.BOTH)
    if given.dim() != 1 or (lengths is None and given.shape[0] == 0):
        expected = "[segments]" if offsets is None else "[segments + 1]"
        raise ArgumentRuntimeError(f"{op}: {name}: expected shape {expected}, got {tuple(given.shape)}")
    _check.beside(op, name, given, input)
    if lengths is not None:
        offsets = _offsets(op, lengths, input.shape[0])
    arguments = (input, offsets, reduce, empty)
    result: Tensor = _check_index.checked(op, list, False, OPS.segment_reduce.default, *arguments)
    return result


def _offsets(op: str, lengths: Tensor, n: int) -> Tensor:
    """Lengths as offsets, which C++ refuses where they descend; what is left to ask for is their sum."""
    offsets = torch.cat([lengths.new_zeros(1, dtype=torch.int64), lengths.cumsum(0, dtype=torch.int64)])
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        try:
            total = int(offsets[-1])
        except RuntimeError:  # a batch of torch.vmap, or a tensor without data
            return offsets
        if total != n or int(offsets.diff().min() if lengths.numel() else 0) < 0:
            raise ArgumentValueError(
                f"{op}: lengths: expected numbers of at least 0 with the sum {n}, the slices of input, got "
                f"{_check_index.shown(lengths)} with the sum {total}"
            )
    elif not lengths.is_meta:
        torch._assert_async(offsets[-1] == n, f"{op}: lengths: expected the sum {n}")
    return offsets


@fake("segment_reduce")
def _(x: Tensor, offsets: Tensor, reduce: str, empty: float) -> Tensor:
    return x.new_empty([offsets.shape[0] - 1, *x.shape[1:]])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offsets, ctx.reduce, _ = inputs
    ctx.n = x.shape[0]
    ctx.save_for_backward(offsets, *((x, output) if ctx.reduce in ("amax", "amin") else ()))


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    offsets, *values = ctx.saved_tensors
    segments = g.shape[0]
    rows = torch.arange(ctx.n, dtype=offsets.dtype, device=offsets.device)
    at = torch.searchsorted(offsets, rows, right=True) - 1
    at = at.masked_fill(at < 0, segments)  # in no segment: before the first as well as behind the last

    def read(t: Tensor) -> Tensor:
        """For every record, what stands at its segment; +0.0 where it is in none."""
        return OPS.index_select.default(torch.cat([t, zeros(t, [1, *t.shape[1:]])]), 0, at, [])

    if ctx.reduce == "sum":
        return read(g), None, None, None
    if ctx.reduce == "mean":
        n = offsets.diff().clamp(min=1).to(acc(g.dtype)).view([-1] + [1] * (g.dim() - 1))
        return read(rounded(wide(g) / n, g.dtype)), None, None, None
    x, y = values
    over = read(y)
    lost = ~((x == over) | ((x != x) & (over != over)))
    counts = OPS.index_add.default(zeros(at, [segments + 1, *g.shape[1:]]), 0, at, (~lost).to(torch.int64), 1, [])
    n = counts[:segments].clamp(min=1).to(acc(g.dtype))
    return read(rounded(wide(g) / n, g.dtype)).masked_fill(lost, 0.0), None, None, None


differentiate("segment_reduce", _setup, _backward)


def _batched() -> Any:
    one_by_one = loop("segment_reduce")

    def rule(info: Any, in_dims: tuple[Any, ...], x: Tensor, offsets: Tensor, *rest: Any) -> tuple[Tensor, int]:
        if in_dims[1] is not None:
            return one_by_one(info, in_dims, x, offsets, *rest)  # type: ignore[no-any-return]
        return OPS.segment_reduce.default(x.movedim(in_dims[0], -1), offsets, *rest), x.dim() - 1

    return rule


batched("segment_reduce", _batched())
