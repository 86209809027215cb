"""Summation trees from counts: the full form, which asks for O(n log n) pairs, and the basic one, which asks for all.

`lost(i, j)` is how many elements are under the addition at which i and j meet. Additions of more than two terms come
in two kinds. One that cuts off what is small against its largest term loses all of its terms: the count is that of the
whole node. One that adds exactly and rounds once loses the two terms with i and j alone. Both are recovered.

Source: P. Xie, Y. Gao, Y. Wang, J. Xue, Revealing Floating-Point Accumulation Orders in Software/Hardware
Implementations, USENIX ATC 2025 (FPRev), for the counts, the basic form, and the full one where additions are of two
terms or cut off; the exact nodes are added here. The pivot is random, not the smallest index: a sum from the last
element to the first would take n^2 / 2 calls otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations

from detprobe.probes._masks import NoTree
from detprobe.sum_tree import SumTree

__all__ = ["basic", "full", "misfit"]

Lost = Callable[[int, int], int]
Keeps = Callable[[int, int, int], bool]

_NO_TREE = "No tree of additions explains its results: the order may depend on the values, or change from call to call."


def full(m: int, lost: Lost, keeps: Keeps) -> SumTree:
    """The tree over 0 .. m-1, from one pivot's counts with all others, and so on in each part.

    Raises:
        NoTree: the counts are not those of a tree.
    """
    return _Full(m, lost, keeps).tree()


class _Full:
    def __init__(self, m: int, lost: Lost, keeps: Keeps) -> None:
        self._m, self._lost, self._keeps = m, lost, keeps
        self._nodes: list[tuple[int, ...]] = []
        self._first = list(range(m))
        self._random = random.Random(0)

    def tree(self) -> SumTree:
        everything = list(range(self._m))
        pivot = self._random.choice(everything)
        self._over(pivot, self._counts(pivot, everything))
        return SumTree(self._m, tuple(self._nodes))

    def _counts(self, pivot: int, among: Sequence[int]) -> dict[int, int]:
        return {j: self._lost(pivot, j) for j in among if j != pivot}

    def _add(self, children: Sequence[int]) -> int:
        ordered = sorted(children, key=self._first.__getitem__)
        self._nodes.append(tuple(ordered))
        self._first.append(self._first[ordered[0]])
        return self._m + len(self._nodes) - 1

    def _over(self, pivot: int, counts: dict[int, int]) -> int:
        """The subtree over the pivot and these others; they are all that is under it.

        From the pivot upwards: `mine` is the complete subtree with the pivot, of `size` elements; `terms` are what its
        parent adds to it, of those found so far, over the elements `waiting`.
        """
        groups: dict[int, list[int]] = {}
        for j, count in counts.items():
            groups.setdefault(count, []).append(j)
        mine, size = pivot, 1
        terms: list[int] = []
        waiting: list[int] = []
        for count in sorted(groups):
            group = groups[count]
            if terms and (
                count == size + len(waiting) + len(group) or not self._keeps(pivot, group[0], waiting[0])
            ):  # the node with `terms` is below this group
                mine, size = self._add([mine, *terms]), size + len(waiting)
                terms, waiting = [], []
            terms += self._terms(group, count - size)
            waiting += group
        if terms:
            mine, size = self._add([mine, *terms]), size + len(waiting)
        if size != len(counts) + 1:
            raise NoTree(_NO_TREE)
        return mine

    def _terms(self, group: list[int], size: int) -> list[int]:
        """The subtrees that share out a group: one, or several of the same node.

        `size` is what one of them holds (exact nodes), or all of them (nodes that cut off).
        """
        if size < 1 or len(group) % size:
            raise NoTree(_NO_TREE)
        if size == 1:
            return group
        found = []
        rest = group
        while rest:
            pivot = self._random.choice(rest)
            counts = self._counts(pivot, rest)
            own = {j: count for j, count in counts.items() if count <= size}
            if len(group) > size and len(own) + 1 != size:
                raise NoTree(_NO_TREE)
            found.append(self._over(pivot, own))
            rest = [j for j, count in counts.items() if count > size]
        return found


def basic(m: int, lost: Lost) -> SumTree:
    """The tree over 0 .. m-1 from the counts of all pairs: what meets over few elements is joined first.

    Knows additions of two terms, and of more where the unit cuts off.

    Raises:
        NoTree: the counts are not those of such a tree.
    """
    by_count: dict[int, list[tuple[int, int]]] = {}
    for i, j in combinations(range(m), 2):
        by_count.setdefault(lost(i, j), []).append((i, j))
    home = list(range(m))  # the number of the subtree that an element is in so far
    members = {i: [i] for i in range(m)}
    nodes: list[tuple[int, ...]] = []
    for count in sorted(by_count):
        joined: dict[int, set[int]] = {}  # subtrees that meet, each under all of its partners
        for i, j in by_count[count]:
            a, b = home[i], home[j]
            if a == b:
                raise NoTree(_NO_TREE)  # they met already, over fewer elements
            joined.setdefault(a, {a}).add(b)
            joined.setdefault(b, {b}).add(a)
        for terms in {frozenset(terms) for terms in joined.values()}:
            elements = [i for term in terms for i in members[term]]
            if len(elements) != count or any(joined[term] != terms for term in terms):
                raise NoTree(_NO_TREE)
            nodes.append(tuple(sorted(terms, key=lambda term: min(members[term]))))
            number = m + len(nodes) - 1
            members[number] = elements
            for i in elements:
                home[i] = number
    return SumTree(m, tuple(nodes))


def misfit(tree: SumTree, pairs: Sequence[tuple[int, int]], lost: Lost) -> tuple[int, int] | None:
    """The first of these pairs whose count is not the tree's; None where all fit.

    At a node of more than two terms both kinds fit.
    """
    ways = _Ways(tree)
    for i, j in pairs:
        if lost(i, j) not in ways.counts(i, j):
            return i, j
    return None


class _Ways:
    """Where two elements of a tree meet."""

    def __init__(self, tree: SumTree) -> None:
        self._sizes = tree.sizes
        self._parent = [0] * (tree.root + 1)
        for k, children in enumerate(tree.nodes):
            for child in children:
                self._parent[child] = tree.n + k

    def counts(self, i: int, j: int) -> tuple[int, int]:
        """Elements under the node at which they meet, and under the two terms of it that they are in."""
        a, b = i, j
        while self._parent[a] != self._parent[b]:
            # A parent has a larger number than its children: the smaller of the two is below the meeting.
            if self._parent[a] < self._parent[b]:
                a = self._parent[a]
            else:
                b = self._parent[b]
        return self._sizes[self._parent[a]], self._sizes[a] + self._sizes[b]
