"""A summation tree as lines of text."""

from __future__ import annotations

from detprobe.sum_tree import SumTree
from detprobe.tree_shape import fold, lines

__all__ = ["tree_lines"]

_DRAWN = 16  # elements of the largest tree that is drawn whole


def tree_lines(tree: SumTree) -> list[str]:
    """What is regular folded; under it, for few elements, the whole tree from its root on."""
    said = lines(fold(tree))
    return [*said, *_drawn(tree)] if tree.n <= _DRAWN else said


def _drawn(tree: SumTree) -> list[str]:
    found = []
    stack = [(tree.root, "", "")]
    while stack:
        number, lead, below = stack.pop()
        children = sorted(tree.children(number), key=tree.firsts.__getitem__)
        found.append(f"{lead}{'+' if children else f'x[{number}]'}")
        for child in reversed(children):
            last = child == children[-1]
            stack.append((child, below + ("`- " if last else "|- "), below + ("   " if last else "|  ")))
    return found
