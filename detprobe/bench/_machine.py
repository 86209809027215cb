"""What a benchmark has to know of the machine: its caches, its free memory, its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

import detprobe.bits  # noqa: F401 - registers torch.ops.detprobe, or says that it is not built
from detprobe import environment

__all__ = ["free_bytes", "last_level_cache", "read_environment", "title"]


def last_level_cache(device: str) -> int:
    """Bytes; 32 MiB where the system does not say."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).L2_cache_size)
    sizes = [32 << 10]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text[:-1]) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    return max(sizes) if len(sizes) > 1 else 32 << 20


def free_bytes(device: str) -> float:
    """Memory that may be used; infinite where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        text = Path("/proc/meminfo").read_text()
        return 1024 * int(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return float("inf")


def read_environment() -> dict[str, Any]:
    """detprobe.environment and the instructions that both use."""
    return {
        **environment.read(),
        "detprobe_cpu_capability": torch.ops.detprobe.cpu_capability(),
        **{name: os.environ[name] for name in ("DETPROBE_CPU", "MKL_ENABLE_INSTRUCTIONS") if name in os.environ},
    }


def title(values: dict[str, Any], device: str) -> str:
    """The environment in one line."""
    where = values["cpu"] if device == "cpu" else ", ".join(values["gpus"])
    threads = f"{values['threads']} of {values['cores']} cores, " if device == "cpu" else ""
    instructions = f"detprobe {values['detprobe_cpu_capability']}, torch {values['cpu_capability']}, "
    return f"{where}, {threads}{instructions if device == 'cpu' else ''}torch {values['torch']}"
