"""Whether an error is want of memory, on any device."""

from __future__ import annotations

import torch

__all__ = ["out_of_memory"]


def out_of_memory(error: BaseException) -> bool:
    """torch has an error of its own for a GPU's memory, and a text for the CPU's."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
