"""The aten ops of the scatter family as a user calls them, and beside each what detprobe's own op gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from bit_patterns import logical_bytes

OURS = torch.ops.detprobe
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
ROWS, COLUMNS, N = 40, 6, 3000
OFFSETS = (0, 5, 5, 700, 2999)


class Data:
    """Rows that are added to rows, more than 256 to most of them."""

    def __init__(self, dtype: torch.dtype) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(ROWS, COLUMNS, generator=g).to(dtype)
        self.source = torch.randn(N, COLUMNS, generator=g).to(dtype)
        self.index = torch.randint(0, ROWS, (N,), generator=g).pow(2) // ROWS
        self.element = torch.randint(0, ROWS, (N, COLUMNS), generator=g)
        self.column = torch.randint(-COLUMNS, COLUMNS, (N,), generator=g)
        self.place = torch.randint(-ROWS, ROWS, (N,), generator=g)
        self.weight = torch.randn(N, generator=g).to(dtype)
        self.of_bags = torch.randn(len(OFFSETS), COLUMNS, generator=g).to(dtype)
        self.offsets = torch.tensor(OFFSETS)
        self.zeros = torch.zeros_like(self.x)

    def gradient(self, read: Callable[[torch.Tensor], torch.Tensor], g: torch.Tensor) -> torch.Tensor:
        x = self.x.clone().requires_grad_()
        (out,) = torch.autograd.grad(read(x), x, g)
        return out


class Case(NamedTuple):
    torch: Callable[[Data], torch.Tensor]
    ours: Callable[[Data], torch.Tensor]
    op: str


def in_place(method: str, *names: Any, **options: Any) -> Callable[[Data], torch.Tensor]:
    def run(d: Data) -> torch.Tensor:
        out = d.x.clone()
        arguments = [getattr(d, name) if isinstance(name, str) else name for name in names]
        assert getattr(out, method)(*arguments, **options) is out
        return out

    return run


def into(function: Callable[..., torch.Tensor], *names: Any) -> Callable[[Data], torch.Tensor]:
    def run(d: Data) -> torch.Tensor:
        out = torch.empty(0, dtype=d.x.dtype)
        arguments = [getattr(d, name) if isinstance(name, str) else name for name in names]
        assert function(d.x, *arguments, out=out) is out
        return out

    return run


def added(d: Data) -> torch.Tensor:
    return OURS.index_add(d.x, 0, d.index, d.source, 1, [])


def reduced(d: Data, reduce: str = "sum", include_self: bool = True) -> torch.Tensor:
    return OURS.scatter_reduce(d.x, 0, d.element, d.source, reduce, include_self, [])


CASES = {
    "index_add": Case(lambda d: d.x.index_add(0, d.index, d.source), added, "index_add"),
    "index_add_": Case(in_place("index_add_", 0, "index", "source"), added, "index_add"),
    "index_add.out": Case(into(torch.index_add, 0, "index", "source"), added, "index_add"),
    "index_add alpha": Case(
        lambda d: d.x.index_add(-2, d.index.int(), d.source, alpha=0.3),
        lambda d: OURS.index_add(d.x, 0, d.index, d.source, 0.3, []),
        "index_add",
    ),
    "index_add along the last": Case(
        lambda d: d.x.t().index_add(1, d.index, d.source.t()),
        lambda d: OURS.index_add(d.x, 0, d.index, d.source, 1, []).t().contiguous(),
        "index_add",
    ),
    "scatter_add": Case(lambda d: d.x.scatter_add(0, d.element, d.source), reduced, "scatter_add"),
    "scatter_add_": Case(in_place("scatter_add_", 0, "element", "source"), reduced, "scatter_add"),
    "scatter_add.out": Case(into(torch.scatter_add, 0, "element", "source"), reduced, "scatter_add"),
    "scatter": Case(
        lambda d: d.x.scatter(0, d.element, d.source), lambda d: OURS.scatter(d.x, 0, d.element, d.source), "scatter"
    ),
    "scatter_": Case(
        in_place("scatter_", 0, "element", "source"), lambda d: OURS.scatter(d.x, 0, d.element, d.source), "scatter"
    ),
    "scatter.out": Case(
        into(torch.scatter, 0, "element", "source"), lambda d: OURS.scatter(d.x, 0, d.element, d.source), "scatter"
    ),
    "scatter add": Case(lambda d: d.x.scatter(0, d.element, d.source, reduce="add"), reduced, "scatter"),
    "scatter_ multiply": Case(
        in_place("scatter_", 0, "element", "source", reduce="multiply"), lambda d: reduced(d, "prod"), "scatter"
    ),
    "index_put accumulate": Case(
        lambda d: d.x.index_put((d.place,), d.source, accumulate=True),
        lambda d: OURS.index_put(d.x, [d.place], d.source, True),
        "index_put",
    ),
    "index_put_ accumulate, two": Case(
        lambda d: d.x.clone().index_put_((d.place, d.column), d.weight, accumulate=True),
        lambda d: OURS.index_put(d.x, [d.place, d.column], d.weight, True),
        "index_put",
    ),
    "index_put of the last": Case(
        lambda d: d.x.index_put((d.place,), d.source),
        lambda d: OURS.index_put(d.x, [d.place], d.source, False),
        "index_put",
    ),
    "_unsafe_index_put": Case(
        lambda d: torch.ops.aten._unsafe_index_put(d.x, [d.index], d.source, True),
        lambda d: OURS.index_put(d.x, [d.index], d.source, True),
        "index_put",
    ),
    "index_copy": Case(
        lambda d: d.x.index_copy(0, d.index, d.source),
        lambda d: OURS.index_copy(d.x, 0, d.index, d.source),
        "index_copy",
    ),
    "index_copy_": Case(
        in_place("index_copy_", 0, "index", "source"),
        lambda d: OURS.index_copy(d.x, 0, d.index, d.source),
        "index_copy",
    ),
    "index_copy.out": Case(
        into(torch.index_copy, 0, "index", "source"),
        lambda d: OURS.index_copy(d.x, 0, d.index, d.source),
        "index_copy",
    ),
    "put accumulate": Case(
        lambda d: d.x.put(d.place, d.weight, accumulate=True), lambda d: OURS.put(d.x, d.place, d.weight, True), "put"
    ),
    "put_": Case(in_place("put_", "place", "weight"), lambda d: OURS.put(d.x, d.place, d.weight, False), "put"),
    "index backward": Case(
        lambda d: d.gradient(lambda x: x[d.place], d.source),
        lambda d: OURS.index_put(d.zeros, [d.place], d.source, True),
        "index_put",
    ),
    "index_select backward": Case(
        lambda d: d.gradient(lambda x: x.index_select(0, d.index), d.source),
        lambda d: OURS.index_add(d.zeros, 0, d.index, d.source, 1, []),
        "index_add",
    ),
    "gather backward": Case(
        lambda d: d.gradient(lambda x: x.gather(0, d.element), d.source),
        lambda d: OURS.scatter_reduce(d.zeros, 0, d.element, d.source, "sum", True, []),
        "scatter_add",
    ),
    "take backward": Case(
        lambda d: d.gradient(lambda x: x.take(d.place), d.weight),
        lambda d: OURS.put(d.zeros, d.place, d.weight, True),
        "put",
    ),
    "repeat_interleave backward": Case(
        lambda d: d.gradient(lambda x: x.repeat_interleave(torch.arange(ROWS), 0), d.source[: ROWS * (ROWS - 1) // 2]),
        lambda d: OURS.index_add(
            d.zeros,
            0,
            torch.arange(ROWS).repeat_interleave(torch.arange(ROWS)),
            d.source[: ROWS * (ROWS - 1) // 2],
            1,
            [],
        ),
        "index_add",
    ),
    "embedding backward": Case(
        lambda d: d.gradient(lambda x: F.embedding(d.index, x, padding_idx=3), d.source),
        lambda d: OURS.embedding_backward(d.source, d.index, ROWS, 3, False, []),
        "embedding_dense_backward",
    ),
    "embedding backward by frequency": Case(
        lambda d: d.gradient(lambda x: F.embedding(d.index, x, scale_grad_by_freq=True), d.source),
        lambda d: OURS.embedding_backward(d.source, d.index, ROWS, -1, True, []),
        "embedding_dense_backward",
    ),
    "histc": Case(lambda d: d.source.histc(30, -1, 1), lambda d: OURS.histc(d.source, 30, -1, 1), "histc"),
    "bincount": Case(
        lambda d: d.index.bincount(d.weight, ROWS), lambda d: OURS.bincount(d.index, d.weight, ROWS), "bincount"
    ),
    "segment_reduce sum": Case(
        lambda d: torch.segment_reduce(d.source, "sum", lengths=torch.tensor([0, 700, N - 700])),
        lambda d: OURS.segment_reduce(d.source, torch.tensor([0, 0, 700, N]), "sum", 0.0),
        "segment_reduce",
    ),
    "segment_reduce max": Case(
        lambda d: torch.segment_reduce(d.source, "max", offsets=torch.tensor([0, 0, 700, N])),
        lambda d: OURS.segment_reduce(d.source, torch.tensor([0, 0, 700, N]), "amax", float("-inf")),
        "segment_reduce",
    ),
    **{
        f"scatter_reduce {reduce} {include_self}": Case(
            lambda d, r=reduce, s=include_self: d.x.scatter_reduce(0, d.element, d.source, r, include_self=s),
            lambda d, r=reduce, s=include_self: reduced(d, r, s),
            "scatter_reduce",
        )
        for reduce in ("sum", "prod", "mean", "amax", "amin")
        for include_self in (True, False)
    },
    **{
        f"embedding_bag {mode} {padding}": Case(
            lambda d, m=mode, p=padding: F.embedding_bag(d.index, d.x, d.offsets, mode=m, padding_idx=p),
            lambda d, m=number, p=padding: OURS.embedding_bag(
                d.x, d.index, d.offsets, m, None, False, -1 if p is None else p, False
            ),
            "_embedding_bag_forward_only",
        )
        for number, mode in enumerate(("sum", "mean"))
        for padding in (None, 3)
    },
    **{
        f"embedding_bag backward {mode} {padding} {by_frequency}": Case(
            lambda d, m=mode, p=padding, f=by_frequency: d.gradient(
                lambda x: F.embedding_bag(d.index, x, d.offsets, mode=m, padding_idx=p, scale_grad_by_freq=f), d.of_bags
            ),
            lambda d, m=number, p=padding, f=by_frequency: OURS.embedding_bag_backward(
                d.of_bags, d.x, d.index, d.offsets, m, None, False, -1 if p is None else p, f
            )[0],
            "_embedding_bag_dense_backward",
        )
        for number, mode in enumerate(("sum", "mean", "max"))
        for padding in (None, 3)
        for by_frequency in (False, True)
        if not (mode == "max" and by_frequency)
    },
    "embedding_bag weighted": Case(
        lambda d: F.embedding_bag(d.index, d.x, d.offsets, mode="sum", per_sample_weights=d.weight),
        lambda d: OURS.embedding_bag(d.x, d.index, d.offsets, 0, d.weight, False, -1, False),
        "_embedding_bag_forward_only",
    ),
    "embedding_bag weighted backward": Case(
        lambda d: d.gradient(
            lambda x: F.embedding_bag(d.index, x, d.offsets, mode="sum", per_sample_weights=d.weight), d.of_bags
        ),
        lambda d: OURS.embedding_bag_backward(d.of_bags, d.x, d.index, d.offsets, 0, d.weight, False, -1, False)[0],
        "_embedding_bag_dense_backward",
    ),
}


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert logical_bytes(got.detach()) == logical_bytes(expected.detach())
