"""Results of one computation on the same data: how many different ones, and how far apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detprobe import bits

__all__ = ["Spread", "spread", "ulps"]

_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Spread:
    """What `runs` results have in common."""

    runs: int
    distinct: int
    common: float
    """Share of the most frequent result, 0 to 1."""
    ulp: int | None
    """The largest distance between two results in one place, ULP; None where one is NaN and another is not."""
    gap: float | None
    """The largest absolute difference in one place; None as for ulp."""


def spread(results: torch.Tensor | Sequence[torch.Tensor]) -> Spread:
    """Count and compare results, bit by bit; each result is one row.

    Example:
        >>> spread(torch.tensor([[1.0], [1.0], [1.0000001]])).distinct
        2
    """
    rows = torch.stack(list(results)) if not isinstance(results, torch.Tensor) else results
    rows = rows.reshape(len(rows), -1)
    counts = Counter(bits.digest(row) for row in rows)
    # NaN wins in both, and then the two sides agree there: rows with one are compared with the first row instead.
    low, high = rows.amin(0), rows.amax(0)
    pairs = [(low, high)] if not rows.isnan().any() else [(rows[0], row) for row in rows[1:]]
    found = [bits.difference(a.contiguous(), b.contiguous()) for a, b in pairs]
    broken = any(one.nan_count for one in found)
    return Spread(
        runs=len(rows),
        distinct=len(counts),
        common=max(counts.values()) / len(rows),
        ulp=None if broken else max((one.max_ulp or 0 for one in found), default=0),
        gap=None if broken else max((one.max_abs or 0.0 for one in found), default=0.0),
    )


def ulps(values: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How many representable numbers lie between each value and the reference, negative below it: int64."""
    return _rank(values) - _rank(reference)


def _rank(values: torch.Tensor) -> torch.Tensor:
    """The place of each number in the ordered row of all numbers of its format; both zeros are at 0."""
    words = values.contiguous().view(_WORDS[values.element_size()]).to(torch.int64)
    magnitude = words & (2 ** (8 * values.element_size() - 1) - 1)
    return torch.where(words < 0, -magnitude, magnitude)
