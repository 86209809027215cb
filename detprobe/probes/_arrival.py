"""In which order did they come, and how alike are two orders."""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Sequence

__all__ = ["alternations", "arrival_order", "kendall_tau"]


def arrival_order(tickets: Sequence[int]) -> list[int]:
    """Who came first, second, ...: `tickets[i]` is the number that i drew on arrival.

    Example:
        >>> arrival_order([2, 0, 1])
        [1, 2, 0]
    """
    return sorted(range(len(tickets)), key=tickets.__getitem__)


def kendall_tau(a: Sequence[int], b: Sequence[int]) -> float:
    """Rank correlation of two rankings without ties: 1 for the same order, -1 for the reverse, near 0 for strangers.

    The share of pairs that both rank alike less the share of those that they do not.

    Example:
        >>> kendall_tau([0, 1, 2], [0, 2, 1])
        0.3333333333333333

    Args:
        a, b: the rank of each item; at least two items, as many in both.

    Source: M. G. Kendall, A New Measure of Rank Correlation, Biometrika 30, 1938.
    """
    n = len(a)
    seen: list[int] = []
    swapped = 0
    for item in arrival_order(a):
        swapped += len(seen) - bisect_right(seen, b[item])
        insort(seen, b[item])
    return 1.0 - 4.0 * swapped / (n * (n - 1))


def alternations(order: Sequence[int], threads: int) -> int:
    """How often the next to come was another thread's, where thread t owns the items t, t + threads, ..."""
    return sum(a % threads != b % threads for a, b in itertools.pairwise(order))
