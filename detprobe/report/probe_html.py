"""The page of one probe, or of several."""

from __future__ import annotations

from detprobe.probe_report import Figure, ProbeReport, ProbeReports, Table
from detprobe.report import probe_wording as wording
from detprobe.report import svg
from detprobe.report.markup import facts, text

__all__ = ["body", "body_all"]

_HOW_TO_READ = (
    "<h2>How to read this</h2>"
    '<div class="card"><p style="margin-top:0">A probe runs the same computation on the same data, again and under '
    "other conditions, and compares the results bit by bit.</p><dl>"
    "<dt>free</dt><dd>the bits moved: something that is not in your program decided in which order numbers were "
    "added</dd>"
    "<dt>fixed</dt><dd>no difference was seen in what was tried, which the tables list; that is no proof</dd>"
    "<dt>ULP</dt><dd>units in the last place: how many representable numbers lie between two results</dd>"
    "<dt>-</dt><dd>there is no such number</dd></dl></div>"
)


def body(report: ProbeReport) -> str:
    parts = ['<div class="detprobe">', *_probe(report, "h1"), _HOW_TO_READ]
    return "\n".join([*parts, facts("Environment", report.environment), "</div>"])


def body_all(reports: ProbeReports) -> str:
    parts = ['<div class="detprobe">', f"<h1>Probes on {text(reports.device)}</h1>"]
    parts += [f'<p class="dim">{text(wording.headline_of_all(reports))}. Took {reports.seconds:.3g} s.</p>']
    parts += [_table(wording.summary(reports)), _HOW_TO_READ]
    for report in reports.reports:
        parts += _probe(report, "h2")
    environment = reports.reports[0].environment if reports.reports else {}
    return "\n".join([*parts, facts("Environment", environment), "</div>"])


def _probe(report: ProbeReport, tag: str) -> list[str]:
    version = text(str(report.environment.get("detprobe", "")))
    said = "".join(f"<li>{text(finding)}</li>" for finding in report.findings)
    kind = "ok" if report.ok else "warning"
    return [
        f"<{tag}>{text(report.name)}</{tag}>",
        f'<p class="dim">{text(report.question)} Took {report.seconds:.3g} s, detprobe {version}.</p>',
        f'<div class="card {kind}"><h3>{text(wording.headline(report))}</h3><ul>{said}</ul></div>',
        *(_table(table) for table in report.tables),
        *(_figure(figure) for figure in report.figures),
        *(f'<div class="card warning">{text(note)}</div>' for note in report.notes),
        facts("Settings", report.settings),
    ]


def _figure(figure: Figure) -> str:
    return f"<h3>{text(figure.title)}</h3><div class='scroll'>{svg.figure(figure)}</div>"


def _table(table: Table) -> str:
    right = [' class="number"' if wording.is_numeric(table, at) else "" for at in range(len(table.columns))]
    heads = "".join(f"<th{kind}>{text(wording.head(c))}</th>" for kind, c in zip(right, table.columns, strict=True))
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{text(wording.cell(value, column))}</td>"
            for kind, value, column in zip(right, row, table.columns, strict=True)
        )
        + "</tr>\n"
        for row in table.rows
    )
    title = f"<h3>{text(table.title)}</h3>" if table.title else ""
    return f"{title}<div class='scroll'><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
