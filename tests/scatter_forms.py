"""Every op of the scatter family and every gradient: how it is called on tensors, and what detprobe.reference says.

A form takes a `Draw` and gives (op of torch.ops.detprobe, arguments, expected results as stored bits). What the
reference computes is in acc; here it is rounded and laid over what no record touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detprobe import _C, reference

assert _C  # importing it registers the ops

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
WORDS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}
ONE_HALF = (torch.float16, torch.bfloat16)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stored(t: Tensor) -> np.ndarray:
    """As reference.widen takes it."""
    t = t.contiguous()
    return t.view(torch.uint16).numpy() if t.dtype in ONE_HALF else t.numpy()


def acc(t: Tensor) -> np.ndarray:
    return reference.widen(stored(t), name_of(t.dtype))


def words(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


class Draw(NamedTuple):
    """Where records go, and a source of numbers."""

    index: np.ndarray  # [n] int64
    size: int
    columns: int
    dtype: torch.dtype
    rng: np.random.Generator
    layout: str = "contiguous"

    def numbers(self, *shape: int) -> Tensor:
        """Numbers over some magnitudes, and a few of the corners: NaN, infinities, zeros, subnormals, huge."""
        rng = self.rng
        if self.dtype not in FLOATS:
            low, high = (0, 2) if self.dtype is torch.bool else (-100 if self.dtype.is_signed else 0, 127)
            return laid_out(torch.from_numpy(rng.integers(low, high, shape)).to(self.dtype), self.layout)
        values = rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)
        info = torch.finfo(self.dtype)
        corners = [0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny / 2, -info.tiny / 4, info.max, -info.max]
        rare = rng.random(shape) < 0.04
        values = np.where(rare, rng.choice(corners, shape), values)
        return laid_out(torch.from_numpy(np.asarray(values)).to(self.dtype), self.layout)

    def places(self) -> Tensor:
        index = torch.from_numpy(self.index.copy())
        return index.repeat_interleave(2)[::2] if self.layout != "contiguous" else index

    @property
    def n(self) -> int:
        return len(self.index)


def laid_out(t: Tensor, layout: str) -> Tensor:
    """The same numbers with other strides."""
    if layout == "transposed" and t.dim() > 1:
        return t.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "steps" and t.dim() > 0:
        return t.repeat_interleave(3, dim=-1)[..., ::3]
    if layout == "offset":
        return torch.cat([t.new_ones(1), t.reshape(-1)])[1:].view(t.shape)
    return t


def over(result: reference.Scattered, x: Tensor) -> np.ndarray:
    return reference.store(result, stored(x), name_of(x.dtype))


def rounded(value: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return reference.narrow(value, name_of(dtype))


Form = Callable[[Draw], tuple[str, tuple[Any, ...], list[np.ndarray]]]
FORMS: dict[str, Form] = {}
INTEGER_FORMS: dict[str, Form] = {}


def form(name: str, integers: bool = False) -> Callable[[Form], Form]:
    def add(made: Form) -> Form:
        FORMS[name] = made
        if integers:
            INTEGER_FORMS[name] = made
        return made

    return add


def index_add_form(alpha: float, dim: int) -> Form:
    def make(d: Draw) -> tuple[str, tuple[Any, ...], list[np.ndarray]]:
        shape, many = [3, d.size, d.columns][1 - dim :], [3, d.n, d.columns][1 - dim :]
        x, source = d.numbers(*shape), d.numbers(*many)
        expected = reference.index_add(acc(x), dim, d.index, acc(source), alpha)
        return "index_add", (x, dim, d.places(), source, alpha, []), [over(expected, x)]

    return make


form("index_add", integers=True)(index_add_form(1, 0))
form("index_add, middle", integers=True)(index_add_form(1, 1))
form("index_add, alpha 3", integers=True)(index_add_form(3, 0))
form("index_add, alpha -0.3")(index_add_form(-0.3, 0))


def with_plan(d: Draw) -> list[Tensor]:
    return list(torch.ops.detprobe.index_plan(d.places(), d.size))


@form("index_add, plan")
def _(d: Draw) -> Any:
    x, source = d.numbers(d.size, d.columns), d.numbers(d.n, d.columns)
    expected = reference.index_add(acc(x), 0, d.index, acc(source))
    return "index_add", (x, 0, d.places(), source, 1, with_plan(d)), [over(expected, x)]


def scatter_form(reduce: str, include_self: bool, rows: bool) -> Form:
    def make(d: Draw) -> Any:
        x = d.numbers(d.size, d.columns)
        if rows:  # one index for all columns
            index = d.places()[:, None].expand(d.n, d.columns)
        else:  # another one for every column, and fewer columns than x has
            index = torch.stack([d.places().roll(c) for c in range(max(1, d.columns - 1))], dim=1)
        src = d.numbers(index.shape[0] + 1, d.columns)
        expected = reference.scatter_reduce(acc(x), 0, index.numpy(), acc(src), reduce, include_self)
        return "scatter_reduce", (x, 0, index, src, reduce, include_self, []), [over(expected, x)]

    return make


for _reduce in ("sum", "prod", "mean", "amax", "amin"):
    for _include in (True, False):
        for _rows in (True, False):
            _name = f"scatter_reduce {_reduce}{'' if _include else ', without self'}{', rows' if _rows else ''}"
            form(_name, integers=True)(scatter_form(_reduce, _include, _rows))


def advanced(d: Draw, apart: bool) -> tuple[tuple[int, ...], list[np.ndarray | None]]:
    """A shape and indices into it, some of them counted from the end."""
    index = np.where(d.rng.random(d.n) < 0.5, d.index - d.size, d.index)
    if apart:
        return (d.size, 2, 3, d.columns), [index, None, d.rng.integers(-3, 3, d.n)]
    return (2, d.size, d.columns), [None, index]


def index_put_form(accumulate: bool, apart: bool, broadcast: bool) -> Form:
    def make(d: Draw) -> Any:
        shape, indices = advanced(d, apart)
        x = d.numbers(*shape)
        result = tuple(x[tuple(slice(None) if i is None else torch.from_numpy(i) for i in indices)].shape)
        values = d.numbers(*result) if not broadcast else d.numbers(result[-1])
        tensors = [None if i is None else torch.from_numpy(i.copy()) for i in indices]
        if accumulate:
            expected = over(reference.index_put_accumulate(acc(x), indices, acc(values)), x)
        else:
            expected = reference.index_put(stored(x), indices, stored(values))
        return "index_put", (x, tensors, values, accumulate), [expected]

    return make


for _accumulate in (True, False):
    for _apart in (True, False):
        for _broadcast in (True, False):
            _name = "index_put, accumulate" if _accumulate else "index_put"
            _name += (", apart" if _apart else "") + (", broadcast" if _broadcast else "")
            form(_name, integers=True)(index_put_form(_accumulate, _apart, _broadcast))


@form("index_put, mask, accumulate")
def _(d: Draw) -> Any:
    x, mask = d.numbers(d.size, 4, d.columns), d.rng.random((d.size, 4)) < 0.5
    values = d.numbers(int(mask.sum()), d.columns)
    expected = reference.index_put_accumulate(acc(x), [mask], acc(values))
    return "index_put", (x, [torch.from_numpy(mask)], values, True), [over(expected, x)]


def put_form(accumulate: bool) -> Form:
    def make(d: Draw) -> Any:
        x = d.numbers(d.size, 2)
        index = np.where(d.rng.random(d.n) < 0.5, d.index - 2 * d.size, d.index)
        source = d.numbers(d.n)
        if accumulate:
            expected = over(reference.put_accumulate(acc(x), index, acc(source)), x)
        else:
            expected = reference.put(stored(x), index, stored(source))
        return "put", (x, torch.from_numpy(index), source, accumulate), [expected]

    return make


form("put, accumulate", integers=True)(put_form(True))
form("put", integers=True)(put_form(False))


@form("index_copy", integers=True)
def _(d: Draw) -> Any:
    x, source = d.numbers(2, d.size, d.columns), d.numbers(2, d.n, d.columns)
    return "index_copy", (x, 1, d.places(), source), [reference.index_copy(stored(x), 1, d.index, stored(source))]


@form("scatter", integers=True)
def _(d: Draw) -> Any:
    x = d.numbers(d.size, d.columns)
    index = torch.stack([d.places().roll(c) for c in range(d.columns)], dim=1)
    src = d.numbers(d.n, d.columns)
    columns = [
        reference.index_copy(stored(x)[:, [c]], 0, index[:, c].numpy(), stored(src)[:, [c]]) for c in range(d.columns)
    ]
    return "scatter", (x, 0, index, src), [np.concatenate(columns, axis=1)]


def segment_form(reduce: str, empty: float) -> Form:
    def make(d: Draw) -> Any:
        x = d.numbers(d.n, d.columns)
        ends = np.sort(d.rng.integers(0, d.n + 1, d.size + 1))
        function = {"sum": reference.segment_sum, "mean": reference.segment_mean, "amax": reference.segment_max}[reduce]
        expected = rounded(function(acc(x), ends), d.dtype)
        return "segment_reduce", (x, torch.from_numpy(ends), reduce, empty), [expected]

    return make


form("segment_sum")(segment_form("sum", 0.0))
form("segment_mean")(segment_form("mean", float("nan")))
form("segment_max")(segment_form("amax", float("-inf")))


def embedding_form(padding: int, scale: bool) -> Form:
    def make(d: Draw) -> Any:
        g = d.numbers(d.n, d.columns)
        at = padding if padding < 0 else d.size // 2
        expected = reference.embedding_backward(acc(g), d.size, d.index, None if at < 0 else at, scale)
        return "embedding_backward", (g, d.places(), d.size, at, scale, []), [rounded(expected, d.dtype)]

    return make


form("embedding backward")(embedding_form(-1, False))
form("embedding backward, padding")(embedding_form(0, False))
form("embedding backward, by frequency")(embedding_form(-1, True))
form("embedding backward, padding, by frequency")(embedding_form(0, True))

MODES = ("sum", "mean", "max")


def bag_form(mode: str, weights: bool, padding: bool, last: bool, backward: bool, scale: bool = False) -> Form:
    def make(d: Draw) -> Any:
        weight, per_sample = d.numbers(d.size, d.columns), d.numbers(d.n) if weights else None
        bags = int(d.rng.integers(1, 6))
        offsets = np.sort(d.rng.integers(0, d.n + 1, bags + last))
        offsets[0] = 0
        at = d.size // 2 if padding else None
        options: dict[str, Any] = {"include_last_offset": last, "padding_idx": at}
        options["per_sample_weights"] = None if per_sample is None else acc(per_sample)
        given = (weight, d.places(), torch.from_numpy(offsets), MODES.index(mode), per_sample, last)
        number = -1 if at is None else at
        if not backward:
            expected = reference.embedding_bag(acc(weight), d.index, offsets, mode, **options)
            return "embedding_bag", (*given, number, False), [rounded(expected, d.dtype)]
        g = d.numbers(bags, d.columns)
        found = reference.embedding_bag_backward(
            acc(g), acc(weight), d.index, offsets, mode, scale_grad_by_freq=scale, **options
        )
        of_samples = np.zeros(0, np.float32) if found.per_sample_weights is None else found.per_sample_weights
        expected = [rounded(found.weight, d.dtype), rounded(of_samples.astype(found.weight.dtype), d.dtype)]
        return "embedding_bag_backward", (g, *given, number, scale), expected

    return make


for _mode in MODES:
    for _padding in (False, True):
        for _last in (False, True):
            _name = f"embedding_bag {_mode}{', padding' if _padding else ''}{', last offset' if _last else ''}"
            form(_name)(bag_form(_mode, False, _padding, _last, backward=False))
            form(f"{_name}, backward")(bag_form(_mode, False, _padding, _last, backward=True))
form("embedding_bag sum, weights")(bag_form("sum", True, False, False, backward=False))
form("embedding_bag sum, weights, padding")(bag_form("sum", True, True, False, backward=False))
form("embedding_bag sum, weights, backward")(bag_form("sum", True, True, True, backward=True))
form("embedding_bag mean, by frequency, backward")(bag_form("mean", False, True, False, backward=True, scale=True))


@form("bincount, weights")
def _(d: Draw) -> Any:
    w = d.numbers(d.n)
    exact = w if d.dtype is torch.float32 else w.double()
    expected = rounded(reference.bincount(d.index, exact.numpy(), d.size), exact.dtype)
    return "bincount", (d.places(), w, d.size), [expected]


def finite(t: Tensor) -> Tensor:
    return torch.nan_to_num(t, nan=0.5, posinf=3.0, neginf=-3.0).clamp(-60, 60)


@form("histc")
def _(d: Draw) -> Any:
    x = finite(d.numbers(d.n, 3))
    return "histc", (x, d.size + 1, 0, 0), [rounded(reference.histc(acc(x), d.size + 1), d.dtype)]


@form("histc, range")
def _(d: Draw) -> Any:
    x = d.numbers(d.n, 3)
    expected = reference.histc(acc(x), d.size, -1.3, 2.7)
    return "histc", (x, d.size, -1.3, 2.7), [rounded(expected, d.dtype)]


@form("histogram, edges")
def _(d: Draw) -> Any:
    x = finite(d.numbers(d.n, 3))
    edges = reference.histogram_edges(acc(x), d.size)
    return "histogram_edges", (x, d.size, None), [edges]


def histogram_form(weighted: bool, density: bool) -> Form:
    def make(d: Draw) -> Any:
        x = d.numbers(d.n, 3)
        edges = torch.from_numpy(np.sort(d.rng.standard_normal(d.size + 1) * 3)).to(d.dtype)
        weight = d.numbers(d.n, 3) if weighted else None
        expected = reference.histogram(acc(x), acc(edges), None if weight is None else acc(weight), density)
        return "histogram", (x, edges, weight, density), [rounded(expected, d.dtype)]

    return make


form("histogram")(histogram_form(False, False))
form("histogram, weights")(histogram_form(True, False))
form("histogram, density")(histogram_form(True, True))


def mismatches(op: str, args: tuple[Any, ...], expected: list[np.ndarray]) -> list[str]:
    """Calls the op and says where a bit differs."""
    found = getattr(torch.ops.detprobe, op)(*args)
    found = list(found) if isinstance(found, (tuple, list)) else [found]
    assert len(found) == len(expected)
    lines = []
    for k, (one, wanted) in enumerate(zip(found, expected, strict=True)):
        got, want = words(stored(one)), words(np.asarray(wanted))
        if got.shape != want.shape or got.dtype != want.dtype:
            lines.append(f"result {k}: {got.shape} {got.dtype} instead of {want.shape} {want.dtype}")
        elif (got != want).any():
            at = tuple(int(v) for v in np.argwhere(got != want)[0])
            lines.append(f"result {k}: {int((got != want).sum())} differ, first at {at}: {got[at]:x} not {want[at]:x}")
    return lines
