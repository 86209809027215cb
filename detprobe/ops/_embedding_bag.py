"""embedding_bag: sums, means and extremes of rows, forward and backward in one written order. Order: DSEG-1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detprobe.errors import ArgumentRuntimeError, ArgumentValueError, UnsupportedError
from detprobe.ops import _check, _check_index
from detprobe.ops._autograd import differentiate, fake, formula_gradient, loop_over_batch, spread, wide, zeros
from detprobe.ops._embedding import padding, rows, table
from detprobe.ops._native import OPS

__all__ = ["embedding_bag"]

OP = "embedding_bag"
_MODES = {"sum": 0, "mean": 1, "max": 2}


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    *,
    validate: bool = False,
) -> Tensor:
    """torch.nn.functional.embedding_bag in one written order (DSEG-1), forward and backward.

    Example:
        >>> detprobe.ops.embedding_bag(torch.tensor([[0, 1]]), torch.tensor([[1.0], [2.0]]), mode="sum")
        tensor([[3.]])

    Args:
        input: `[bags, n]` int32 or int64; or `[n]` with offsets.
        weight: `[rows, D]` of float16, bfloat16, float32 or float64.
        offsets: `[bags]` int32 or int64, ascending from 0: where each bag begins in an input of one dimension.
        max_norm: only None: the norms of rows would be changed on the way.
        norm_type: what goes with max_norm.
        scale_grad_by_freq: divide the gradient of each row by how often it is used in all bags; not with "max".
        mode: "sum", "mean" or "max".
        sparse: only False: the gradient is a dense tensor.
        per_sample_weights: of the shape of input and the dtype of weight, a factor for each row; only with "sum".
        include_last_offset: offsets is `[bags + 1]`, and its last number the end of the last bag.
        padding_idx: a row that is left out of every bag.
        validate: on CUDA, look at the input before the call, and wait for the device; on the CPU that is always done.

    Returns:
        `[bags, D]` of the dtype of weight; 0 for an empty bag.

    Raises:
        ArgumentIndexError: an index out of range, with its position; on CUDA without `validate` the device asserts.
        ArgumentTypeError, ArgumentValueError, ArgumentRuntimeError: where torch raises TypeError and so on, and for
            offsets that do not fit; on CUDA the device asserts these.
        UnsupportedError: max_norm, sparse, per_sample_weights without "sum"; a weight of integers; a complex one.

    Source: csrc/README.md, embedding_bag.
    """
    _check.tensor(OP, "input", input)
    _table(weight, max_norm, sparse)
    _check_index.dtype(OP, "input", input, _check_index.BOTH)
    _check.beside(OP, "input", input, weight, "weight")
    for name, value in (("scale_grad_by_freq", scale_grad_by_freq), ("include_last_offset", include_last_offset)):
        _check.boolean(OP, name, value)
    if mode not in _MODES:
        raise ArgumentValueError(f"{OP}: mode: expected 'sum', 'mean' or 'max', got {mode!r}")
    if scale_grad_by_freq and mode == "max":
        raise ArgumentValueError(f"{OP}: scale_grad_by_freq: expected False with mode 'max', got True")
    if per_sample_weights is not None:
        _samples(per_sample_weights, input, weight, mode)
    row = -1 if padding_idx is None else padding(OP, padding_idx, weight.shape[0])
    index = input
    if input.dim() == 2:
        if offsets is not None:
            raise ArgumentValueError(
                f"{OP}: offsets: expected None beside an input [bags, n], {tuple(input.shape)}, got a tensor"
            )
        offsets = torch.arange(input.shape[0], device=input.device) * input.shape[1]
        index, include_last_offset = input.reshape(-1), False
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    elif input.dim() == 1:
        _offsets(offsets, weight, include_last_offset)
    else:
        raise ArgumentValueError(f"{OP}: input: expected [n] or [bags, n], got shape {tuple(input.shape)}")
    arguments = (index, offsets, _MODES[mode], per_sample_weights, include_last_offset, row, scale_grad_by_freq)
    wheres = lambda: rows(weight, input)  # noqa: E731
    result: Tensor = _check_index.checked(OP, wheres, validate, OPS.embedding_bag.default, weight, *arguments)
    return result


def _table(weight: Any, max_norm: Any, sparse: Any) -> None:
    _check.tensor(OP, "weight", weight)
    if weight.dim() != 2:
        raise ArgumentValueError(f"{OP}: weight: expected shape [rows, D], got {tuple(weight.shape)}")
    table(OP, weight, max_norm, sparse)


def _samples(per_sample_weights: Any, input: Tensor, weight: Tensor, mode: str) -> None:
    name = "per_sample_weights"
    _check.tensor(OP, name, per_sample_weights)
    if mode != "sum":
        raise UnsupportedError(f"{OP}: {name}: expected None with mode {mode!r}, got a tensor: they go with 'sum'")
    if per_sample_weights.shape != input.shape:
        raise ArgumentValueError(
            f"{OP}: {name}: expected shape {tuple(input.shape)} (that of input), got {tuple(per_sample_weights.shape)}"
        )
    _check.dtype_in(OP, name, per_sample_weights.dtype, (weight.dtype,), ArgumentRuntimeError)
    _check.beside(OP, name, per_sample_weights, weight, "weight")


def _offsets(offsets: Any, weight: Tensor, include_last_offset: bool) -> None:
    if offsets is None:
        raise ArgumentValueError(f"{OP}: offsets: expected [bags] beside an input [n], got None")
    _check.tensor(OP, "offsets", offsets)
    if offsets.dim() != 1:
        raise ArgumentValueError(f"{OP}: offsets: expected shape [bags], got {tuple(offsets.shape)}")
    _check_index.dtype(OP, "offsets", offsets, _check_index.BOTH)
    _check.beside(OP, "offsets", offsets, weight, "weight")
    if include_last_offset and offsets.shape[0] == 0:
        raise ArgumentRuntimeError(f"{OP}: offsets: expected [bags + 1] with include_last_offset, got shape (0,)")


@fake(OP)
def _(
    weight: Tensor,
    index: Tensor,
    offsets: Tensor,
    mode: int,
    per_sample_weights: Tensor | None,
    include_last_offset: bool,
    padding_idx: int,
    scale_grad_by_freq: bool,
) -> Tensor:
    return weight.new_empty([offsets.shape[0] - include_last_offset, weight.shape[1]])


@fake("embedding_bag_backward")
def _(
    g: Tensor,
    weight: Tensor,
    index: Tensor,
    offsets: Tensor,
    mode: int,
    per_sample_weights: Tensor | None,
    include_last_offset: bool,
    padding_idx: int,
    scale_grad_by_freq: bool,
) -> tuple[Tensor, Tensor]:
    return g.new_empty(weight.shape), g.new_empty([0] if per_sample_weights is None else index.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, index, offsets, ctx.mode, per_sample_weights, *ctx.rest = inputs
    ctx.save_for_backward(weight, index, offsets, per_sample_weights)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    weight, index, offsets, per_sample_weights = ctx.saved_tensors
    arguments = (g, weight, index, offsets, ctx.mode, per_sample_weights, *ctx.rest)
    of_weight, of_samples = OPS.embedding_bag_backward.default(*arguments)
    return of_weight, None, None, None, None if per_sample_weights is None else of_samples, None, None, None


def _formula(
    g: Tensor,
    weight: Tensor,
    index: Tensor,
    offsets: Tensor,
    mode: int,
    per_sample_weights: Tensor | None,
    include_last_offset: bool,
    padding_idx: int,
    scale_grad_by_freq: bool,
) -> tuple[Tensor, Tensor | None]:
    """The gradient once more, record by record: what its own gradient is made of."""
    bags, count = g.shape[0], weight.shape[0]
    index = index.to(torch.int64)
    records = torch.arange(index.shape[0], dtype=offsets.dtype, device=index.device)
    bag = torch.searchsorted(offsets, records, right=True).to(torch.int64) - 1
    nowhere = (bag < 0) | (bag >= bags) | (index == padding_idx)
    bag, row = bag.masked_fill(nowhere, bags), index.masked_fill(nowhere, count)
    if mode == 2:
        arguments = (offsets, mode, None, include_last_offset, padding_idx, False)
        with torch.no_grad():
            largest = OPS.embedding_bag.default(weight, index, *arguments)
            winner = _winners(weight, index, bag, row, largest)
        return OPS.scatter_reduce.default(_with_nowhere(g, count), 0, winner, g, "sum", True, [])[:count], None
    over = wide(g)
    if mode == 1:
        over = over / _counts(bag, bags).to(over.dtype).unsqueeze(1)
    r = OPS.index_select.default(torch.cat([over, over.new_zeros(1, over.shape[1])]), 0, bag, [])
    of_samples = None
    if per_sample_weights is not None:
        read = wide(OPS.embedding.default(weight, index, -1, False, []))
        of_samples = OPS.sum.default(r * read, [1], False, None).masked_fill(nowhere, 0.0).to(g.dtype)
        r = r * spread(wide(per_sample_weights).unsqueeze(1), r.shape)
    of_weight = OPS.index_add.default(_with_nowhere(r, count), 0, row, r, 1, [])[:count]
    if scale_grad_by_freq:
        of_weight = of_weight / _counts(row, count).to(r.dtype).unsqueeze(1)
    return of_weight.to(g.dtype), of_samples


def _with_nowhere(t: Tensor, count: int) -> Tensor:
    """Rows for a sum, and one more for what belongs to none of them."""
    return zeros(t, [count + 1, t.shape[1]])


def _counts(to: Tensor, size: int) -> Tensor:
    """How many records each of `size` has, at least 1."""
    counts = OPS.index_add.default(zeros(to, [size + 1]), 0, to, to.new_ones([]).expand(to.shape), 1, [])
    return counts[:size].clamp(min=1)


def _winners(weight: Tensor, index: Tensor, bag: Tensor, row: Tensor, largest: Tensor) -> Tensor:
    """[bags, D]: the row that each column of a bag has its number from; one behind the last where a bag is empty."""
    n, (bags, columns) = index.shape[0], largest.shape
    z = OPS.embedding.default(weight, index, -1, False, [])
    y = OPS.index_select.default(torch.cat([largest, largest.new_zeros(1, columns)]), 0, bag, [])
    chosen = ((z == y) & (z.signbit() == y.signbit())) | ((z != z) & (y != y))
    place = torch.arange(n, device=bag.device).unsqueeze(1).expand(n, columns).masked_fill(~chosen, n)
    none = place.new_full([], n).expand(bags + 1, columns)
    to = bag.unsqueeze(1).expand(n, columns)
    first = OPS.scatter_reduce.default(none, 0, to, place, "amin", True, [])[:bags]
    return torch.cat([row, row.new_full([1], weight.shape[0])])[first]


differentiate(OP, _setup, _backward)
formula_gradient("embedding_bag_backward", _formula)
loop_over_batch(OP)
loop_over_batch("embedding_bag_backward")
