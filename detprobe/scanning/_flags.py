"""Every global setting that a model may change while it runs and that changes results: read before, written back after.

Only what has changed is written: torch refuses to read some settings once an older or newer way of writing them was
used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

__all__ = ["Flags"]


class _Flag(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], Any]


class Flags:
    """The settings of now."""

    def __init__(self) -> None:
        self._saved: list[tuple[_Flag, Any]] = []
        for flag in _flags():
            try:
                self._saved.append((flag, flag.read()))
            except (AttributeError, RuntimeError):  # another version of torch, or one that refuses to say
                continue

    def restores(self) -> Iterator[Callable[[], None]]:
        """One step per setting."""
        for flag, value in self._saved:
            yield functools.partial(_put_back, flag, value)


def _put_back(flag: _Flag, value: Any) -> None:
    try:
        if flag.read() == value:
            return
    except RuntimeError:  # it can be written all the same
        pass
    flag.write(value)


def _flags() -> list[_Flag]:
    sdp = torch.backends.cuda
    flags = [
        _Flag(torch.get_num_threads, torch.set_num_threads),
        _Flag(_read_deterministic, lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1])),
        _Flag(torch.is_grad_enabled, lambda value: torch._C._set_grad_enabled(value)),
        _Flag(torch.get_default_dtype, torch.set_default_dtype),
        _Flag(_read_default_device, torch.set_default_device),
        _Flag(torch.is_anomaly_enabled, lambda value: torch.set_anomaly_enabled(value)),
        _Flag(torch.is_autocast_cache_enabled, lambda value: torch.set_autocast_cache_enabled(value)),
        _Flag(torch._C._get_nnpack_enabled, torch._C._set_nnpack_enabled),
        _Flag(_flushes_denormals, torch.set_flush_denormal),
        _Flag(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        _Flag(sdp.flash_sdp_enabled, sdp.enable_flash_sdp),
        _Flag(sdp.math_sdp_enabled, sdp.enable_math_sdp),
        _Flag(sdp.mem_efficient_sdp_enabled, sdp.enable_mem_efficient_sdp),
        _Flag(sdp.cudnn_sdp_enabled, sdp.enable_cudnn_sdp),
        *(_precision(backend, op) for backend, op in _PRECISIONS),
        *(_autocast(device) for device in ("cpu", "cuda")),
    ]
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    attributes = (
        (torch.utils.deterministic, "fill_uninitialized_memory"),
        *((cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32")),
        *((matmul, f"allow_{kind}_reduced_precision_reduction") for kind in ("fp16", "bf16")),
        *((torch.backends.mkldnn, name) for name in ("enabled", "deterministic")),
    )
    return flags + [_attribute(owner, name) for owner, name in attributes]


_PRECISIONS = (
    ("generic", "all"),
    *(("cuda", op) for op in ("all", "matmul", "conv", "rnn")),
    *(("mkldnn", op) for op in ("all", "matmul", "conv", "rnn")),
)


def _precision(backend: str, op: str) -> _Flag:
    return _Flag(
        lambda: torch._C._get_fp32_precision_getter(backend, op),
        lambda value: torch._C._set_fp32_precision_setter(backend, op, value),
    )


def _autocast(device: str) -> _Flag:
    def write(value: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return _Flag(lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)), write)


def _attribute(owner: Any, name: str) -> _Flag:
    return _Flag(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _read_deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _read_default_device() -> torch.device | None:
    """None where nobody has set one, which is not the same as "cpu"."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _flushes_denormals() -> bool:
    """torch has no getter."""
    tiny = torch.tensor([1e-310], dtype=torch.float64, device="cpu")
    return float(tiny.mul(1.0)) == 0.0
