"""The quick forms of the probes that take a callable: what they show about this device by themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from detprobe import ops
from detprobe.conditions import threads
from detprobe.probe_report import Cell, Column, ProbeReport, Table, TreeFigure
from detprobe.probes._common import Progress, Writer, untouched
from detprobe.probes._reduction_order import reduction_order
from detprobe.probes._sensitivity import environment_sensitivity
from detprobe.sum_tree import Parting, SumTree

__all__ = ["orders", "sensitivities"]

_N, _LEAVES = 65_536, 32  # above the grain size, from which torch uses threads


def _strided(fn: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    return lambda x: fn(torch.stack([x, torch.zeros_like(x)], 1)[:, 0])


_EVERY_SECOND = " of every second element"
_SUMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "torch.sum": torch.sum,
    f"torch.sum{_EVERY_SECOND}": _strided(torch.sum),
    "detprobe.ops.sum": ops.sum,
    f"detprobe.ops.sum{_EVERY_SECOND}": _strided(ops.sum),
}


class _Order(NamedTuple):
    """One order of a sum, and the thread counts on which it was seen."""

    tree: SumTree
    counts: list[int]


def orders(device: str, progress: Progress) -> ProbeReport:
    """torch's sum and ours: their orders, by layout, and on a CPU by thread count."""
    writer = Writer("reduction_order", "In which order does a sum add here, and who decides it?", device, n=_N)
    counts = (1, 2) if device == "cpu" else (torch.get_num_threads(),)
    rows: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    seen: dict[str, list[_Order]] = {}
    changes = False
    for at, (name, fn) in enumerate(_SUMS.items()):
        for step, count in enumerate(counts):
            progress(at * len(counts) + step, len(_SUMS) * len(counts), name)
            with untouched(), threads(count):
                report = reduction_order(fn, n=_N, leaves=_LEAVES, device=device)
            if report.tree is None:
                changes = changes or report.free
                notes.append(f"{name}: {report.findings[0]}")
                continue
            rows.append((name, count, report.tables[0].rows[0][1], report.tree.depth, report.tree.fingerprint()[:16]))
            known = seen.setdefault(name, [])
            twin = next((order for order in known if order.tree.parting(report.tree) is None), None)
            if twin is None:
                known.append(_Order(report.tree, [count]))
            else:
                twin.counts.append(count)
    columns = ("sum", "threads", "calls made", "depth", "fingerprint")
    return writer.report(
        free=changes or any(len(known) > 1 for known in seen.values()) or any(_by_layout(seen).values()),
        findings=_told(seen),
        tables=[Table("", tuple(map(Column, columns)), tuple(rows))],
        figures=[
            TreeFigure(f"{name} on {_threads(order.counts)}: {_LEAVES} of {_N} elements", order.tree)
            for name, known in seen.items()
            for order in known
            if _by_layout(seen).get(name, True)  # else it is drawn already
        ],
        notes=notes,
    )


def _by_layout(seen: dict[str, list[_Order]]) -> dict[str, Parting | None]:
    """Where the sum of a strided tensor parts from that of a dense one, on the first thread count."""
    found = {}
    for name, known in seen.items():
        dense = seen.get(name.removesuffix(_EVERY_SECOND))
        if name.endswith(_EVERY_SECOND) and dense:
            found[name] = dense[0].tree.parting(known[0].tree)
    return found


def _told(seen: dict[str, list[_Order]]) -> list[str]:
    partings = _by_layout(seen)
    moved, fixed = [], []
    for name, known in seen.items():
        for order in known[1:]:
            moved.append(f"{name}: another order on {_threads(order.counts)}: {known[0].tree.parting(order.tree)}.")
        if len(known) == 1:
            fixed.append(f"{name}: one order, on {_threads(known[0].counts)}.")
        if name in partings:
            if partings[name] is None:
                fixed.append(f"{name}: the order of a dense tensor.")
            else:
                moved.append(f"{name}: another order than that of a dense tensor: {partings[name]}.")
    return moved + fixed


def _scatter(index: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.zeros(50, device=x.device).index_put_((index,), x, accumulate=True)


def _threads(counts: Sequence[int]) -> str:
    return "1 thread" if list(counts) == [1] else f"{', '.join(map(str, counts))} threads"


def sensitivities(device: str, progress: Progress) -> ProbeReport:
    """A few callables that people use, each in a table."""
    question = "Do threads, addresses or other work move the bits of these callables?"
    writer = Writer("environment_sensitivity", question, device, runs=8)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1 << 18, generator=generator).to(device)
    index = torch.randint(0, 50, (len(x),), generator=generator).to(device)
    callables: dict[str, Callable[[torch.Tensor], Any]] = {
        "torch.sum": torch.sum,
        "index_put with accumulate": _scatter(index),
        "detprobe.ops.sum": ops.sum,
    }
    reports = {}
    for at, (name, fn) in enumerate(callables.items()):
        progress(at, len(callables), name)
        reports[name] = environment_sensitivity(fn, inputs=x)
    return writer.report(
        free=any(report.free for report in reports.values()),
        findings=[f"{name}: {said}" for name, report in reports.items() for said in report.findings],
        tables=[dataclasses.replace(report.tables[0], title=name) for name, report in reports.items()],
        notes=list(dict.fromkeys(note for report in reports.values() for note in report.notes)),
    )
