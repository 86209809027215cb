"""Random numbers made once, on the CPU, from which every case takes its input as a view."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Pool"]


@dataclass
class Pool:
    """N(0, 1) from a fixed seed, for a device; `size` is how many float32 the largest case takes."""

    device: str
    size: int
    made: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, which: int = 0) -> Tensor:
        """A contiguous tensor; others are drawn for every `which`."""
        key, needed = (which, dtype), math.prod(shape)
        if key not in self.made or self.made[key].numel() < needed:
            generator = torch.Generator().manual_seed(which)
            drawn = torch.randn(max(needed, self.size if dtype is torch.float32 else 0), generator=generator)
            self.made[key] = drawn.to(self.device, dtype)
        return self.made[key][:needed].view(shape)
