"""What the rows of one run have in common, and how numbers are printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detprobe.bench._measure import Bandwidth

__all__ = ["FORBIDDEN", "OF_COPY", "Found", "Row", "Run", "shown_number", "shown_time", "shown_verdict"]

Row = dict[str, Any]
"""A line of a table, as plain values: times in seconds, sizes in bytes."""

Found = dict[str, list[Row]]
"""The tables of a suite by name. A suite fills it as it goes, so that what was measured outlives an interruption."""

FORBIDDEN = "raises"  # instead of a time: torch has no such kernel in its deterministic mode

OF_COPY = """\
"of copy" is the share of a copy's bandwidth that detprobe reaches: the bytes of its inputs and results, each moved
once, per second of its median time. What a cache holds, and what reads more than it writes, can be above 100 %."""


@dataclass(frozen=True)
class Run:
    """One call of the command, for one suite."""

    device: str
    """"cpu" or "cuda"."""
    quick: bool
    only: frozenset[str]
    """Names of the ops to measure."""
    bandwidth: Bandwidth
    say: Callable[[str], None]
    """Prints a line."""


def shown_time(seconds: float) -> str:
    """Three digits and the unit."""
    for factor, unit in ((1e6, "us"), (1e3, "ms"), (1, "s")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.{2 if seconds * factor < 10 else 1 if seconds * factor < 100 else 0}f} {unit}"
    return f"{seconds:.0f} s"


def shown_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def shown_verdict(met: bool | None) -> str:
    return {None: "", True: "met", False: "MISSED"}[met]
