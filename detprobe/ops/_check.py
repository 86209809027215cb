"""What the ops ask of their arguments, before C++ is reached: the type of error that torch raises, and a sentence.

Every function takes the op's public name first, since every text starts with it.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import torch

from detprobe.errors import (
    ArgumentIndexError,
    ArgumentRuntimeError,
    ArgumentTypeError,
    NotAvailableError,
    UnsupportedError,
)
from detprobe.ops._native import HAS_CUDA

__all__ = [
    "FLOATS",
    "INTEGERS",
    "beside",
    "boolean",
    "dtype_in",
    "is_floating",
    "names",
    "one_dim",
    "parameter",
    "real",
    "result_dtype",
    "shape_of",
    "sorted_dims",
    "tensor",
]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def names(dtypes: Sequence[torch.dtype]) -> str:
    """dtypes as they stand in a text."""
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def tensor(op: str, name: str, value: Any) -> None:
    """Refuse what is no strided tensor on a device that has kernels."""
    if isinstance(value, torch.Tensor) and value.is_cpu and value.layout is torch.strided and not value.is_nested:
        return
    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        todo = "pass plan.index, this op takes no plan" if kind == "IndexPlan" else "wrap it in torch.tensor()"
        raise ArgumentTypeError(f"{op}: {name}: expected a tensor, got {kind}: {todo}")
    if value.is_nested:
        raise UnsupportedError(f"{op}: {name}: expected a plain tensor, got a nested one: call the op on its .unbind()")
    if value.layout is not torch.strided:
        raise UnsupportedError(f"{op}: {name}: expected a strided tensor, got {value.layout}: pass {name}.to_dense()")
    kind = value.device.type
    if kind == "cuda" and not HAS_CUDA:
        raise NotAvailableError(
            f"{op}: {name} is on {value.device}, and this build of detprobe has no CUDA kernels: "
            "build it again where torch has CUDA and nvcc is found, or pass a CPU tensor"
        )
    if kind not in ("cpu", "cuda", "meta"):
        raise NotAvailableError(f"{op}: {name}: there are kernels for cpu and cuda, got a tensor on {value.device}")


def dtype_in(
    op: str, name: str, dtype: torch.dtype, dtypes: Sequence[torch.dtype], error: type[Exception] = UnsupportedError
) -> None:
    """Refuse every dtype that is not one of `dtypes`."""
    if dtype not in dtypes:
        raise error(f"{op}: {name}: expected {names(dtypes)}, got {names((dtype,))}: convert it first")


def is_floating(op: str, name: str, value: torch.Tensor, error: type[Exception] = UnsupportedError) -> None:
    """Refuse integers with `error`; complex and float8, which have no kernels here, with UnsupportedError."""
    if value.dtype not in FLOATS:
        other = value.dtype.is_floating_point or value.dtype.is_complex
        dtype_in(op, name, value.dtype, FLOATS, UnsupportedError if other else error)


def result_dtype(op: str, dtype: Any, dtypes: Sequence[torch.dtype], error: type[Exception] = UnsupportedError) -> None:
    """Check a `dtype=` that was given."""
    if dtype is not None:
        if not isinstance(dtype, torch.dtype):
            raise ArgumentTypeError(f"{op}: dtype: expected a torch.dtype or None, got {dtype!r}")
        dtype_in(op, "dtype", dtype, dtypes, error)


def boolean(op: str, name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{op}: {name}: expected True or False, got {value!r}")


def real(op: str, name: str, value: Any) -> None:
    """Refuse what is no real number."""
    if not isinstance(value, (int, float, torch.SymInt, torch.SymFloat, numbers.Real)):
        raise ArgumentTypeError(f"{op}: {name}: expected a number, got {value!r}")


def _wrapped(op: str, dim: Any, ndim: int) -> int:
    if isinstance(dim, bool) or not isinstance(dim, (int, torch.SymInt)):
        raise ArgumentTypeError(f"{op}: dim: expected an int or a tuple of ints, got {dim!r}")
    places = max(1, ndim)
    if not -places <= dim < places:
        raise ArgumentIndexError(
            f"{op}: dim: expected {-places} to {places - 1} for a tensor of {ndim} dimensions, got {int(dim)}"
        )
    return int(dim) % places


def one_dim(op: str, dim: Any, ndim: int) -> int:
    """A dimension, counted from the front. A 0-dimensional tensor has one, 0."""
    if type(dim) is int and 0 <= dim < ndim:
        return dim
    return _wrapped(op, dim, ndim)


def sorted_dims(op: str, dim: Any, ndim: int) -> list[int] | None:
    """Dimensions, counted from the front and ascending; None for all: `dim` is None or empty."""
    if dim is None:
        return None
    dims = [_wrapped(op, one, ndim) for one in dim] if isinstance(dim, (tuple, list)) else [_wrapped(op, dim, ndim)]
    if len(set(dims)) < len(dims):
        twice = next(one for one in dims if dims.count(one) > 1)
        raise ArgumentRuntimeError(
            f"{op}: dim: expected each dimension once, got {tuple(dim)}, which names {twice} twice"
        )
    return sorted(dims) if dims and ndim else None


def shape_of(op: str, name: str, value: torch.Tensor, shape: Sequence[int], of: str) -> None:
    """Refuse another shape than `shape`; `of` says where that comes from."""
    if tuple(value.shape) != tuple(shape):
        raise ArgumentRuntimeError(f"{op}: {name}: expected shape {tuple(shape)} ({of}), got {tuple(value.shape)}")


def beside(op: str, name: str, value: torch.Tensor, first: torch.Tensor, of: str = "input") -> None:
    """Refuse a tensor on another device than the first one."""
    if value.device != first.device:
        raise ArgumentRuntimeError(
            f"{op}: {name}: expected the device of {of}, {first.device}, got {value.device}: move one of them"
        )


def parameter(op: str, name: str, value: Any, x: torch.Tensor, shape: Sequence[int], of: str) -> None:
    """Check a weight, bias or running statistic: the dtype of the input, or float32 beside a 16-bit one."""
    tensor(op, name, value)
    shape_of(op, name, value, shape, of)
    beside(op, name, value, x)
    allowed = (x.dtype, torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else (x.dtype,)
    dtype_in(op, name, value.dtype, allowed, ArgumentRuntimeError)
