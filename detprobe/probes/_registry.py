"""The probes by name, and `run_all`: what one command asks of a device.

A probe slots in with one entry of `PROBES`: its name, the devices it knows, and a function that runs a small, quick
form of it. The function may raise NotAvailableError, whose text then stands in the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.probes import _atomic_add, _conv, _quick
from detprobe.probes._advise import advise
from detprobe.probes._common import DEVICES, Progress, check_device, ticking
from detprobe.probes._gemm import gemm

__all__ = ["PROBES", "Probe", "run_all"]


class Probe(NamedTuple):
    """One entry of the table."""

    name: str
    devices: tuple[str, ...]
    """Kinds of device that it knows, out of "cpu", "cuda", "emulator"."""
    quick: Callable[[str, Progress], ProbeReport]
    """(device, progress) -> report, in a few seconds."""


_HERE = ("cpu", "cuda")

PROBES: tuple[Probe, ...] = (
    Probe("atomic_add", DEVICES, _atomic_add.quick),
    Probe("conv", _HERE, _conv.quick),
    Probe("gemm", _HERE, lambda device, progress: gemm(device=device, runs=3, progress=progress)),
    Probe("reduction_order", _HERE, _quick.orders),
    Probe("environment_sensitivity", _HERE, _quick.sensitivities),
    Probe("advise", _HERE, lambda device, progress: advise(device, progress=progress)),
)


def run_all(
    device: str | None = None, *, only: Iterable[str] = (), progress: bool | Progress | None = None
) -> ProbeReports:
    """Run every probe in its quick form on a device.

    Example:
        >>> reports = detprobe.probes.run_all("cpu")
        >>> print(reports)
        >>> reports["gemm"].findings

    Args:
        device: "cpu", "cuda", "cuda:1" or "emulator"; the GPU where there is one, and else the CPU and the emulator.
        only: names of probes; all of them where it is empty.
        progress: True for a bar on stderr, or a callable (done, total or None, text).

    Returns:
        `ProbeReports`. A probe that does not run here is in `skipped`, with the reason.

    Raises:
        ArgumentTypeError, ArgumentValueError: an unknown device or probe.
        NotAvailableError: the device is not there, or none of the chosen probes can run on it.
    """
    places = [check_device(device, DEVICES)]
    wanted = _chosen(only)
    chosen = [(probe, places[0]) for probe in wanted]
    if device is None and places == ["cpu"]:  # the kernels of a GPU that is not there
        places.append("emulator")
        chosen += [(probe, "emulator") for probe in wanted if "emulator" in probe.devices]
    everywhere = " and ".join(places)
    start = time.perf_counter()
    reports, skipped = [], []
    with ticking(progress, "probing") as tick:
        for at, (probe, where) in enumerate(chosen):
            if where.partition(":")[0] not in probe.devices:
                skipped.append((probe.name, f"runs on {' and '.join(probe.devices)} only"))
                continue
            try:
                reports.append(probe.quick(where, _part(tick, at, len(chosen), probe.name)))
            except NotAvailableError as error:
                skipped.append((probe.name, str(error)))
    if not reports:
        said = "; ".join(f"{name}: {why}" for name, why in skipped)
        raise NotAvailableError(f"none of these probes can run on {everywhere}: {said}")
    return ProbeReports(everywhere, tuple(reports), tuple(skipped), time.perf_counter() - start)


def _chosen(only: Iterable[str]) -> list[Probe]:
    names = [only] if isinstance(only, str) else list(only)
    known = [probe.name for probe in PROBES]
    for name in names:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"only: expected names of probes, got {name!r:.80}")
        if name not in known:
            raise ArgumentValueError(f"unknown probe {name!r:.80}: expected one of {', '.join(known)}")
    return [probe for probe in PROBES if not names or probe.name in names]


def _part(tick: Progress, at: int, count: int, name: str) -> Progress:
    """A probe's own progress as a hundredth of its share of the whole."""

    def draw(done: int, total: int | None, text: str) -> None:
        tick(at * 100 + (100 * done // total if total else 0), count * 100, f"{name}: {text}" if text else name)

    draw(0, None, "")
    return draw
