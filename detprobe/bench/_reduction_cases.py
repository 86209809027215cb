"""What `detprobe bench reductions` times: ops, sizes, layouts, dtypes, and the speed that each is to reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detprobe import ops
from detprobe.bench._machine import last_level_cache
from detprobe.bench._pool import Pool

__all__ = ["COPY_SHARE", "NAMES", "SUMS", "Case", "calls", "cases", "target"]

Calls = tuple[Callable[[], Any], Callable[[], Any]]
"""detprobe's and torch's, without arguments."""

SUMS = ("sum", "mean", "dot", "norm")
ROWWISE = ("softmax", "log_softmax", "cross_entropy", "layer_norm", "rms_norm", "batch_norm")
BACKWARD = ("softmax backward", "layer_norm backward", "cross_entropy backward")
NAMES = (*SUMS, "exact_sum", "var", "std", "logsumexp", *ROWWISE, "cumsum", *BACKWARD)
REDUCED = {"full": None, "random exponents": None, "step": None, "transposed": None, "inner": -1, "outer": 0}
REDUCED |= {"middle": 1, "step rows": -1}


@dataclass(frozen=True)
class Case:
    """One row of the table. `shape` is the logical one."""

    op: str
    layout: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes_in(self) -> int:
        return self.elements * self.dtype.itemsize

    @property
    def bytes_moved(self) -> int:
        """What has to be read and written once, small results left out."""
        if self.op in ("dot", "cumsum", "softmax", "log_softmax", "layer_norm", "rms_norm", "batch_norm"):
            return 2 * self.bytes_in
        if self.op.endswith("backward"):
            return (2 if self.op.startswith("cross_entropy") else 3) * self.bytes_in
        return self.bytes_in


@dataclass(frozen=True)
class Target:
    """A speed to reach, for cases of `low <= elements < high` that come from memory, from cache, or from either."""

    ops: tuple[str, ...]
    layouts: tuple[str, ...]
    speed: float
    low: float = 0
    high: float = math.inf
    memory: bool | None = None

    def covers(self, case: Case, from_memory: bool) -> bool:
        return (
            case.op in self.ops
            and (not self.layouts or case.layout in self.layouts)
            and self.low <= case.elements < self.high
            and self.memory in (None, from_memory)
        )


# The project's own table, by device. The first line that covers a case holds; a case that none covers has no target.
# Where the table names no size, lines begin at 1e4 elements: below that, it is the call that is measured.
TARGETS = {
    "cpu": (
        Target(SUMS, ("full",), 0.8, high=1e4),
        Target(SUMS, ("full",), 1.0, low=1e4, high=1e6 + 1),
        Target(SUMS, ("full",), 0.95, low=1e6 + 1),
        Target(SUMS, ("inner",), 0.95, low=1e4),
        Target(SUMS, ("outer", "middle"), 0.9, low=1e4, memory=False),
        Target(SUMS, ("outer", "middle"), 1.1, low=1e4, memory=True),
        Target(SUMS, ("step", "step rows"), 1.0, low=1e4),
        Target(("exact_sum",), ("random exponents",), 0.1, low=1e4),
        Target(("exact_sum",), ("full",), 0.9, low=1e4, memory=True),
        Target(("exact_sum",), ("full",), 0.45, low=1e4, memory=False),
        Target(ROWWISE, (), 1.1, low=1e4),
        Target(("cumsum",), ("full",), 1.3, low=1e4),
        Target(("cumsum",), ("inner",), 2.0, low=1e4),
    ),
    "cuda": (
        Target(SUMS, (), 0.95),
        Target(ROWWISE, (), 0.9),
        Target(("cumsum",), (), 0.7),
        Target(("exact_sum",), (), 0.6),
    ),
}
TRANSPOSED = {True: 0.7, False: 0.4}  # on a CPU; by whether the logical row is a multiple of 1024
COPY_SHARE = 0.9  # of the bandwidth of a copy: full sums on a GPU, from memory


def target(case: Case, device: str) -> float | None:
    """The speed to reach, or None."""
    if device == "cpu" and case.layout == "transposed":
        return TRANSPOSED[case.shape[-1] % 1024 == 0]
    from_memory = case.bytes_in > last_level_cache(device)
    return next((line.speed for line in TARGETS[device] if line.covers(case, from_memory)), None)


def placed(case: Case, pool: Pool, which: int = 0) -> Tensor:
    """A tensor of the case's shape and layout."""
    shape = case.shape
    if case.layout in ("step", "step rows"):
        return pool.take((*shape[:-1], 2 * shape[-1]), case.dtype, which)[..., ::2]
    if case.layout == "transposed":
        return pool.take(shape[::-1], case.dtype, which).t()
    x = pool.take(shape, case.dtype, which)
    if case.layout == "random exponents":
        powers = torch.randint(-60, 60, shape, generator=torch.Generator().manual_seed(0))
        x = torch.ldexp(x, powers.to(pool.device))
    return x


Pair = tuple[Callable[..., Any], Callable[..., Any]]


def _both(pair: Pair, *args: Any, **kwargs: Any) -> Calls:
    return partial(pair[0], *args, **kwargs), partial(pair[1], *args, **kwargs)


REDUCTIONS: dict[str, Pair] = {
    "sum": (ops.sum, torch.sum),
    "exact_sum": (ops.exact_sum, torch.sum),
    "mean": (ops.mean, torch.mean),
    "norm": (ops.vector_norm, torch.linalg.vector_norm),
    "var": (ops.var, torch.var),
    "std": (ops.std, torch.std),
}
ALONG: dict[str, Pair] = {
    "logsumexp": (ops.logsumexp, torch.logsumexp),
    "softmax": (ops.softmax, torch.softmax),
    "log_softmax": (ops.log_softmax, torch.log_softmax),
    "cumsum": (ops.cumsum, torch.cumsum),
}


