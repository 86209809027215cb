"""Results of one computation, run several times: how many are distinct, and how far they are from a first one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from detprobe.errors import ArgumentTypeError
from detprobe.probe_report import Cell, Column
from detprobe.scanning._compare import Measure, difference, fingerprint
from detprobe.scanning._tree import is_plain, tensors_in

__all__ = ["Outcomes", "columns", "gather", "row"]


@dataclass(frozen=True)
class Outcomes:
    """What several runs under one setting gave."""

    first: list[Any]
    """The tensors and numbers of the reference."""
    key: Any
    """Fingerprint of the reference."""
    keys: tuple[Any, ...]
    """Fingerprint of each run."""
    worst: Measure | None
    """The largest difference of a run from the reference; None where all bits agree."""

    @property
    def runs(self) -> int:
        return len(self.keys)

    @property
    def distinct(self) -> int:
        """Distinct results among these runs."""
        return len(set(self.keys))

    @property
    def verdict(self) -> str:
        """ "same" (as the reference), "moved" (one result, another one) or "varies" (from run to run)."""
        if self.distinct > 1:
            return "varies"
        return "same" if self.keys[0] == self.key else "moved"

    @property
    def changed(self) -> float:
        """Largest share of elements that differ from the reference, in percent."""
        return 0.0 if self.worst is None else 100.0 * self.worst.changed

    @property
    def max_ulp(self) -> int | None:
        return 0 if self.worst is None else self.worst.max_ulp


def row(about: str, setting: str, found: Outcomes) -> tuple[Cell, ...]:
    """A row of a table with these `columns`."""
    return about, setting, found.runs, found.distinct, found.verdict, found.changed, found.max_ulp


def columns(about: str) -> tuple[Column, ...]:
    """The heads of rows: what ran, what was set, and what came of it."""
    names = (about, "setting", "runs", "distinct", "verdict")
    return (*(Column(name) for name in names), Column("differ", "%"), Column("up to", "ULP"))


def gather(run: Callable[[], Any], runs: int, reference: Outcomes | None = None) -> Outcomes:
    """Run it several times; the reference is another setting's, or the first run."""
    first = None if reference is None else reference.first
    key = None if reference is None else reference.key
    keys = []
    worst: Measure | None = None
    for _ in range(runs):
        results = _flat(run())
        print_of = fingerprint(results)
        if first is None:
            first, key = results, print_of
        keys.append(print_of)
        if print_of != key:
            measure = difference(first, results)
            worst = worst if measure is None else measure.worst(worst)
    assert first is not None
    return Outcomes(first, key, tuple(keys), worst)


def _flat(value: Any) -> list[Any]:
    """Copies of the tensors of a result, which the next run may overwrite; or the one number that it is."""
    found: list[Any] = [tensor.detach().clone() for tensor in tensors_in(value) if is_plain(tensor)]
    if found:
        return found
    if isinstance(value, np.ndarray):
        return [torch.from_numpy(value.copy())]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int | float | complex) and not isinstance(value, bool):
        return [value]
    raise ArgumentTypeError(f"fn: expected it to return tensors or a number, got {type(value).__name__}")
