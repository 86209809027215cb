"""How far float32 results are from the exact ones, detprobe's beside torch's, in units of u = 2^-24 (`Error.unit`).

Sums, means, inner products and norms: the median over many draws, from sums that math.fsum takes of the exact elements
or products. All others: the largest error of any element, against torch in float64, beside a bound.

Bounds are those of csrc/README.md: 36 q for S and P and 64 q for G, q = ceil(log_1024 n), exp 1.96, log 1.02, every
other operation 1. They are put together to first order in u. `spread` is the largest distance of an element from the
maximum of its row: so much can rounding that difference change exp of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detprobe import ops

__all__ = ["Error", "compared", "of_others", "of_sums"]

UNIT = 2.0**-24
LENGTH = 100_000
SHAPE = (64, 1000)
normal = np.random.Generator.standard_normal  # torch.randn draws other numbers on other CPUs


@dataclass(frozen=True)
class Error:
    """One line: what the number is, detprobe's, torch's, and the bound that the contract gives."""

    op: str
    input: str
    statistic: str
    unit: str
    detprobe: float
    torch: float
    bound: float
    verdict: str
    """Of a median "no worse", "WORSE", or "alike": above torch's, by less than these draws can tell. Of a largest error
    "within" or "OUTSIDE" of the bound."""


def compared(ours: list[float], stock: list[float]) -> str:
    """Verdict on two medians of the same draws. What draws can tell: 95 % of 2000 bootstrap samples of the draws."""
    both = torch.tensor([ours, stock], dtype=torch.float64)
    if median(ours) <= median(stock):
        return "no worse"
    picked = torch.randint(len(ours), (2000, len(ours)), generator=torch.Generator().manual_seed(0))
    medians = both[:, picked].median(-1).values
    return "WORSE" if (medians[0] > medians[1]).double().mean().item() >= 0.95 else "alike"


def levels(n: int) -> int:
    """q of the bound of a sum of n terms."""
    return max(1, math.ceil(math.log(n, 1024)))


def of_sums(device: str, draws: int) -> Iterator[Error]:
    """sum, mean, dot, norm: the median of |result - exact| over the draws."""
    for name, draw in (("U(0, 1)", np.random.Generator.random), ("N(0, 1)", normal)):
        gaps: dict[str, tuple[list[float], list[float]]] = {op: ([], []) for op in ("sum", "mean", "dot", "norm")}
        for seed in range(draws):
            generator = np.random.default_rng(seed)
            a, b = (torch.from_numpy(draw(generator, LENGTH, np.float32)) for _ in range(2))
            products, squares = ((a.double() * other.double()).tolist() for other in (b, a))
            total, weight = math.fsum(a.tolist()), math.fsum(a.abs().tolist())
            root = math.sqrt(math.fsum(squares))
            exact = {
                "sum": (total, weight),
                "mean": (total / LENGTH, weight / LENGTH),
                "dot": (math.fsum(products), math.fsum(map(abs, products))),
                "norm": (root, root),
            }
            a, b = a.to(device), b.to(device)
            results = {
                "sum": (ops.sum(a), torch.sum(a)),
                "mean": (ops.mean(a), torch.mean(a)),
                "dot": (ops.dot(a, b), torch.dot(a, b)),
                "norm": (ops.vector_norm(a), torch.linalg.vector_norm(a)),
            }
            for op, pair in results.items():
                value, scale = exact[op]
                for kept, result in zip(gaps[op], pair, strict=True):
                    kept.append(abs(result.item() - value) / (UNIT * scale))
        depth = 36 * levels(LENGTH)
        bounds = {"sum": depth, "mean": depth + 2, "dot": depth, "norm": depth / 2 + 1}
        units = {"sum": "u sum|x|", "mean": "u sum|x| / n", "dot": "u sum|a b|", "norm": "u norm"}
        for op, (ours, stock) in gaps.items():
            middle = median(ours), median(stock)
            verdict = compared(ours, stock) if middle[0] <= bounds[op] else "OUTSIDE"
            yield Error(op, f"{name} [{LENGTH}]", f"median of {draws}", units[op], *middle, bounds[op], verdict)


def of_others(device: str, draws: int) -> Iterator[Error]:
    """Every other op on N(0, 1): the largest error of any element of any draw."""
    n = SHAPE[-1]
    drawn = (normal(np.random.default_rng(seed), SHAPE, np.float32) for seed in range(draws))
    inputs = [torch.from_numpy(one).to(device) for one in drawn]
    classes = torch.randint(0, n, SHAPE[:1], generator=torch.Generator().manual_seed(0)).to(device)
    weight, bias = torch.from_numpy(normal(np.random.default_rng(draws), (2, n), np.float32)).to(device).unbind()
    spread = max((x.amax(-1) - x.amin(-1)).max().item() for x in inputs)
    depth, columns = 36 * levels(n), 36 * levels(SHAPE[0])
    log_sum = depth + spread + 2 + 1.02 * math.log(n)

    def relative(exact: Tensor, x: Tensor) -> Tensor:
        return exact.abs()

    def at_least_1(exact: Tensor, x: Tensor) -> Tensor:
        return exact.abs().clamp(min=1)

    def running(exact: Tensor, x: Tensor) -> Tensor:
        return x.abs().cumsum(-1)

    def normed(exact: Tensor, x: Tensor) -> Tensor:
        """What a normalized element is made of, so that a cancellation of weight and bias is nobody's error."""
        return (exact - bias.double()).abs() + weight.double().abs() + bias.double().abs()

    def table() -> Iterator[tuple[str, str, Any, float, Any, Any, tuple[Any, ...]]]:
        yield "var", "u var", relative, depth + 4, ops.var, torch.var, (-1,)
        yield "std", "u std", relative, depth / 2 + 3, ops.std, torch.std, (-1,)
        yield "logsumexp", "u max(|y|, 1)", at_least_1, log_sum + 1, ops.logsumexp, torch.logsumexp, (-1,)
        yield "softmax", "u y", relative, depth + 2 * spread + 5, ops.softmax, torch.softmax, (-1,)
        log_softmax = ops.log_softmax, torch.log_softmax, (-1,)
        yield "log_softmax", "u max(|y|, 1)", at_least_1, log_sum + spread + 1, *log_softmax
        losses = ops.cross_entropy, F.cross_entropy, (classes,)
        yield "cross_entropy", "u max(|y|, 1)", at_least_1, log_sum + spread + 2 + columns, *losses
        norms = ops.layer_norm, F.layer_norm, ((n,), weight, bias)
        yield "layer_norm", "u (|h w| + |w| + |b|)", normed, 1.5 * depth + 9, *norms
        yield "rms_norm", "u |y|", relative, depth / 2 + 6, ops.rms_norm, F.rms_norm, ((n,), weight, 1e-5)
        channels = None, None, weight, bias, True
        yield "batch_norm", "u (|h w| + |w| + |b|)", normed, 1.5 * columns + 9, ops.batch_norm, F.batch_norm, channels
        yield "cumsum", "u running sum|x|", running, 64 * levels(n), ops.cumsum, torch.cumsum, (-1,)

    for op, unit, scale, bound, ours, stock, parameters in table():
        wide = [p.double() if isinstance(p, Tensor) and p.is_floating_point() else p for p in parameters]
        worst = []
        for function in (ours, stock):
            gaps = []
            for x in inputs:
                value = stock(x.double(), *wide)
                gap = (function(x, *parameters).double() - value).abs() / (UNIT * scale(value, x.double()))
                gaps.append(gap.max().item())
            worst.append(max(gaps))
        verdict = "within" if worst[0] <= bound else "OUTSIDE"
        yield Error(op, f"N(0, 1) {list(SHAPE)}", "largest", unit, worst[0], worst[1], bound, verdict)
