"""A summation tree as lines of text."""

from __future__ import annotations

from detprobe.sum_tree import SumTree

__all__ = ["tree_lines"]


def tree_lines(tree: SumTree) -> list[str]:
    """The root first, what it adds below it and further to the right."""
    lines = []
    stack = [(tree.n + len(tree.nodes) - 1, 0)]
    while stack:
        number, depth = stack.pop()
        if number < tree.n:
            lines.append(f"{'  ' * depth}x[{number}]")
            continue
        children = tree.nodes[number - tree.n]
        lines.append(f"{'  ' * depth}+")
        stack += [(child, depth + 1) for child in reversed(children)]
    return lines
