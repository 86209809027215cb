"""Probes on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from detprobe.probe_report import Bars, Figure, Histogram, ProbeReport, ProbeReports, Table
from detprobe.report import probe_wording as wording
from detprobe.report.tree_text import tree_lines
from detprobe.report.widgets import marked_line, note_line, plain_table
from detprobe.report.wording import clean

__all__ = ["view", "view_all"]

_WIDEST = 40  # columns of the longest bar


def view(report: ProbeReport) -> Group:
    parts: list[RenderableType] = [_headline(wording.headline(report), report.ok)]
    parts += [Text(clean(report.question), style="dim")]
    if report.findings:
        parts.append(Text())
        parts += [marked_line(Text("-"), finding) for finding in report.findings]
    for table in report.tables:
        parts += [Text(), *_titled(table.title, _table(table))]
    for figure in report.figures:
        parts += [Text(), *_titled(figure.title, _figure(figure))]
    if report.notes:
        parts.append(Text())
        parts += [note_line(note) for note in report.notes]
    return Group(*parts)


def view_all(reports: ProbeReports) -> Group:
    parts: list[RenderableType] = [_headline(wording.headline_of_all(reports), reports.ok), Text()]
    parts.append(_table(wording.summary(reports)))
    for report in reports.reports:
        parts += [Text(), Rule(style="dim", characters="-"), view(report)]
    return Group(*parts)


def _headline(said: str, ok: bool) -> Text:
    return Text(said, style="bold green" if ok else "bold yellow")


def _titled(title: str, what: RenderableType) -> list[RenderableType]:
    return [Text(clean(title), style="bold"), what] if title else [what]


def _table(table: Table) -> Grid:
    grid = plain_table()
    for at, column in enumerate(table.columns):
        right = wording.is_numeric(table, at)
        grid.add_column(
            Text(wording.head(column)),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*(Text(wording.cell(value, at)) for value, at in zip(row, table.columns, strict=True)))
    return grid


def _figure(figure: Figure) -> RenderableType:
    if isinstance(figure, Histogram):
        return _histogram(figure)
    if isinstance(figure, Bars):
        return _bars(figure)
    lines = [
        Padding(Text(line.lstrip()), (0, 0, 0, len(line) - len(line.lstrip()))) for line in tree_lines(figure.tree)
    ]
    return Group(*lines)


def _histogram(figure: Histogram) -> Grid:
    most = max(1, *figure.counts)
    grid = _bar_grid(clean(figure.unit))
    for label, count, marks in wording.bins(figure):
        grid.add_row(Text(label), Text(_bar(count / most), style="cyan"), Text(str(count)), Text(marks, style="green"))
    return grid


def _bars(figure: Bars) -> Grid:
    most = max((value for value in figure.values if value), default=1.0)
    grid = _bar_grid("")
    for label, value in zip(figure.labels, figure.values, strict=True):
        said = "-" if value is None else f"{wording.number(float(value), figure.digits)} {clean(figure.unit)}"
        grid.add_row(Text(clean(label)), Text(_bar((value or 0.0) / most), style="cyan"), Text(said), Text())
    return grid


def _bar_grid(unit: str) -> Grid:
    grid = plain_table()
    grid.show_header = bool(unit)
    grid.add_column(Text(unit), justify="right" if unit else "left", overflow="fold")
    for _ in range(3):
        grid.add_column(overflow="fold")
    return grid


def _bar(share: float) -> str:
    """Never nothing for something."""
    return "#" * max(round(share * _WIDEST), 1 if share > 0 else 0)
