"""The quick forms of the probes that take a callable: what they show about this device by themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from detprobe import ops
from detprobe.conditions import threads
from detprobe.probe_report import Cell, Column, ProbeReport, Table, TreeFigure
from detprobe.probes._common import Progress, Writer, untouched
from detprobe.probes._reduction_order import reduction_order
from detprobe.probes._sensitivity import environment_sensitivity
from detprobe.sum_tree import SumTree

__all__ = ["orders", "sensitivities"]

_N, _LEAVES = 65_536, 64  # above the grain size, from which torch uses threads
_SUMS: dict[str, Callable[[torch.Tensor], Any]] = {"torch.sum": torch.sum, "detprobe.ops.sum": ops.sum}


def orders(device: str, progress: Progress) -> ProbeReport:
    """torch's sum and ours: their orders, and on a CPU those of several thread counts."""
    writer = Writer("reduction_order", "In which order does a sum add here, and who decides it?", device, n=_N)
    counts = (1, 2, 4) if device == "cpu" else (torch.get_num_threads(),)
    rows: list[tuple[Cell, ...]] = []
    figures, findings, notes = [], [], []
    free = False
    for at, (name, fn) in enumerate(_SUMS.items()):
        trees: dict[str, SumTree] = {}  # by fingerprint, the one on the first thread count first
        by_count: dict[str, list[int]] = {}
        for step, count in enumerate(counts):
            progress(at * len(counts) + step, len(_SUMS) * len(counts), name)
            with untouched(), threads(count):
                report = reduction_order(fn, n=_N, leaves=_LEAVES, device=device)
            if report.tree is None:
                free = free or report.free
                notes.append(f"{name}: {report.findings[0]}")
                continue
            key = report.tree.fingerprint()
            trees.setdefault(key, report.tree)
            by_count.setdefault(key, []).append(count)
            rows.append((name, count, report.tables[0].rows[0][1], report.tree.depth, key[:16]))
        free = free or len(trees) > 1
        for key, tree in trees.items():
            figures.append(TreeFigure(f"{name} on {_threads(by_count[key])}: {_LEAVES} of {_N} elements", tree))
        if len(trees) == 1:
            findings.append(f"{name} has one order, on {_threads(counts)}.")
        for key, tree in list(trees.items())[1:]:
            first = next(iter(trees.values()))
            findings.append(f"{name} adds in another order on {_threads(by_count[key])}: {first.parting(tree)}.")
    columns = ("sum", "threads", "calls made", "depth", "fingerprint")
    table = Table("", tuple(map(Column, columns)), tuple(rows))
    return writer.report(free=free, findings=findings, tables=[table], figures=figures, notes=notes)


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
        "index_put with accumulate": lambda x: torch.zeros(50, device=x.device).index_put_(
            (index,), x, accumulate=True
        ),
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
