"""Tensors inside nested Python values: arguments, results, model outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

__all__ = ["describe", "is_plain", "map_tensors", "tensors_in"]


def is_plain(tensor: torch.Tensor) -> bool:
    """True for a tensor with memory of its own that strides describe: what can be kept, filled and compared."""
    return (
        tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_nested and not tensor._is_zerotensor()
    )


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for entry in dataclasses.fields(value):
            yield from tensors_in(getattr(value, entry.name, None))


def map_tensors(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Nested tuples, lists and dicts with `function` put in the place of each tensor; other values stay."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_tensors(function, item) for item in value]
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    return value


def describe(value: Any, limit: int = 6) -> str:
    """Types and shapes: "float32[300, 3], int64[11980], 2 more"."""
    tensors = list(tensors_in(value))
    parts = [f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in tensors[:limit]]
    if len(tensors) > limit:
        parts.append(f"{len(tensors) - limit} more")
    return ", ".join(parts)
