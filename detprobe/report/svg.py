"""Figures as SVG that takes its colours from the page."""

from __future__ import annotations

from detprobe.probe_report import Bars, Figure, Histogram
from detprobe.report import probe_wording as wording
from detprobe.report.markup import text
from detprobe.report.tree_text import tree_lines

__all__ = ["figure"]

_ROW, _LABEL, _BAR, _WIDTH = 20, 220, 380, 760


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
    return f"<pre>{text_lines(tree_lines(what.tree))}</pre>"


def text_lines(lines: list[str]) -> str:
    return "\n".join(map(text, lines))


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
