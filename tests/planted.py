"""Ops that the tests plant: each does one known thing, so that a verdict on it is right or wrong and nothing between.

They go through torch's dispatcher like an extension's ops: `torch.ops.planted.NAME`.
"""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import torch

__all__ = ["chance", "ops"]

_library = torch.library.Library("planted", "DEF")  # lives as long as the process
chance = random.SystemRandom()
"""No generator of the process, and no state that anybody could set back."""


def _plant(schema: str) -> Any:
    name = schema.split("(")[0]
    _library.define(schema)
    return lambda function: _library.impl(name, function, "CPU") or function


@_plant("one_of(Tensor x, int k) -> Tensor")
def _one_of(x: torch.Tensor, k: int) -> torch.Tensor:
    """x plus one of k numbers, each as likely as the others."""
    return x + chance.randrange(k)


@_plant("seldom(Tensor x, float p) -> Tensor")
def _seldom(x: torch.Tensor, p: float) -> torch.Tensor:
    """x, or with probability p x + 1."""
    return x + float(chance.random() < p)


@_plant("under_flag(Tensor x) -> Tensor")
def _under_flag(x: torch.Tensor) -> torch.Tensor:
    """Other bits when torch's deterministic algorithms are on; the same each time."""
    return x + float(torch.are_deterministic_algorithms_enabled())


@_plant("cured_by_flag(Tensor x) -> Tensor")
def _cured_by_flag(x: torch.Tensor) -> torch.Tensor:
    return x if torch.are_deterministic_algorithms_enabled() else x + chance.randrange(1 << 16)


@_plant("refuses_flag(Tensor x) -> Tensor")
def _refuses_flag(x: torch.Tensor) -> torch.Tensor:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError("planted::refuses_flag does not have a deterministic implementation")
    return x + chance.randrange(1 << 16)


@_plant("per_thread(Tensor x) -> Tensor")
def _per_thread(x: torch.Tensor) -> torch.Tensor:
    """A sum that is split by the number of threads."""
    parts = x.flatten().chunk(torch.get_num_threads())
    return torch.stack([part.cumsum(0)[-1] for part in parts]).cumsum(0)[-1]


@_plant("by_layout(Tensor x) -> Tensor")
def _by_layout(x: torch.Tensor) -> torch.Tensor:
    """Other bits for contiguous memory than for any other."""
    return x * 2.0 + float(x.is_contiguous())


@_plant("by_batch(Tensor x) -> Tensor")
def _by_batch(x: torch.Tensor) -> torch.Tensor:
    """Each row's result depends on how many rows there are."""
    return x * 2.0 + float(len(x))


@_plant("when_busy(Tensor x, int idle) -> Tensor")
def _when_busy(x: torch.Tensor, idle: int) -> torch.Tensor:
    """Repeats as long as the process has no more threads than `idle`."""
    return x + chance.randrange(1 << 16) * float(threading.active_count() > idle)


@_plant("draws_numpy(Tensor x) -> Tensor")
def _draws_numpy(x: torch.Tensor) -> torch.Tensor:
    return x + float(np.random.rand())  # noqa: NPY002 - the global one is the point


@_plant("draws_python(Tensor x) -> Tensor")
def _draws_python(x: torch.Tensor) -> torch.Tensor:
    return x + random.random()


@_plant("draws_torch(Tensor x) -> Tensor")
def _draws_torch(x: torch.Tensor) -> torch.Tensor:
    return x + torch.rand(())


@_plant("double_in_secret(Tensor x) -> Tensor")
def _double_in_secret(x: torch.Tensor) -> torch.Tensor:
    """Doubles its argument and does not say so in its schema."""
    return x.mul_(2.0).clone()


def layout_of(tensors: list[torch.Tensor]) -> list[int]:
    """How tensors lie in memory: strides, offset, address modulo 64 bytes, and how far the first is from each."""
    seen: list[int] = []
    for tensor in tensors:
        away = tensor.data_ptr() - tensors[0].data_ptr()
        shares = tensor.untyped_storage().data_ptr() == tensors[0].untyped_storage().data_ptr()
        seen += [*tensor.shape, *tensor.stride(), tensor.storage_offset() % 16, tensor.data_ptr() % 64]
        seen += [int(shares), away if shares else 0]
    return seen


@_plant("reads_layout(Tensor[] tensors) -> Tensor")
def _reads_layout(tensors: list[torch.Tensor]) -> torch.Tensor:
    """How its arguments lie in memory, as numbers."""
    return torch.tensor(layout_of(tensors))


@_plant("writes_by_layout(Tensor(a!)[] tensors) -> Tensor")
def _writes_by_layout(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Reads how its arguments lie and what they hold, and then adds 1 to every byte behind them, once each."""
    seen = layout_of(tensors)
    held = [float(t.double().sum()) for t in tensors]
    for storage in {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}.values():
        torch.empty(0, dtype=torch.uint8).set_(storage).add_(1)
    return torch.tensor([*map(float, seen), *held], dtype=torch.float64)


ops = torch.ops.planted
