"""Tensors as bits: do two agree, how do they differ, and a digest to tell them apart by.

Nothing here knows a tolerance. The kernels are in csrc (CPU and CUDA); their definition is detprobe.reference.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import torch

from detprobe.errors import ArgumentTypeError, ArgumentValueError

try:
    import detprobe._C  # noqa: F401 - registers torch.ops.detprobe
except ImportError as error:
    raise ImportError(
        f"detprobe's compiled half cannot be loaded ({error}). Build it in this environment with:\n"
        "    pip install --no-build-isolation -e ."
    ) from error

__all__ = ["RECORD_WIDTH", "Difference", "compare_into", "difference", "digest", "read_record"]

RECORD_WIDTH = 5
"""int64 counters per comparison: count, NaN against a number, ULP, bits of the largest |a - b|, first index."""

compare_into = torch.ops.detprobe.compare.default
"""compare_into(a, b, records, row): the counters of one comparison into `records[row]`, unchecked, without waiting."""


@dataclass(frozen=True)
class Difference:
    """How two tensors of one type and shape differ, bit by bit."""

    count: int
    """Elements whose bits differ; +0.0 and -0.0 do, two NaN of the same bits do not."""
    nan_count: int
    """Of those, elements where exactly one side is NaN."""
    max_ulp: int | None
    """Largest distance in units in the last place (integers: absolute difference); None without a pair of numbers."""
    max_abs: float | None
    """Largest absolute difference; None as for max_ulp."""
    first: tuple[int, ...] | None
    """Index of the first element that differs, in row-major order; None if none does."""
    share: float
    """count / number of elements; 0.0 for an empty tensor."""

    @property
    def equal(self) -> bool:
        return self.count == 0


def difference(a: torch.Tensor, b: torch.Tensor) -> Difference:
    """Compare two tensors bit by bit.

    Example:
        >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0000002])).max_ulp
        1

    Args:
        a, b: tensors of one dtype, shape and device; any strides.

    Raises:
        ArgumentTypeError: not two tensors.
        ArgumentValueError: dtype, shape or device differ; sparse or meta tensors.

    Source: csrc/README.md, "compare".
    """
    for name, tensor in (("a", a), ("b", b)):
        _check(name, tensor)
    for what in ("dtype", "shape", "device"):
        mine, other = getattr(a, what), getattr(b, what)
        if mine != other:
            raise ArgumentValueError(f"a and b: expected the same {what}, got {mine} and {other}: convert one of them")
    records = torch.zeros((1, RECORD_WIDTH), dtype=torch.int64, device=a.device)
    compare_into(a.detach(), b.detach(), records, 0)
    return read_record(records[0].tolist(), a.shape)


def read_record(row: Any, shape: torch.Size) -> Difference:
    """A row of `compare_into`'s records as a `Difference`."""
    count, nan_count, ulp, gap, first = (int(value) for value in row)
    return Difference(
        count=count,
        nan_count=nan_count,
        max_ulp=None if ulp < 0 else ulp,
        max_abs=None if gap < 0 else struct.unpack("<d", struct.pack("<q", gap))[0],
        first=None if first < 0 else _unravel(first, shape),
        share=count / max(1, math.prod(shape)),
    )


def _unravel(index: int, shape: torch.Size) -> tuple[int, ...]:
    place: list[int] = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        place.append(rest)
    return tuple(reversed(place))


def digest(tensor: torch.Tensor) -> str:
    """128-bit digest of a tensor's bytes in row-major order, and of its shape: 32 hexadecimal digits.

    The same on every device, for every layout. Position-sensitive: a permutation, a sign or a changed shape shows. Not
    cryptographic: it tells honest results apart, not forged ones.

    Raises:
        ArgumentTypeError: not a tensor.
        ArgumentValueError: a sparse or meta tensor.

    Source: csrc/README.md, DIGEST-1.
    """
    _check("tensor", tensor)
    records = torch.zeros((1, 2), dtype=torch.int64, device=tensor.device)
    torch.ops.detprobe.digest.default(tensor.detach(), records, 0)
    return "".join(f"{lane % 2**64:016x}" for lane in records[0].tolist())


def _check(name: str, tensor: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise ArgumentTypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.is_nested:
        raise ArgumentValueError(f"{name}: expected a plain tensor, got a nested one: compare its .unbind()")
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise ArgumentTypeError(f"{name}: expected a plain tensor, got {type(tensor).__name__}: it may hold no bits")
    if tensor.is_meta:
        raise ArgumentValueError(f"{name}: expected a tensor with data, got a meta tensor: it holds no bits")
    if tensor.layout is not torch.strided:
        raise ArgumentValueError(f"{name}: expected a strided tensor, got layout {tensor.layout}: pass .to_dense()")
