"""What a replay may change besides nothing: the thread count, the memory layout, the device.

A variant runs a frozen call once with one thing changed, and returns the results, or None where the change does not
apply to this call. Stress and batch are passes of their own (`conditions.load`, `_batch`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from detprobe.conditions import shifted, threads
from detprobe.errors import NotAvailableError
from detprobe.scanning._compare import difference
from detprobe.scanning._freeze import FrozenCall
from detprobe.scanning._tree import map_tensors

__all__ = ["AXES", "Variant", "variants_for"]

AXES = ("rerun", "flag", "threads", "stress", "batch", "layout", "device")


def _no_cause(call: FrozenCall, results: list[Any], changed: list[Any]) -> str:
    return ""


class Variant(NamedTuple):
    """One change."""

    axis: str
    label: str
    run: Callable[[FrozenCall], list[Any] | None]
    cause: Callable[[FrozenCall, list[Any], list[Any]], str] = _no_cause


def variants_for(axes: tuple[str, ...], device: torch.device) -> list[Variant]:
    """The variants of the chosen axes for a step on `device`.

    Raises:
        NotAvailableError: the device axis is asked for and there is no second device.
    """
    variants: list[Variant] = []
    if "threads" in axes:
        now = torch.get_num_threads()
        variants += [_threads(now, n) for n in sorted({1, 2, 4} - {now})]
    if "layout" in axes:
        variants += [
            Variant("layout", "contiguous copies of its arguments", _contiguous),
            Variant("layout", "arguments that start one element further on", _shifted),
        ]
    if "device" in axes:
        variants.append(on_device(other_device(device)))
    return variants


def _threads(now: int, n: int) -> Variant:
    def run(call: FrozenCall) -> list[Any] | None:
        if any(t.is_cuda for t in call.tensors):
            return None
        with threads(n):
            return call.again()

    return Variant("threads", f"{n} instead of {now} threads", run)


def _contiguous(call: FrozenCall) -> list[Any] | None:
    changed = False

    def swap(tensor: torch.Tensor) -> torch.Tensor | None:
        nonlocal changed
        if tensor.is_contiguous() or call.writes(tensor):
            return None
        changed = True
        return tensor.clone(memory_format=torch.contiguous_format)

    results = call.again(swap)
    return results if changed else None


def _shifted(call: FrozenCall) -> list[Any] | None:
    changed = False

    def swap(tensor: torch.Tensor) -> torch.Tensor | None:
        nonlocal changed
        if tensor.numel() < 2 or not tensor.is_contiguous() or call.writes(tensor):
            return None
        changed = True
        return shifted(tensor, 1)

    results = call.again(swap)
    return results if changed else None


def other_device(device: torch.device) -> torch.device:
    """Where the device axis replays a step of `device`."""
    if device.type != "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    raise NotAvailableError(
        "the device axis replays each op on a second device, and this machine has only a CPU: "
        "leave 'device' out of axes, or run it where torch.cuda.is_available()"
    )


def on_device(other: torch.device) -> Variant:
    """Each op on `other`, from the same inputs; the explanation ranks both by ULP against a float64 run on the CPU."""

    def run(call: FrozenCall) -> list[Any] | None:
        if call.drew() or not any(t.is_floating_point() or t.is_complex() for t in call.tensors):
            return None
        home = call.tensors[0].device
        try:
            results = _run_elsewhere(call, lambda t: t.detach().to(other), device=other)
        except (RuntimeError, NotImplementedError):  # no kernel there: nothing to compare
            return None
        return map_tensors(lambda t: t.to(home), results)  # type: ignore[no-any-return]

    def cause(call: FrozenCall, results: list[Any], changed: list[Any]) -> str:
        home = call.tensors[0].device.type
        mine, theirs = (against_float64(call, side) for side in (results, changed))
        if mine is None or theirs is None:
            return f"{home} and {other.type} do not agree; there is no float64 form of this op to rank them by."
        return f"Against a float64 run {home} is off by up to {mine} ULP and {other.type} by up to {theirs} ULP."

    return Variant("device", f"on {other.type}", run, cause)


def against_float64(call: FrozenCall, results: list[Any]) -> int | None:
    """Largest distance of `results` from a float64 CPU run rounded to their types, ULP; None if there is none."""

    def widen(tensor: torch.Tensor) -> torch.Tensor:
        host = tensor.detach().cpu()
        if host.is_complex():
            return host.to(torch.complex128)
        return host.double() if host.is_floating_point() else host

    try:
        exact = _run_elsewhere(call, widen, device=torch.device("cpu"), dtype=torch.float64)
    except Exception:  # the op has no float64 form, or wants another type
        return None
    worst: int | None = None
    for mine, best in zip(results, exact, strict=True):
        if not isinstance(mine, torch.Tensor) or not isinstance(best, torch.Tensor) or mine.shape != best.shape:
            return None
        measure = difference([mine.cpu()], [best.to(mine.dtype)])
        ulp = 0 if measure is None else measure.max_ulp
        worst = ulp if worst is None else max(worst, ulp or 0)
    return worst


def _run_elsewhere(
    call: FrozenCall,
    move: Callable[[torch.Tensor], torch.Tensor],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> list[Any]:
    """The call with every argument moved (what it writes too, as copies), and device and dtype arguments to match."""
    from_args, from_kwargs = call.thaw()
    args = map_tensors(move, tuple(from_args))
    kwargs = map_tensors(move, dict(from_kwargs))
    if "device" in kwargs:
        kwargs["device"] = device
    if dtype is not None and isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
        kwargs["dtype"] = dtype
    return call.results(call.func(*args, **kwargs), args, kwargs)
