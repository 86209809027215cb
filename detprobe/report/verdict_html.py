"""The page of a comparison."""

from __future__ import annotations

from detprobe.report import verdict_wording as wording
from detprobe.report.markup import code, facts, text
from detprobe.verdict_report import Comparison, MetricVerdict, Run

__all__ = ["body"]

_LABEL, _AXIS, _WIDTH, _ROW = 90, 520, 760, 20
_MEANINGS = "".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in wording.MEANINGS.items())
_HOW_TO_READ = (
    "<h2>How to read this</h2>"
    '<div class="card"><p style="margin-top:0">A and B ran on the same seeds, and what counts is the difference within '
    f"each pair.</p><dl>{_MEANINGS}"
    "<dt>decided by</dt><dd>each look at growing data has its own level, and all of them together 5 %; so the interval "
    "that decides is wider than the 95 % interval</dd>"
    "<dt>noise floor</dt><dd>two single runs on different seeds differ by less than this in 95 % of the cases</dd>"
    "</dl></div>"
)


def body(comparison: Comparison) -> str:
    first = wording.said_first(comparison)
    rest = comparison.warnings[1:] if first else comparison.warnings
    parts = ['<div class="detprobe">']
    if first:
        parts.append(f'<div class="card nondeterministic">{text(first)}</div>')
    parts += [f"<h1>{text(comparison.verdict)}</h1>", _sides(comparison)]
    for metric in comparison.metrics:
        parts += _metric(comparison, metric)
    parts += [f'<div class="card warning">{text(warning)}</div>' for warning in rest]
    return "\n".join([*parts, _HOW_TO_READ, _runs(comparison), facts("Environment", comparison.environment), "</div>"])


def _sides(comparison: Comparison) -> str:
    return f"<dl><dt>A</dt><dd>{code(comparison.a)}</dd><dt>B</dt><dd>{code(comparison.b)}</dd></dl>"


def _metric(comparison: Comparison, metric: MetricVerdict) -> list[str]:
    lines = "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in wording.facts(comparison, metric))
    kind = "ok" if metric.verdict in ("INERT", "NOISE") else "warning"
    return [
        f"<h2>{text(metric.name)}</h2>",
        f'<div class="card {kind}"><h3>{text(wording.headline(metric))}</h3><dl>{lines}</dl></div>',
        f"<div class='scroll'>{_plot(metric.name, wording.plot(comparison, metric))}</div>",
    ]


def _x(share: float) -> float:
    return round(_LABEL + 10 + share * _AXIS, 2)


def _plot(name: str, plot: wording.Plot) -> str:
    """A is an open circle and B a full one; the last row is the interval of B - A, with 0 as an upright line."""
    height = _ROW * (len(plot.lines) + 4)
    parts = [
        f'<svg class="pairs" role="img" viewBox="0 0 {_WIDTH} {height}"><title>{text(name)} of each pair</title>',
        f'<text x="{_LABEL}" y="14" text-anchor="end">seed</text><text x="{_x(0)}" y="14">{text(plot.low)}</text>',
        f'<text x="{_x(1)}" y="14" text-anchor="end">{text(plot.high)}</text>',
        f'<text x="{_WIDTH}" y="14" text-anchor="end">B - A</text>',
    ]
    for at, line in enumerate(plot.lines, 1):
        y = at * _ROW + 10
        parts.append(
            f'<text x="{_LABEL}" y="{y + 4}" text-anchor="end">{text(line.seed)}</text>'
            f'<line x1="{_x(line.a)}" x2="{_x(line.b)}" y1="{y}" y2="{y}"></line>'
            f'<circle class="a" cx="{_x(line.a)}" cy="{y}" r="5"></circle>'
            f'<circle cx="{_x(line.b)}" cy="{y}" r="4"></circle>'
            f'<text x="{_WIDTH}" y="{y + 4}" text-anchor="end">{text(line.difference)}</text>'
        )
    y = (len(plot.lines) + 1) * _ROW + 16
    parts.append(f'<text x="{_LABEL}" y="{y + 4}" text-anchor="end">B - A</text>')
    for ends, kind in ((plot.wide, "wide"), (plot.interval, "interval")):
        if ends is not None:
            parts.append(f'<line class="{kind}" x1="{_x(ends[0])}" x2="{_x(ends[1])}" y1="{y}" y2="{y}"></line>')
    for end in plot.minimum or ():
        parts.append(f'<line class="least" x1="{_x(end)}" x2="{_x(end)}" y1="{y - 10}" y2="{y + 10}"></line>')
    parts.append(
        f'<line class="zero" x1="{_x(plot.zero)}" x2="{_x(plot.zero)}" y1="{y - 10}" y2="{y + 10}"></line>'
        f'<text x="{_x(plot.zero)}" y="{y + 24}" text-anchor="middle">0</text>'
        f'<circle cx="{_x(plot.effect)}" cy="{y}" r="5"></circle></svg>'
    )
    more = f", {plot.left_out} more pairs not drawn" if plot.left_out else ""
    return "".join(parts) + (
        "<p class='dim'>Open circle: A; full: B. Last row: mean of B - A, its 95 % interval (thick), the one that "
        f"decides (thin), and the smallest difference that matters (dashed){more}.</p>"
    )


def _runs(comparison: Comparison) -> str:
    rows = "".join(
        f"<tr><td>{text(run.side)}{' again' if run.repeat else ''}</td><td class='number'>{run.seed}</td>"
        f"<td>{text(_gave(run))}</td><td>{code(run.digest)}</td><td class='number'>{run.seconds:.3g}</td></tr>"
        for run in comparison.runs
    )
    heads = "<th>side</th><th class='number'>seed</th><th>metrics</th><th>digest</th><th class='number'>time (s)</th>"
    return (
        "<details><summary><strong>Runs</strong></summary><div class='scroll'><table><thead><tr>"
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _gave(run: Run) -> str:
    return f"failed: {run.failure}" if run.failure else ", ".join(f"{k} {v:.6g}" for k, v in run.metrics.items())
