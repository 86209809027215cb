"""Figures as SVG that takes its colours from the page."""

from __future__ import annotations

from detprobe.probe_report import Bars, Figure, Histogram
from detprobe.report import probe_wording as wording
from detprobe.report.markup import text
from detprobe.sum_tree import SumTree
from detprobe.tree_shape import fold, lines

__all__ = ["figure"]

_ROW, _LABEL, _BAR, _WIDTH = 20, 220, 380, 760
_LARGEST = 512  # elements of a tree that is drawn
_NAMED = 32  # elements that get their number under the drawing


def figure(what: Figure) -> str:
    if isinstance(what, Histogram):
        most = max(1, *what.counts)
        rows = [
            (label, count / most, f"{count}{f'  {marks}' if marks else ''}")
            for label, count, marks in wording.bins(what)
        ]
        return _rows(f"{what.title}, {what.unit}", rows)
    if isinstance(what, Bars):
        top = max((value for value in what.values if value), default=1.0)
        said = ["-" if v is None else f"{wording.number(float(v), what.digits)} {what.unit}" for v in what.values]
        rows = [(name, (v or 0.0) / top, s) for name, v, s in zip(what.labels, what.values, said, strict=True)]
        return _rows(what.title, rows)
    return _tree(what.title, what.tree)


def _tree(title: str, tree: SumTree) -> str:
    """What is regular folded; under it, where it is not too large, every addition, the result on top."""
    said = "\n".join(map(text, lines(fold(tree))))
    if tree.n > _LARGEST:
        return f"<pre>{said}</pre><p class='dim'>{tree.n} elements are too many to draw.</p>"
    order = tree.leaves(tree.root)
    named = tree.n <= _NAMED
    step = (_WIDTH - 20) / max(1, tree.n - 1)
    across = {leaf: 10 + i * step for i, leaf in enumerate(order)}
    level = dict.fromkeys(order, 0)
    for k, children in enumerate(tree.nodes):
        across[tree.n + k] = sum(across[child] for child in children) / len(children)
        level[tree.n + k] = 1 + max(level[child] for child in children)
    rise = 260 / max(1, level[tree.root])
    height = {number: round(270 - rise * up, 2) for number, up in level.items()}
    paths = []
    for k, children in enumerate(tree.nodes):
        top = height[tree.n + k]
        ends = [round(across[child], 2) for child in children]
        paths.append(f"M{min(ends)} {top}H{max(ends)}")
        paths += [f"M{x} {top}V{height[child]}" for x, child in zip(ends, children, strict=True)]
    names = "".join(f'<text x="{round(across[i], 2)}" y="288" text-anchor="middle">{i}</text>' for i in order if named)
    drawn = f'<path class="tree" d="{"".join(paths)}"></path>{names}'
    return (
        f'<pre>{said}</pre><svg class="drawn" role="img" viewBox="0 0 {_WIDTH} 292"><title>{text(title)}</title>'
        f"{drawn}</svg>"
    )


def _rows(title: str, rows: list[tuple[str, float, str]]) -> str:
    """Horizontal bars under each other: label, bar, what it says."""
    parts = [f'<svg class="bars" role="img" viewBox="0 0 {_WIDTH} {_ROW * len(rows)}"><title>{text(title)}</title>']
    for i, (label, share, said) in enumerate(rows):
        y, width = i * _ROW, round(share * _BAR, 2)
        end = _LABEL + 10 + width + 6
        parts.append(
            f'<text x="{_LABEL}" y="{y + 14}" text-anchor="end">{text(label)}</text>'
            f'<rect x="{_LABEL + 10}" y="{y + 3}" width="{width}" height="{_ROW - 6}" rx="2"></rect>'
            f'<text x="{round(end, 2)}" y="{y + 14}">{text(said)}</text>'
        )
    return "".join([*parts, "</svg>"])
