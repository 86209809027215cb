"""The compiled ops, as `OPS.sum.default(...)`. Importing this loads the extension."""

from __future__ import annotations

from typing import Any

import torch

import detprobe.bits

__all__ = ["CALLS", "HAS_CUDA", "OPS", "Op", "tracing"]


tracing = torch.compiler.is_dynamo_compiling
"""False in eager mode; where torch.compile traces, it is True, and `CALLS` means nothing there."""


class Op:
    """torch.ops.detprobe.NAME, whose gradient torch.func.grad and its like can take as well."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.raw: Any = getattr(torch.ops.detprobe, name).default
        self.function: Any = None
        """The autograd.Function of the op; its last argument is None where functorch calls it."""

    def default(self, *args: Any) -> torch.Tensor:
        """Call the op. One with several results returns a tuple."""
        if not tracing() and torch._C._are_functorch_transforms_active() and self.function is not None:
            # Before the dispatcher enters a level of functorch: from inside there is no way back to custom functions.
            return self.function.apply(*args, None)  # type: ignore[no-any-return]
        return self.raw(*args)  # type: ignore[no-any-return]


class _Ops:
    def __getattr__(self, name: str) -> Op:
        op = Op(name)
        setattr(self, name, op)
        return op


OPS = _Ops()

CALLS: Any = detprobe._C
"""The small ops without the parsing of torch.ops: a result, or None where the long way decides (csrc/calls.cpp)."""

HAS_CUDA: bool = torch._C._dispatch_has_kernel_for_dispatch_key("detprobe::sum", "CUDA")
"""Whether this build holds CUDA kernels, which says nothing about a GPU being there."""
