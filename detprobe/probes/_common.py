"""What every probe does the same way: check its arguments, leave the process as it was, and write its report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from detprobe import environment
from detprobe.checks import check_number
from detprobe.errors import ArgumentTypeError, ArgumentValueError, NotAvailableError
from detprobe.probe_report import Figure, ProbeReport, Table
from detprobe.report.progress import Progress, ticking
from detprobe.scanning._flags import Flags
from detprobe.scanning._generators import ProcessGenerators

__all__ = ["DEVICES", "Progress", "Writer", "check_device", "check_dtype", "check_runs", "ticking", "untouched"]

DEVICES = ("cpu", "cuda", "emulator")


def check_runs(runs: Any) -> None:
    check_number("runs", runs, int, 2, "one result alone has nothing to be compared with")


def check_device(device: Any, allowed: Sequence[str] = DEVICES) -> str:
    """The device as a name: "cpu", "cuda:0", "emulator". None is the GPU where there is one, and else the CPU.

    Raises:
        ArgumentTypeError, ArgumentValueError: not a device, or not one that this probe knows.
        NotAvailableError: this machine does not have it.
    """
    known = ", ".join(allowed)
    if device is None:
        device = "cuda" if "cuda" in allowed and torch.cuda.is_available() else allowed[0]
    if not isinstance(device, str | torch.device):
        raise ArgumentTypeError(f"device: expected one of {known}, got {type(device).__name__} ({device!r:.80})")
    kind, _, index = str(device).partition(":")
    if kind not in allowed or (index and not (kind == "cuda" and index.isdecimal())):
        raise ArgumentValueError(f"device: expected one of {known}, got {str(device)!r:.80}")
    if kind != "cuda":
        return kind
    if not torch.cuda.is_available():
        raise NotAvailableError("device cuda: this machine has no GPU that torch can use; the probe runs on cpu too")
    number = int(index) if index else torch.cuda.current_device()
    if number >= torch.cuda.device_count():
        raise NotAvailableError(f"device cuda:{number}: this machine has {torch.cuda.device_count()} GPU(s), from 0")
    return f"cuda:{number}"


def check_dtype(dtype: Any, allowed: Sequence[torch.dtype]) -> None:
    known = ", ".join(str(kind).removeprefix("torch.") for kind in allowed)
    if not isinstance(dtype, torch.dtype):
        raise ArgumentTypeError(f"dtype: expected a torch.dtype out of {known}, got {dtype!r:.80}")
    if dtype not in allowed:
        raise ArgumentValueError(f"dtype: expected one of {known}, got {str(dtype).removeprefix('torch.')}")


@contextmanager
def untouched() -> Iterator[None]:
    """Flags, thread count and generators are afterwards what they were, whatever is raised inside."""
    flags, generators = Flags(), ProcessGenerators()
    try:
        yield
    finally:
        try:
            for restore in flags.restores():
                restore()
        finally:
            generators.restore()


class Writer:
    """Makes the report of a probe; the clock starts with it."""

    def __init__(self, name: str, question: str, device: str, **settings: Any) -> None:
        self._about = {"name": name, "question": question, "device": device, "settings": settings}
        self._start = time.perf_counter()

    def report(
        self,
        *,
        free: bool,
        findings: Sequence[str],
        tables: Sequence[Table] = (),
        figures: Sequence[Figure] = (),
        notes: Sequence[str] = (),
    ) -> ProbeReport:
        return ProbeReport(
            **self._about,  # type: ignore[arg-type]
            environment=environment.read(),
            free=free,
            findings=tuple(findings),
            tables=tuple(tables),
            figures=tuple(figures),
            notes=tuple(notes),
            seconds=time.perf_counter() - self._start,
        )
