"""The page of a scan."""

from __future__ import annotations

from detprobe.report import wording
from detprobe.report.markup import code, facts, text
from detprobe.result import FINDING_VERDICTS, OTHER_VERDICTS, Finding, OpRow, Report, Trial

__all__ = ["body"]


def body(report: Report, *, filterable: bool) -> str:
    parts = [
        '<div class="detprobe">',
        f"<h1>{text(report.model)}</h1>",
        f'<p class="dim">{text(wording.headline(report))}. Scanned in {report.seconds:.3g} s by detprobe '
        f"{text(str(report.environment.get('detprobe', '')))}.</p>",
        *(f'<div class="card warning">{text(note)}</div>' for note in report.notes),
        "<h2>Findings</h2>",
        *(_finding(finding) for finding in report.findings),
    ]
    if report.ok:
        parts.append(f'<div class="card ok">{text(_nothing(report))}</div>')
    parts += [_how_to_read(report), _places(report, filterable), facts("Settings", report.settings)]
    parts += [facts("Environment", report.environment), "</div>"]
    return "\n".join(parts)


def _nothing(report: Report) -> str:
    worst = max((row.bound for row in report.ops if row.bound), default=None)
    if worst is None:
        return "No op was replayed: nothing is known."
    return (
        "No difference was seen. That is a bound, not a proof: an op here could still differ with probability "
        f"{wording.bound_text(worst)} per run, at 95 % confidence. More replays make it smaller."
    )


def _finding(finding: Finding) -> str:
    rows = [("where", text(wording.where(finding))), ("seen", text(wording.evidence(finding)))]
    if finding.shapes:
        rows.append(("on", code(finding.shapes)))
    rows.append(("cause", text(finding.cause)))
    rows += [("tried", _trial(trial)) for trial in finding.trials]
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return (
        f'<div class="card {_class(finding.verdict)}"><h3>{_verdict(finding.verdict)} {code(finding.op)}</h3>'
        f"<dl>{lines}</dl></div>"
    )


def _trial(trial: Trial) -> str:
    return f'{code(trial.fix)}: <span class="{_class(trial.result)}">{text(wording.trial_text(trial))}</span>'


def _verdict(verdict: str) -> str:
    return f'<span class="verdict {_class(verdict)}">{text(verdict)}</span>'


def _class(value: str) -> str:
    """A class name: nothing but what the style sheet knows by heart."""
    known = (*FINDING_VERDICTS, *OTHER_VERDICTS, "identical", "refuses", "still differs")
    return value.replace(" ", "-") if value in known else "other"


def _how_to_read(report: Report) -> str:
    meanings = "".join(
        f"<dt>{_verdict(verdict)}</dt><dd>{text(meaning)}</dd>" for verdict, meaning in wording.MEANINGS.items()
    )
    replays = text(str(report.settings.get("replays", "?")))
    return (
        "<h2>How to read this</h2>"
        '<div class="card"><p style="margin-top:0">Each op of one training step ran, and was then replayed on frozen '
        f"copies of its own inputs until there were {replays} results; they were compared bit by bit. A finding is "
        "therefore about that op alone: what comes after it in the step is not accused. The op of a backward is named "
        "at the line of the forward that made it.</p>"
        f"<dl>{meanings}"
        "<dt>could differ</dt><dd>an op that differs with this probability per run would have stayed unseen in one of "
        "twenty scans (95 %); more replays make it smaller</dd>"
        "<dt>ULP</dt><dd>units in the last place: how many representable numbers lie between two results</dd>"
        "<dt>tried</dt><dd>the fix was set and the op was replayed on the same inputs; the time is measured against "
        "the op without it</dd></dl></div>"
    )


def _places(report: Report, filterable: bool) -> str:
    order = (*FINDING_VERDICTS, *OTHER_VERDICTS)
    rank = {verdict: at for at, verdict in enumerate(order)}
    rows = sorted(report.ops, key=lambda row: rank.get(row.verdict, len(rank)))
    heads = "".join(f"<th>{n}</th>" for n in ("verdict", "op", "phase", "place", "calls", "could differ", "reason"))
    box = '<input id="filter" placeholder="filter: op, line, module, verdict" hidden>' if filterable else ""
    return (
        f"<h2>Every op</h2>{box}<div class='scroll'><table><thead><tr>{heads}</tr></thead>"
        f'<tbody id="places">{"".join(_row(row) for row in rows)}</tbody></table></div>'
    )


def _row(row: OpRow) -> str:
    cells = (
        f"<td>{_verdict(row.verdict)}</td><td>{code(row.op)}</td><td>{text(row.phase)}</td>"
        f'<td class="place">{text(wording.place(row))}</td><td class="number">{text(str(row.calls))}</td>'
        f'<td class="short">{text(wording.bound_text(row.bound))}</td><td>{text(row.reason)}</td>'
    )
    return f"<tr>{cells}</tr>\n"