def calls(case: Case, pool: Pool) -> Calls:
    """The two functions to time, with their inputs bound."""
    op = case.op.removesuffix(" backward")
    x = placed(case, pool)
    leaves: list[Tensor] = []
    if op != case.op:
        x = x.detach().requires_grad_()
        leaves.append(x)
    if op in REDUCTIONS:
        dim = REDUCED[case.layout]
        return _both(REDUCTIONS[op], x) if dim is None else _both(REDUCTIONS[op], x, dim=dim)
    if op in ALONG:
        dim = -1 if REDUCED[case.layout] is None else REDUCED[case.layout]
        both = _both(ALONG[op], x, dim)
    elif op == "dot":
        y = placed(case, pool, 1)
        both = _both((ops.dot, torch.dot), x, y)
    elif op == "cross_entropy":
        classes = torch.randint(0, case.shape[-1], case.shape[:-1], generator=torch.Generator().manual_seed(0))
        classes = classes.to(pool.device)
        both = _both((ops.cross_entropy, F.cross_entropy), x, classes)
    else:
        channels = case.shape[1] if op == "batch_norm" else case.shape[-1]
        weight, bias = torch.ones(2, channels, dtype=case.dtype, device=pool.device).unbind()
        if leaves:
            leaves += [weight.requires_grad_(), bias.requires_grad_()]
        if op == "layer_norm":
            both = _both((ops.layer_norm, F.layer_norm), x, (channels,), weight, bias)
        elif op == "rms_norm":
            both = _both((ops.rms_norm, F.rms_norm), x, (channels,), weight)
        else:
            rest = (torch.zeros_like(weight), torch.ones_like(weight), weight, bias, case.layout == "training")
            both = _both((ops.batch_norm, F.batch_norm), x, *rest)
    return (_backward(both[0], leaves), _backward(both[1], leaves)) if leaves else both


def _backward(forward: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Any]:
    y = forward()
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.device, y.dtype)
    return partial(torch.autograd.grad, y, leaves, g, retain_graph=True)


def cases(quick: bool) -> Iterator[Case]:
    """All rows of the table, in its order, largest sizes last within a group."""
    top = 10**6 if quick else 10**8
    for case in _cases():
        if case.elements <= 1.1 * top:
            yield case


def _cases() -> Iterator[Case]:
    half, bf16, double = torch.float16, torch.bfloat16, torch.float64
    sizes = [10**k for k in range(2, 9)]
    for op in (*SUMS, "exact_sum"):
        yield from (Case(op, "full", (n,)) for n in sizes)
        yield from (Case(op, "full", (10**6,), dtype) for dtype in (half, bf16, double))
        if op == "exact_sum":
            yield from (Case(op, "random exponents", (n,)) for n in (10**4, 10**6, 10**7))
        if op == "dot":
            continue
        yield from _layouts(op, 10**5, every=op == "sum")
    for op in ("var", "std", "logsumexp"):
        yield from (Case(op, "full", (n,)) for n in sizes[::2])
        if op != "std":
            yield from _layouts(op, 10**4, every=False)
    for op in ROWWISE[:-1]:
        yield from (Case(op, "inner", shape) for shape in ((1, 100), (10, 100), (100, 100), (1000, 100)))
        yield from (Case(op, "inner", shape) for shape in ((10**4, 10), (1000, 1000), (10**4, 1000), (10**5, 1000)))
        yield Case(op, "inner", (32, 32000))
        yield from (Case(op, "inner", (1000, 1000), dtype) for dtype in (half, bf16, double))
        if op.endswith("softmax"):
            yield Case(op, "outer", (1000, 1000))
            yield Case(op, "middle", (32, 64, 1000))
    for mode in ("training", "eval"):
        yield from (Case("batch_norm", mode, shape) for shape in ((100, 100), (64, 1000), (16, 64, 28, 28)))
        yield Case("batch_norm", mode, (32, 64, 56, 56))
    yield from (Case("cumsum", "full", (n,)) for n in sizes)
    yield from (Case("cumsum", "inner", (n, 1000)) for n in (10, 1000, 10**5))
    yield from (Case("cumsum", "outer", (1000, n)) for n in (10, 1000))
    yield from (Case("cumsum", "inner", (1000, 1000), dtype) for dtype in (bf16, double))
    for op in BACKWARD:
        yield from (Case(op, "inner", shape) for shape in ((10, 100), (100, 100), (1000, 1000), (10**4, 1000)))


def _layouts(op: str, most: int, *, every: bool) -> Iterator[Case]:
    """Up to `most` x 1000 elements; torch's own var and logsumexp of 1e8 take seconds in some layouts."""
    yield from (Case(op, "inner", shape) for shape in ((100, 100), (15625, 64), (1000, 1000), (most, 1000)))
    yield from (Case(op, "outer", shape) for shape in ((100, 100), (1000, 1000), (most, 1000)))
    yield from (Case(op, "middle", shape) for shape in ((32, 500, 64), (most // 100, 100, 1000)))
    if every:
        yield from (Case(op, "inner", shape) for shape in ((10**5, 10), (10**6, 100), (32, 32000)))
        yield from (Case(op, "inner", (1000, 1000), dtype) for dtype in (torch.float16, torch.float64))
        yield from (Case(op, "outer", shape) for shape in ((15625, 64), (10**6, 100)))
    if op in ("sum", "norm"):
        yield from (Case(op, "step", (n,)) for n in (10**4, 10**6, 5 * 10**7))
        yield Case(op, "step rows", (1000, 1000))
    if op == "sum":
        for columns in (1024, 1000):
            yield from (Case(op, "transposed", (rows, columns)) for rows in (1000, 10**5))
