"""The regular parts of a summation tree, folded: 8 lanes, each one after the other over 32 elements, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby, pairwise

from detprobe.sum_tree import SumTree

__all__ = ["Fold", "fold", "lines", "sentence"]


@dataclass(frozen=True)
class Fold:
    """A subtree: `count` parts of one shape, or `parts` that are unlike."""

    kind: str
    """"element", "chain" (one after the other), "pairs" (a balanced tree), "fused" (one step of several terms), "steps"
    (a chain of those: each of `count` steps adds up to `step` elements to the sum of all before)."""
    first: int
    """The smallest element."""
    size: int
    """Elements in all."""
    count: int = 1
    step: int | None = None
    """From the first element of one part to that of the next; None where that is not always the same."""
    halves: bool = False
    """Of pairs: the first part is added to the one in the middle, not to its neighbour."""
    part: Fold | None = None
    """The first of equal parts."""
    parts: tuple[Fold, ...] = ()
    """Unlike parts, in the order in which they are added."""


def fold(tree: SumTree) -> Fold:
    """The whole tree, folded."""
    return _Folder(tree).fold(tree.root)


class _Folder:
    def __init__(self, tree: SumTree) -> None:
        self._tree = tree
        self._first, self._size = tree.firsts, tree.sizes
        self._shape = [b""] * tree.n  # equal for subtrees that are the same but for where they start
        for k, children in enumerate(tree.nodes):
            home = self._first[tree.n + k]
            inner = sorted(b"%d:%s," % (self._first[child] - home, self._shape[child]) for child in children)
            self._shape.append(blake2b(b"".join(inner), digest_size=16).digest())

    def fold(self, number: int) -> Fold:
        children = sorted(self._tree.children(number), key=self._first.__getitem__)
        if not children:
            return Fold("element", number, 1)
        if len(children) > 2:
            return self._steps_of(number) or self._of("fused", children)
        a, b = children
        if self._shape[a] == self._shape[b]:
            return self._pairs(a, b)
        if self._size[a] == self._size[b]:
            return Fold("pairs", self._first[number], self._size[number], parts=(self.fold(a), self.fold(b)))
        return self._of("chain", self._links(number))

    def _steps_of(self, number: int) -> Fold | None:
        """The chain of an accumulator that takes up several elements in each step; None where it is none."""
        widths = []
        at = number
        while True:
            children = sorted(self._tree.children(at), key=self._size.__getitem__)
            taken = [child for child in children if child < self._tree.n]
            if _even(sorted(taken)) != 1 or len(children) - len(taken) > 1:
                return None
            widths.append(len(taken))
            if len(children) == len(taken):
                break
            at = children[-1]
        if len(widths) < 2:
            return None
        return Fold("steps", self._first[number], self._size[number], len(widths), max(widths))

    def _links(self, number: int) -> list[int]:
        """What is added one after the other, the first one first."""
        links: list[int] = []
        while True:
            children = sorted(self._tree.children(number), key=self._size.__getitem__)
            if len(children) != 2 or self._shape[children[0]] == self._shape[children[1]]:
                if len(children) == 2 and self._shape[children[0]] == self._shape[links[-1]]:
                    # Which of the two came first nobody can tell: the one that is in line with the third.
                    upwards = self._first[links[-1]] > min(self._first[child] for child in children)
                    links += sorted(children, key=self._first.__getitem__, reverse=upwards)
                else:
                    links.append(number)
                return links[::-1]
            small, number = children
            links.append(small)

    def _pairs(self, a: int, b: int) -> Fold:
        parts = [a, b]
        while True:
            below = [sorted(self._tree.children(part), key=self._first.__getitem__) for part in parts]
            if any(len(children) != 2 for children in below) or len({self._shape[c] for two in below for c in two}) > 1:
                return self._of("pairs", parts)
            parts = [child for children in below for child in children]

    def _of(self, kind: str, numbers: list[int]) -> Fold:
        """Parts of one kind of addition: one fold if they are alike, and else one for each run of them."""
        first, size = min(self._first[i] for i in numbers), sum(self._size[i] for i in numbers)
        runs = [list(run) for _, run in groupby(numbers, key=self._shape.__getitem__)]
        if len(runs) == 1:
            step, halves = self._steps(numbers, kind)
            return Fold(kind, first, size, len(numbers), step, halves, self.fold(numbers[0]))
        parts = [self.fold(run[0]) if len(run) == 1 else self._of(kind, run) for run in runs]
        return Fold(kind, first, size, len(numbers), parts=tuple(parts))

    def _steps(self, numbers: list[int], kind: str) -> tuple[int | None, bool]:
        firsts = [self._first[i] for i in numbers]
        step = _even(firsts)
        if step is not None or kind != "pairs":
            return step, False
        width = len(firsts).bit_length() - 1
        turned = [firsts[int(f"{i:0{width}b}"[::-1], 2)] for i in range(len(firsts))]
        return _even(turned), _even(turned) is not None


def _even(firsts: list[int]) -> int | None:
    steps = {b - a for a, b in pairwise(firsts)}
    return steps.pop() if len(steps) == 1 else None


def sentence(what: Fold) -> str:
    """In one line: "8 lanes added pairwise, each one after the other over 32 elements, 8 apart"."""
    if what.kind == "element":
        return f"x[{what.first}]"
    if what.kind == "steps":
        return f"{what.count} steps, of which each adds up to {what.step} elements to the sum of those before at once"
    how = _HOW[what.kind]
    if what.parts:
        return f"{len(what.parts)} unlike parts, {how}"
    assert what.part is not None
    if what.part.kind == "element":
        return f"{how} over {what.count} elements{_apart(what)}"
    name = "lanes" if _are_lanes(what) else "parts"
    return f"{what.count} {name}{_apart(what)}, added {how}, each {sentence(what.part)}"


_HOW = {"chain": "one after the other", "pairs": "pairwise", "fused": "in one step"}


def _apart(what: Fold) -> str:
    if what.step is None:
        return ", unevenly spaced"
    said = "" if what.step == 1 else f", {abs(what.step)} apart"
    if what.step < 0:
        said += ", from the last to the first"
    return f"{said}, the halves first" if what.halves else said


def _are_lanes(what: Fold) -> bool:
    """Whether the elements of one part lie between those of the others."""
    part = what.part
    return part is not None and None not in (part.step, what.step) and abs(part.step or 0) > abs(what.step or 0)


def lines(what: Fold, *, most: int = 40) -> list[str]:
    """The same from the outside in, one part below the other; `most` lines at most."""
    found = _lines(what)
    return found if len(found) <= most else [*found[:most], f"... and {len(found) - most} more lines"]


def _lines(what: Fold) -> list[str]:
    if what.kind == "element":
        return [sentence(what)]
    said = f"{sentence(what)}, from x[{what.first}]"
    inner = what
    while inner.part is not None:
        inner = inner.part
    if not inner.parts:
        return [said]
    if inner is not what:
        said += "; of the first one:"
    return [said, *(f"  {line}" for part in inner.parts for line in _lines(part))]
