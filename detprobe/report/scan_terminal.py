"""A scan on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from detprobe.report import wording
from detprobe.report.widgets import note_line, plain_table
from detprobe.result import Finding, OpRow, Report

__all__ = ["view"]

_COLOURS = {
    "nondeterministic": "bold red",
    "uninitialized": "bold magenta",
    "order-sensitive": "bold yellow",
    "random": "cyan",
    "unreplayed": "yellow",
    "stable": "green",
}


def view(report: Report, all_ops: bool) -> Group:
    parts: list[RenderableType] = [Text(wording.headline(report), style="bold green" if report.ok else "bold")]
    for finding in report.findings:
        parts += [Text(), _finding(finding)]
    parts.append(Text())
    parts.append(_every_place(report) if all_ops else _summary(report))
    if report.notes:
        parts.append(Text())
        parts += [note_line(note) for note in report.notes]
    return Group(*parts)


def _finding(finding: Finding) -> Group:
    title = Text.assemble(
        (finding.verdict, _COLOURS.get(finding.verdict, "bold")), "  ", (wording.clean(finding.op), "bold")
    )
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("where", Text(wording.where(finding)))
    lines.add_row("seen", Text(wording.evidence(finding)))
    if finding.shapes:
        lines.add_row("on", Text(wording.clean(finding.shapes)))
    lines.add_row("cause", Text(wording.clean(finding.cause)))
    for trial in finding.trials:
        style = "green" if trial.result == "identical" else "yellow"
        said = Text.assemble((wording.clean(trial.fix), "bold"), ": ", (wording.trial_text(trial), style))
        lines.add_row("tried" if trial is finding.trials[0] else "", said)
    return Group(title, Padding(lines, (0, 0, 0, 2)))


def _summary(report: Report) -> Table:
    """One line per op that is not stable, and one for all that are."""
    table = _table("verdict", "op", "places", "calls", "could differ", "reason, or first place")
    stable = [row for row in report.ops if row.verdict == "stable"]
    for group in wording.groups(row for row in report.ops if row.verdict != "stable"):
        verdict = Text(group.verdict, style=_COLOURS.get(group.verdict, ""))
        numbers = (str(group.places), str(group.calls), wording.bound_text(group.bound))
        table.add_row(verdict, Text(wording.clean(group.op)), *numbers, Text(_said(group)))
    computed = [row for row in stable if row.bound]
    if computed:
        worst = wording.bound_text(max(row.bound or 0.0 for row in computed))
        calls = sum(row.calls for row in computed)
        table.add_row(_stable(), _ops(computed), str(len(computed)), str(calls), worst, Text("at 95 % confidence"))
    moved = [row for row in stable if not row.bound]
    if moved:
        calls = sum(row.calls for row in moved)
        said = Text("views and allocations: nothing is computed")
        table.add_row(_stable(), _ops(moved), str(len(moved)), str(calls), "exact", said)
    return table


def _said(group: wording.Group) -> str:
    if group.verdict == "unreplayed":
        return f"{wording.clean(group.reason)}; {group.example}"
    return group.example


def _stable() -> Text:
    return Text("stable", style=_COLOURS["stable"])


def _ops(rows: list[OpRow]) -> Text:
    names = {row.op for row in rows}
    return Text(f"{len(names)} {'op' if len(names) == 1 else 'ops'}")


def _every_place(report: Report) -> Table:
    table = _table("verdict", "op", "phase", "calls", "could differ", "place")
    for row in report.ops:
        reason = f" ({wording.clean(row.reason)})" if row.reason and row.verdict != "random" else ""
        table.add_row(
            Text(row.verdict, style=_COLOURS.get(row.verdict, "")),
            Text(wording.clean(row.op)),
            Text(row.phase),
            str(row.calls),
            wording.bound_text(row.bound),
            Text(wording.place(row) + reason),
        )
    return table


def _table(*columns: str) -> Table:
    table = plain_table()
    for name in columns:
        right = name in ("places", "calls")
        short = name in ("verdict", "phase", "places", "calls", "could differ")
        table.add_column(name, justify="right" if right else "left", no_wrap=short, overflow="fold")
    return table
