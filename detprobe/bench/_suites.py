"""The suites of `detprobe bench`, and a run of them: its result is one plain dictionary, also when it is broken off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from detprobe.bench import _reduction_cases, _reductions, _scatter, _scatter_cases
from detprobe.bench._machine import free_bytes, last_level_cache, read_environment, title
from detprobe.bench._measure import bandwidth
from detprobe.bench._run import Found, Run
from detprobe.errors import ArgumentValueError

__all__ = ["SUITES", "Suite", "chosen", "measure"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Suite:
    """One table of ops, and what is asked about them."""

    name: str
    about: str
    ops: tuple[str, ...]
    legend: str
    fill: Callable[[Found, Run], None]
    summary: Callable[[Found, Run], str]


SUITES = (
    Suite(
        "reductions",
        "speed and error of sums, softmax, norms and scans; on a CPU about four minutes",
        _reduction_cases.NAMES,
        _reductions.LEGEND,
        _reductions.fill,
        _reductions.summary,
    ),
    Suite(
        "scatter",
        "speed and memory of what goes to indexed places; on a CPU about ten minutes",
        _scatter_cases.NAMES,
        _scatter.LEGEND,
        _scatter.fill,
        _scatter.summary,
    ),
)


def chosen(names: Iterable[str], only: Iterable[str]) -> list[tuple[Suite, frozenset[str]]]:
    """Suites and the ops of each that are to be measured; all of them where there are no names, and no `only`."""
    names, only = list(names), list(only)
    if unknown := sorted(set(names) - {suite.name for suite in SUITES}):
        expected = ", ".join(suite.name for suite in SUITES)
        raise ArgumentValueError(f"expected suites out of {expected}, got {', '.join(unknown)}")
    suites = [suite for suite in SUITES if not names or suite.name in names]
    known = [op for suite in suites for op in suite.ops]
    if unknown := sorted(set(only) - set(known)):
        raise ArgumentValueError(f"--only: expected names out of {', '.join(known)}, got {', '.join(unknown)}")
    wanted = [(suite, frozenset(only or suite.ops) & frozenset(suite.ops)) for suite in suites]
    return [(suite, ops) for suite, ops in wanted if ops]


def measure(
    wanted: Iterable[tuple[Suite, frozenset[str]]],
    *,
    device: str,
    quick: bool,
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Run the suites and print their tables; `keep` gets the result, in the end or when something raises before it."""
    values, gave = read_environment(), bandwidth(device, _large(device, quick))
    suites: dict[str, Found] = {}
    result: dict[str, Any] = {
        "kind": "bench",
        "schema": SCHEMA_VERSION,
        "complete": False,
        "device": device,
        "quick": quick,
        "environment": values,
        "copy_bytes_per_second": gave.copy,
        "read_bytes_per_second": gave.read,
        "suites": suites,
    }
    say(title(values, device))
    say(f"memory: a copy {gave.copy / 1e9:.1f} GB/s, read and written; a sum {gave.read / 1e9:.1f} GB/s, read")
    try:
        for suite, ops in wanted:
            run = Run(device, quick, ops, gave, say)
            say(f"\n{suite.name}\n{suite.legend}\n")
            found = suites[suite.name] = {}
            suite.fill(found, run)
            say("\n" + suite.summary(found, run))
        result["complete"] = True
    finally:
        keep(result)


def _large(device: str, quick: bool) -> int:
    """float32 numbers of a tensor that no cache holds, where there is room for two of them."""
    wanted = max(10**7 if quick else 5 * 10**7, last_level_cache(device))  # four times its bytes
    return int(min(wanted, max(10**6, free_bytes(device) / 32)))
