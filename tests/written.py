"""The ops of torch.ops.detprobe, with their arguments, on detprobe.reference: what csrc/README.md says they give.

Tensors come in and go out as bits; between, rows of numpy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from bit_patterns import logical_bytes
from torch import Tensor

from detprobe import reference as R

Array = np.ndarray
NAMES = {
    dtype: str(dtype).removeprefix("torch.")
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.int8, torch.int16),
        *(torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    )
}
HALVES = (torch.float16, torch.bfloat16)


def read(x: Tensor) -> Array:
    """A tensor as acc, in its shape."""
    stored = np.uint16 if x.dtype in HALVES else np.dtype(NAMES[x.dtype])
    return R.widen(np.frombuffer(logical_bytes(x), stored).reshape(tuple(x.shape)), NAMES[x.dtype])


def maybe(x: Tensor | None, like: Array) -> Array | None:
    """A weight or bias, flat, in the acc of `like`; float32 beside a 16-bit input is acc already."""
    return None if x is None else read(x).reshape(-1).astype(like.dtype)


def write(acc: Array, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    return stored(R.narrow(np.ascontiguousarray(acc), NAMES[dtype]), dtype, shape)


def stored(words: Array, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    # From bytes: numpy's empty arrays and torch's bfloat16 do not know each other.
    data = np.ascontiguousarray(words).tobytes()
    if not data:
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(tuple(shape))


def acc_of(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


class Rows:
    """How a tensor falls into rows over some dimensions."""

    def __init__(self, x: Tensor, dim: Sequence[int] | None) -> None:
        self.shape = tuple(x.shape)
        ndim = len(self.shape)
        dims = sorted(d % ndim for d in dim) if dim and ndim else list(range(ndim))
        others = [d for d in range(ndim) if d not in dims]
        self.order = [*others, *dims]
        self.count = math.prod(self.shape[d] for d in others)
        self.n = math.prod(self.shape[d] for d in dims)
        self.kept = [1 if d in dims else size for d, size in enumerate(self.shape)]
        self.dropped = [self.shape[d] for d in others]

    def of(self, x: Tensor) -> Array:
        """[rows, n]"""
        return read(x).transpose(self.order).reshape(self.count, self.n)

    def each(self, x: Tensor) -> Array:
        """[rows], of a tensor with one element for each row."""
        return read(x).reshape(self.count)

    def reduced(self, acc: Array, dtype: torch.dtype, keepdim: bool) -> Tensor:
        return write(acc, dtype, self.kept if keepdim else self.dropped)

    def mapped(self, acc: Array, dtype: torch.dtype) -> Tensor:
        back = acc.reshape([self.shape[d] for d in self.order]).transpose(np.argsort(self.order))
        return write(back, dtype, self.shape)


def _summed(x: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)


def _sum(x: Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    to = _summed(x, dtype)
    x = x if dtype is None else x.to(dtype)
    rows = Rows(x, dim)
    return rows.reduced(R.sum_rows(rows.of(x)), to, keepdim)


def _exact_sum(x: Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    to = _summed(x, dtype)
    x = x if dtype is None else x.to(dtype)
    rows = Rows(x, dim)
    return stored(R.exact_sum_rows(rows.of(x), NAMES[to]), to, rows.kept if keepdim else rows.dropped)


def _reduction(function: Callable[..., Array], converts: bool = False) -> Callable[..., Tensor]:
    def op(x: Tensor, *args: Any) -> Tensor:
        *scalars, dim, keepdim = args[:-1] if converts else args
        x = x.to(args[-1]) if converts and args[-1] else x
        rows = Rows(x, dim)
        return rows.reduced(function(rows.of(x), *scalars), x.dtype, keepdim)

    return op


def _spread(function: Callable[..., Array]) -> Callable[..., Tensor]:
    def op(x: Tensor, dim: Any, keepdim: bool, correction: float) -> Tensor:
        rows = Rows(x, dim)
        return rows.reduced(function(rows.of(x), correction), x.dtype, keepdim)

    return op


def _dot(a: Tensor, b: Tensor, dim: Any, keepdim: bool) -> Tensor:
    rows = Rows(a, dim)
    return rows.reduced(R.sum_products(rows.of(a), rows.of(b)), a.dtype, keepdim)


def _cumsum(x: Tensor, dim: int, reverse: bool, dtype: torch.dtype | None) -> Tensor:
    to = _summed(x, dtype)
    x = x if dtype is None else x.to(dtype)
    rows = Rows(x, [dim])
    return rows.mapped(R.cumsum_rows(rows.of(x), reverse), to)


def _softmax(x: Tensor, dim: int, log: bool, dtype: torch.dtype | None) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    rows = Rows(x, [dim])
    return rows.mapped((R.log_softmax if log else R.softmax)(rows.of(x)), x.dtype)


def _last(x: Tensor, dims: int) -> Rows:
    return Rows(x, list(range(x.dim() - dims, x.dim())))


def _layer_norm(x: Tensor, dims: int, weight: Any, bias: Any, eps: float, centered: bool) -> tuple[Tensor, ...]:
    rows = _last(x, dims)
    z = rows.of(x)
    w, b = maybe(weight, z), maybe(bias, z)
    found = R.layer_norm(z, w, b, eps) if centered else R.rms_norm(z, w, eps)
    outer = x.shape[: x.dim() - dims]
    mean = write(found.mean, acc_of(x.dtype), outer if centered else [0])
    return rows.mapped(found.y, x.dtype), mean, write(found.rstd, acc_of(x.dtype), outer)


def _channels(x: Tensor) -> Rows:
    return Rows(x, [d for d in range(x.dim()) if d != 1])


def _batch_norm_training(x: Tensor, weight: Any, bias: Any, eps: float) -> tuple[Tensor, ...]:
    rows = _channels(x)
    z = rows.of(x)
    found = R.batch_norm_training(z, maybe(weight, z), maybe(bias, z), eps)
    kept = [write(v, acc_of(x.dtype), [rows.count]) for v in (found.mean, found.squares, found.rstd)]
    return rows.mapped(found.y, x.dtype), *kept


def _batch_norm_inference(
    x: Tensor, mean: Tensor, var: Tensor, weight: Any, bias: Any, eps: float
) -> tuple[Tensor, ...]:
    rows = _channels(x)
    z = rows.of(x)
    statistics = maybe(mean, z), maybe(var, z)
    y, r = R.batch_norm_inference(z, *statistics, maybe(weight, z), maybe(bias, z), eps)  # type: ignore[arg-type]
    return rows.mapped(y, x.dtype), write(r, acc_of(x.dtype), [rows.count])


def _running_average(running: Tensor, value: Tensor, divisor: float, momentum: float) -> Tensor:
    old, new = read(running), read(value)
    return write(R.running_average(old.astype(new.dtype), new, divisor, momentum), running.dtype, running.shape)


REDUCTIONS = ("none", "mean", "sum")


def _loss_arguments(x: Tensor, target: Tensor, weight: Any) -> tuple[Rows, tuple[Any, ...]]:
    rows = Rows(x, [min(1, x.dim() - 1)])
    z = rows.of(x)
    flat = rows.of(target) if target.is_floating_point() else target.numpy().reshape(-1)
    return rows, (z, flat, maybe(weight, z))


def _cross_entropy(
    x: Tensor, target: Tensor, weight: Any, reduction: int, ignore_index: int, smoothing: float
) -> tuple[Tensor, ...]:
    rows, arguments = _loss_arguments(x, target, weight)
    options = {"reduction": REDUCTIONS[reduction], "ignore_index": ignore_index, "label_smoothing": smoothing}
    found = R.cross_entropy(*arguments, **options)
    acc = acc_of(x.dtype)
    return (
        write(found.loss, x.dtype, [] if reduction else rows.dropped),
        write(found.total, acc, []),
        write(found.max, acc, rows.dropped),
        write(found.logsum, acc, rows.dropped),
    )


def _each(function: Callable[[Array], Array]) -> Callable[[Tensor], Tensor]:
    return lambda x: write(function(read(x)), x.dtype, x.shape)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    with np.errstate(all="ignore"):
        return write(read(a) * read(b), a.dtype, a.shape)


def _divide(a: Tensor, b: float) -> Tensor:
    z = read(a)
    with np.errstate(all="ignore"):
        return write(z / np.array([b]).astype(z.dtype), a.dtype, a.shape)


_FORWARD: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "exact_sum": _exact_sum,
    "mean": _reduction(R.mean, converts=True),
    "dot": _dot,
    "var": _spread(R.var),
    "std": _spread(R.std),
    "vector_norm": lambda x, ord, dim, keepdim, dtype: _reduction(lambda z: R.vector_norm(z, ord), converts=True)(
        x, dim, keepdim, dtype
    ),
    "logsumexp": _reduction(R.logsumexp),
    "cumsum": _cumsum,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm_training": _batch_norm_training,
    "batch_norm_inference": _batch_norm_inference,
    "running_average": _running_average,
    "cross_entropy": _cross_entropy,
    "multiply": _multiply,
    "divide": _divide,
    "exp": _each(R.exp),
    "log": _each(R.log),
}


def forward(op: str, args: Sequence[Any]) -> tuple[Tensor, ...]:
    """The results of an op."""
    found = _FORWARD[op](*args)
    return found if isinstance(found, tuple) else (found,)


# The gradients: of every tensor among the arguments that has one, by its place.
Gradients = dict[int, Tensor]


def _through(op: str, args: Sequence[Any], g: Tensor, y: Tensor) -> Gradients:
    """Ops of one reduced tensor. With `dtype=`, the gradient is that of the converted input, converted back."""
    x = args[0]
    dim, to = (args[2], args[4]) if op == "vector_norm" else (args[1], args[3] if op in ("sum", "mean") else None)
    z = x if to is None or not isinstance(to, torch.dtype) else x.to(to)
    rows = Rows(z, dim)
    a, slope, result = rows.of(z), rows.each(g), rows.each(y)
    found = {
        "sum": lambda: R.sum_backward(slope, a),
        "exact_sum": lambda: R.sum_backward(slope, a),
        "mean": lambda: R.mean_backward(slope, a),
        "var": lambda: R.var_backward(slope, a, args[3]),
        "std": lambda: R.std_backward(slope, a, result, args[3]),
        "vector_norm": lambda: R.vector_norm_backward(slope, a, result, args[1]),
        "logsumexp": lambda: R.logsumexp_backward(slope, a, result),
    }[op]()
    return {0: rows.mapped(found, z.dtype).to(x.dtype)}


def _along(op: str, args: Sequence[Any], g: Tensor, y: Tensor) -> Gradients:
    """softmax and cumsum."""
    rows = Rows(y, [args[1]])
    slope, result = rows.of(g), rows.of(y)
    if op == "cumsum":
        found = R.cumsum_backward(slope, args[2])
    else:
        found = (R.log_softmax_backward if args[2] else R.softmax_backward)(slope, result)
    return {0: rows.mapped(found, y.dtype).to(args[0].dtype)}


def _of_dot(args: Sequence[Any], g: Tensor) -> Gradients:
    a, b, dim, _ = args
    rows = Rows(a, dim)
    found = R.dot_backward(rows.each(g), rows.of(a), rows.of(b))
    return {at: rows.mapped(one, a.dtype) for at, one in enumerate(found)}


def _of_layer_norm(args: Sequence[Any], g: Tensor, mean: Tensor, rstd: Tensor) -> Gradients:
    x, dims, weight, bias, _, centered = args
    rows = _last(x, dims)
    z, slope = rows.of(x), rows.of(g)
    w = maybe(weight, z)
    if centered:
        found = R.layer_norm_backward(slope, z, rows.each(mean), rows.each(rstd), w)
    else:
        found = (*R.rms_norm_backward(slope, z, rows.each(rstd), w), None)  # type: ignore[assignment]
    return {0: rows.mapped(found[0], x.dtype), **_parameters(found, ((2, weight), (3, bias)))}


def _of_batch_norm(args: Sequence[Any], g: Tensor, mean: Tensor, rstd: Tensor, training: bool) -> Gradients:
    x = args[0]
    weight, bias = args[1:3] if training else args[3:5]
    rows = _channels(x)
    z = rows.of(x)
    op = R.batch_norm_training_backward if training else R.batch_norm_inference_backward
    found = op(rows.of(g), z, maybe(mean, z), read(rstd), maybe(weight, z))  # type: ignore[arg-type]
    places = (1, 2) if training else (3, 4)
    return {0: rows.mapped(found[0], x.dtype), **_parameters(found, tuple(zip(places, (weight, bias), strict=True)))}


def _parameters(found: Sequence[Any], places: Sequence[tuple[int, Tensor | None]]) -> Gradients:
    return {
        at: write(value, like.dtype, like.shape)
        for (at, like), value in zip(places, found[1:], strict=True)
        if like is not None
    }


def _of_cross_entropy(args: Sequence[Any], g: Tensor) -> Gradients:
    x, target, weight, reduction, ignore_index, smoothing = args
    rows, arguments = _loss_arguments(x, target, weight)
    options = {"reduction": REDUCTIONS[reduction], "ignore_index": ignore_index, "label_smoothing": smoothing}
    of_x, of_target = R.cross_entropy_backward(read(g).reshape(-1), *arguments, **options)
    found = {0: rows.mapped(of_x, x.dtype)}
    return found if of_target is None else {**found, 1: rows.mapped(of_target, x.dtype)}


def gradients(op: str, args: Sequence[Any], g: Tensor, results: Sequence[Tensor]) -> Gradients:
    """The gradients of an op's first result, weighed with `g`; `results` are those of `forward`."""
    if op == "dot":
        return _of_dot(args, g)
    if op == "cross_entropy":
        return _of_cross_entropy(args, g)
    if op == "layer_norm":
        return _of_layer_norm(args, g, *results[1:])
    if op == "batch_norm_training":
        return _of_batch_norm(args, g, results[1], results[3], True)
    if op == "batch_norm_inference":
        return _of_batch_norm(args, g, args[1], results[1], False)
    return (_along if op in ("cumsum", "softmax") else _through)(op, args, g, results[0])
