"""A comparison on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from detprobe.report import verdict_wording as wording
from detprobe.report.widgets import marked_line, note_line, plain_table
from detprobe.report.wording import clean
from detprobe.verdict_report import Comparison, MetricVerdict

__all__ = ["view"]

_WIDTH = 50  # columns of the plot
_STYLES = {"INERT": "bold green", "REAL": "bold red", "NOISE": "bold green", "UNDECIDED": "bold yellow"}


def view(comparison: Comparison) -> Group:
    first = wording.said_first(comparison)
    parts: list[RenderableType] = [Text(first, style="bold red"), Text()] if first else []
    for metric in comparison.metrics:
        parts.append(Text(wording.headline(metric), style=_STYLES.get(metric.verdict, "")))
    parts += [marked_line(Text("A", style="dim"), comparison.a), marked_line(Text("B", style="dim"), comparison.b)]
    for metric in comparison.metrics:
        parts += [Text(), *_metric(comparison, metric, titled=len(comparison.metrics) > 1)]
    rest = comparison.warnings[1:] if first else comparison.warnings
    if rest:
        parts.append(Text())
        parts += [note_line(warning) for warning in rest]
    return Group(*parts)


def _metric(comparison: Comparison, metric: MetricVerdict, *, titled: bool) -> list[RenderableType]:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in wording.facts(comparison, metric):
        grid.add_row(Text(name), Text(value))
    title = [Text(clean(metric.name), style="bold")] if titled else []
    return [*title, grid, Text(), _plot(wording.plot(comparison, metric))]


def _plot(plot: wording.Plot) -> Grid:
    grid = plain_table()
    grid.add_column(Text("seed"), justify="right", overflow="fold")
    axis = plot.low + " " * max(1, _WIDTH - len(plot.low) - len(plot.high)) + plot.high
    grid.add_column(Text(axis), overflow="fold")
    grid.add_column(Text("B - A"), justify="right", overflow="fold")
    for line in plot.lines:
        grid.add_row(Text(line.seed), Text(_pair(line.a, line.b)), Text(line.difference))
    if plot.left_out:
        grid.add_row(Text("..."), Text(f"and {plot.left_out} more pairs"), Text())
    grid.add_row(Text("B - A"), Text(_interval(plot), style="cyan"), Text())
    grid.add_row(
        Text(),
        Text("|: 0; [+]: 95 % interval; dots: the one that decides; colons: min effect", style="dim"),
        Text(),
    )
    return grid


def _at(share: float) -> int:
    return round(share * (_WIDTH - 1))


def _pair(a: float, b: float) -> str:
    cells = [" "] * _WIDTH
    left, right = sorted((_at(a), _at(b)))
    cells[left : right + 1] = "-" * (right + 1 - left)
    cells[_at(a)], cells[_at(b)] = "a", "b"
    if left == right:
        cells[left] = "*"
    return "".join(cells).rstrip()


def _interval(plot: wording.Plot) -> str:
    cells = [" "] * _WIDTH
    for ends, stroke in ((plot.wide, "."), (plot.interval, "-")):
        if ends is not None:
            left, right = _at(ends[0]), _at(ends[1])
            cells[left : right + 1] = stroke * (right + 1 - left)
    if plot.interval is not None:
        cells[_at(plot.interval[0])], cells[_at(plot.interval[1])] = "[", "]"
    for end in plot.minimum or ():
        cells[_at(end)] = ":"
    cells[_at(plot.zero)] = "|"
    cells[_at(plot.effect)] = "+"
    return "".join(cells).rstrip()
