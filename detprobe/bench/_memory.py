"""The most memory that a call takes at once, above what was there before it.

On CUDA torch's allocator counts. On a CPU it is the resident memory of the process, which sees what a kernel takes
behind torch's back too, and does not see what is never touched. Linux alone tells its peak, and the C library has to
give memory back as soon as it is free.
"""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["peak_bytes"]

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 1 << 16  # bytes from which a block is its own mapping


def peak_bytes(function: Callable[[], Any], device: str) -> int | None:
    """Bytes at the peak of a call, its result included; None where the system does not tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGE)
    function()  # loads code, and wakes the threads up
    libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _resident("VmRSS")
        function()
        return max(0, _resident("VmHWM") - before)
    except (OSError, StopIteration):
        return None


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
