"""The order of the additions of a sum, as plain data: which partial sums are added to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detprobe.errors import ArgumentValueError

__all__ = ["SumTree"]


@dataclass(frozen=True)
class SumTree:
    """A summation tree over `n` elements.

    Leaves are 0 .. n-1, the elements. `nodes[k]` is the sum number n + k, as the numbers of what it adds; children come
    before their sum, and the last one is the result. A node of more than two children adds them in one step that
    rounds once, as the fused units of tensor cores do.

    Example:
        >>> SumTree(4, ((0, 1), (2, 3), (4, 5)))  # (x0 + x1) + (x2 + x3)
    """

    n: int
    nodes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        used = bytearray(self.n + len(self.nodes) if self.n > 0 else 0)
        for k, children in enumerate(self.nodes):
            if len(children) < 2 or any(not 0 <= child < self.n + k or used[child] for child in children):
                raise ArgumentValueError(f"not a summation tree: sum {self.n + k} cannot be of {children!r:.80}")
            for child in children:
                used[child] = 1
        if self.n < 1 or sum(used) != len(used) - 1:
            raise ArgumentValueError(f"not a summation tree: not every one of {self.n} elements is under the last sum")

    @classmethod
    def from_plain(cls, raw: Any) -> SumTree:
        """Read what JSON made of it."""
        try:
            n, nodes = raw["n"], tuple(tuple(children) for children in raw["nodes"])
        except (TypeError, KeyError):
            raise ArgumentValueError("not a summation tree: expected an object of n and nodes") from None
        if any(type(number) is not int for number in (n, *(child for children in nodes for child in children))):
            raise ArgumentValueError("not a summation tree: expected whole numbers")
        return cls(n, nodes)
