"""The compiled half of the probes, or a sentence that says why it is not here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from detprobe.errors import NotAvailableError

__all__ = ["TYPES", "emulated", "emulator", "native"]

TYPES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}
"""The numbers of csrc/probes/atomic_add.h."""


def native() -> Any:
    """The module `detprobe._probes`."""
    try:
        import detprobe._probes as module
    except ImportError as error:
        raise _missing("_probes", error) from None
    return module


def emulator() -> Any:
    """The module `detprobe._emulator`."""
    try:
        import detprobe._emulator as module
    except ImportError as error:
        raise _missing("_emulator", error) from None
    return module


@contextlib.contextmanager
def emulated(seed: int) -> Iterator[None]:
    """detprobe's own ops on CPU tensors run the CUDA kernels inside, under one schedule."""
    import detprobe.bits  # noqa: F401 - registers torch.ops.detprobe

    torch.ops.detprobe._emulate(emulator().kernels(seed))
    try:
        yield
    finally:
        torch.ops.detprobe._emulate(0)


def _missing(name: str, error: ImportError) -> NotAvailableError:
    return NotAvailableError(
        f"detprobe.{name} cannot be loaded ({error}): build it with pip install --no-build-isolation -e ."
    )
