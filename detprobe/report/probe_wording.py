"""The sentences and numbers of probes, as every view shows them."""

from __future__ import annotations

import math

from detprobe.probe_report import Cell, Column, Histogram, ProbeReport, ProbeReports, Table
from detprobe.report.wording import clean

__all__ = ["bins", "cell", "head", "headline", "headline_of_all", "is_numeric", "number", "summary"]


def headline(report: ProbeReport) -> str:
    """Which probe, where, and what came out, in one line."""
    said = "the order of additions is free" if report.free else "no float-ordering freedom seen"
    return f"{clean(report.name)} on {clean(report.device)}: {said}"


def headline_of_all(reports: ProbeReports) -> str:
    free = list(dict.fromkeys(report.name for report in reports.reports if report.free))
    ran = len(reports.reports)
    what = f"{ran} probe on" if ran == 1 else f"{ran} probes on"
    said = f"float-ordering freedom seen by {', '.join(map(clean, free))}" if free else "no float-ordering freedom seen"
    return f"{what} {clean(reports.device)}: {said}"


def summary(reports: ProbeReports) -> Table:
    """One row per probe, those that did not run included."""
    several = len({report.device for report in reports.reports}) > 1
    rows: list[tuple[Cell, ...]] = []
    for report in reports.reports:
        name = f"{report.name} on {report.device}" if several else report.name
        said = next(iter(report.findings), "")
        rows.append((name, "free" if report.free else "fixed", report.seconds, said))
    rows += [(name, "not run", None, why) for name, why in reports.skipped]
    columns = (Column("probe"), Column("order"), Column("time", "s", 2), Column("first finding, or why it did not run"))
    return Table("", columns, tuple(rows))


def head(column: Column) -> str:
    return f"{clean(column.name)} ({clean(column.unit)})" if column.unit else clean(column.name)


def cell(value: Cell, column: Column) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, column.digits)
    return clean(str(value))


def number(value: float, digits: int) -> str:
    """`digits` significant digits; whole numbers of fewer digits as they are, and no exponent where there need be none.

    4.0 -> "4", 1234.5 at 3 digits -> "1230", 0.000012 -> "1.2e-05"
    """
    if not math.isfinite(value):
        return str(value)
    digits = min(max(digits, 1), 17)
    short = f"{value:.{digits}g}"
    if "e+" in short and abs(value) < 1e9:
        return f"{float(short):.0f}"
    return short


def is_numeric(table: Table, at: int) -> bool:
    """Whether a column holds numbers, which are aligned on the right."""
    cells = [row[at] for row in table.rows if row[at] is not None]
    return bool(cells) and all(isinstance(value, float | int) and not isinstance(value, bool) for value in cells)


def bins(histogram: Histogram) -> list[tuple[str, int, str]]:
    """Label, count and the marks that fall into it, per bin. A bin around one whole number is that number."""
    found = []
    edges = histogram.edges
    for i, count in enumerate(histogram.counts):
        low, high = edges[i], edges[i + 1]
        middle = (low + high) / 2
        single = high - low == 1.0 and middle.is_integer()
        label = f"{middle:.0f}" if single else f"{number(low, 4)} .. {number(high, 4)}"
        last = i + 1 == len(histogram.counts)
        inside = [clean(name) for name, at in histogram.marks if low <= at < high or (last and at == high)]
        found.append((label, count, ", ".join(inside)))
    return found
