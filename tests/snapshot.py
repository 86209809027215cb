"""`snapshot`: everything a user has, as plain data, for the tests that nothing of it moves.

Two snapshots are equal exactly when the same objects hold the same contents, down to the last bit.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import nn


def bits(tensor: torch.Tensor) -> bytes:
    # A copy: memory that numpy has seen can no longer be resized.
    return tensor.detach().clone().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def picture(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Plain data that is equal exactly when the value is the same object with the same contents, all the way down."""
    seen = {} if seen is None else seen
    if isinstance(value, int | float | complex | str | bytes | bool | None | torch.dtype | torch.device):
        return repr(value)
    if id(value) in seen:
        return id(value)
    seen[id(value)] = value
    inside: Any = None
    if isinstance(value, torch.Tensor):
        layout = (tuple(value.shape), value.stride(), value.storage_offset(), str(value.dtype))
        gradient = picture(value.grad, seen) if value.is_leaf else None
        inside = (layout, bits(value), value.requires_grad, value.is_leaf, gradient, value.untyped_storage()._cdata)
    elif isinstance(value, torch.Generator):
        inside = bits(value.get_state())
    elif isinstance(value, np.random.Generator):
        inside = repr(value.bit_generator.state)
    elif isinstance(value, random.Random):
        inside = value.getstate()
    elif isinstance(value, np.ndarray):
        inside = value.tobytes()
    elif isinstance(value, dict):
        inside = [(picture(k, seen), picture(v, seen)) for k, v in value.items()]
    elif isinstance(value, list | tuple | deque):
        inside = [picture(v, seen) for v in value]
    elif isinstance(value, set):
        inside = sorted(str(picture(v, seen)) for v in value)
    elif isinstance(value, nn.Module | torch.optim.Optimizer):
        inside = picture(value.__dict__, seen)
    return type(value).__name__, id(value), inside


def process() -> dict[str, Any]:
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global one
    return {
        "torch": bits(torch.default_generator.get_state()),
        "numpy": (numpy_state[0], numpy_state[1].tobytes(), *numpy_state[2:]),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "cudnn": {name: getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")},
        "mkldnn": torch.backends.mkldnn.enabled,
        "precision": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "cache": torch.is_autocast_cache_enabled(),
        "modes": torch._C._len_torch_dispatch_stack(),
        "hooks": [
            list(torch.nn.modules.module._global_forward_pre_hooks),
            list(torch.nn.modules.module._global_forward_hooks),
        ],
    }


def snapshot(*owned: Any) -> dict[str, Any]:
    state = process()  # first: it holds what a snapshot itself could move
    seen: dict[int, Any] = {}
    return {**state, "owned": [picture(value, seen) for value in owned]}


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Which parts differ, with the first place of each."""
    return [f"{name}{_where(before[name], after[name])}" for name in before if before[name] != after[name]]


def _where(a: Any, b: Any) -> str:
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        return next((f"[{i}]{_where(x, y)}" for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), "")
    return f": {str(a)[:80]} -> {str(b)[:80]}"
