"""One call of each public op, on small tensors of any floating dtype: what the tests of all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detprobe import ops

CLASSES = 4
TARGET = torch.tensor([[0, 3, 1, 2, 0], [-100, 1, 1, 3, 2], [2, 2, -100, 0, 1]])  # [3, 5], with two ignored
RUNNING = (torch.linspace(-1, 1, CLASSES, dtype=torch.float64), torch.linspace(0.5, 2, CLASSES, dtype=torch.float64))
CLASS_WEIGHTS = torch.linspace(0.5, 1.5, CLASSES, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    name: str
    shapes: tuple[tuple[int, ...], ...]
    ours: Callable[..., Tensor]
    torchs: Callable[..., Tensor] | None
    ops: str  # the ops of torch.ops.detprobe that the forward calls

    def inputs(self, dtype: torch.dtype = torch.float64, grad: bool = False) -> list[Tensor]:
        """Fresh leaves; the same values in every call."""
        generator = torch.Generator().manual_seed(len(self.name))
        made = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in self.shapes]
        if self.name == "cross_entropy, probabilities":
            made[1] = made[1].softmax(1)
        return [value.to(dtype).requires_grad_(grad) for value in made]

    def __str__(self) -> str:
        return self.name


def like(values: Any, x: Tensor) -> Any:
    return [value.to(x.dtype) for value in values] if isinstance(values, tuple) else values.to(x.dtype)


X = (3, CLASSES, 5)
CASES = [
    Case("sum", (X,), lambda x: ops.sum(x), lambda x: torch.sum(x), "sum"),
    Case("sum, dim", (X,), lambda x: ops.sum(x, (0, -1)), lambda x: torch.sum(x, (0, -1)), "sum"),
    Case("sum, keepdim", (X,), lambda x: ops.sum(x, 1, True), lambda x: torch.sum(x, 1, True), "sum"),
    Case("exact_sum", (X,), lambda x: ops.exact_sum(x, 1), lambda x: torch.sum(x, 1), "exact_sum"),
    Case("mean", (X,), lambda x: ops.mean(x), lambda x: torch.mean(x), "mean"),
    Case("mean, dim", (X,), lambda x: ops.mean(x, (0, 2), True), lambda x: torch.mean(x, (0, 2), True), "mean"),
    Case("dot", ((7,), (7,)), lambda a, b: ops.dot(a, b), lambda a, b: torch.dot(a, b), "dot"),
    Case("cumsum", (X,), lambda x: ops.cumsum(x, 1), lambda x: torch.cumsum(x, 1), "cumsum"),
    Case("var", (X,), lambda x: ops.var(x, (0, 1)), lambda x: torch.var(x, (0, 1)), "var"),
    Case("var, correction", (X,), lambda x: ops.var(x, correction=3), lambda x: torch.var(x, correction=3), "var"),
    Case("std", (X,), lambda x: ops.std(x, 1, keepdim=True), lambda x: torch.std(x, 1, keepdim=True), "std"),
    *(
        Case(
            f"vector_norm, {ord}",
            (X,),
            lambda x, ord=ord: ops.vector_norm(x, ord, 1),
            lambda x, ord=ord: torch.linalg.vector_norm(x, ord, 1),
            "vector_norm",
        )
        for ord in (0, 1, 2, math.inf, -math.inf)
    ),
    Case("logsumexp", (X,), lambda x: ops.logsumexp(x, (0, 1)), lambda x: torch.logsumexp(x, (0, 1)), "logsumexp"),
    Case("softmax", (X,), lambda x: ops.softmax(x, 1), lambda x: F.softmax(x, 1), "softmax"),
    Case("log_softmax", (X,), lambda x: ops.log_softmax(x, -1), lambda x: F.log_softmax(x, -1), "softmax"),
    Case(
        "layer_norm",
        (X, (5,), (5,)),
        lambda x, w, b: ops.layer_norm(x, (5,), w, b),
        lambda x, w, b: F.layer_norm(x, (5,), w, b),
        "layer_norm",
    ),
    Case(
        "layer_norm, plain",
        (X,),
        lambda x: ops.layer_norm(x, (CLASSES, 5)),
        lambda x: F.layer_norm(x, (CLASSES, 5)),
        "layer_norm",
    ),
    Case(
        "layer_norm, one row",
        ((5,), (5,), (5,)),
        lambda x, w, b: ops.layer_norm(x, (5,), w, b),
        lambda x, w, b: F.layer_norm(x, (5,), w, b),
        "layer_norm",
    ),
    Case(
        "rms_norm",
        (X, (5,)),
        lambda x, w: ops.rms_norm(x, (5,), w),
        lambda x, w: F.rms_norm(x, (5,), w),
        "layer_norm",
    ),
    Case(
        "batch_norm, training",
        (X, (CLASSES,), (CLASSES,)),
        lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        "batch_norm_training",
    ),
    Case(
        "batch_norm",
        (X, (CLASSES,), (CLASSES,)),
        lambda x, w, b: ops.batch_norm(x, *like(RUNNING, x), w, b),
        lambda x, w, b: F.batch_norm(x, *like(RUNNING, x), w, b),
        "batch_norm_inference",
    ),
    Case(
        "cross_entropy",
        (X,),
        lambda x: ops.cross_entropy(x, TARGET, like(CLASS_WEIGHTS, x), label_smoothing=0.1),
        lambda x: F.cross_entropy(x, TARGET, like(CLASS_WEIGHTS, x), label_smoothing=0.1),
        "cross_entropy",
    ),
    Case(
        "cross_entropy, none",
        (X,),
        lambda x: ops.cross_entropy(x, TARGET, reduction="none"),
        lambda x: F.cross_entropy(x, TARGET, reduction="none"),
        "cross_entropy",
    ),
    Case(
        "cross_entropy, sum",
        (X,),
        lambda x: ops.cross_entropy(x, TARGET.clamp(min=0), ignore_index=2, reduction="sum"),
        lambda x: F.cross_entropy(x, TARGET.clamp(min=0), ignore_index=2, reduction="sum"),
        "cross_entropy",
    ),
    Case(
        "cross_entropy, one sample",
        ((CLASSES,),),
        lambda x: ops.cross_entropy(x, torch.tensor(2)),
        lambda x: F.cross_entropy(x, torch.tensor(2)),
        "cross_entropy",
    ),
    Case(
        "cross_entropy, probabilities",
        (X, X),
        lambda x, q: ops.cross_entropy(x, q, like(CLASS_WEIGHTS, x), label_smoothing=0.1),
        lambda x, q: F.cross_entropy(x, q, like(CLASS_WEIGHTS, x), label_smoothing=0.1),
        "cross_entropy",
    ),
]


class Recorder(TorchDispatchMode):
    """Keeps every call of an op of detprobe: the op and its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "detprobe":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))

    def names(self) -> set[str]:
        return {func._opname for func, _ in self.calls}
