"""The sentences and numbers that every report shows, from plain result data.

Names in a report come from the user's files and may hold anything: `clean` is what makes them printable.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from detprobe.result import FINDING_VERDICTS, OTHER_VERDICTS, Finding, OpRow, Report, Trial

__all__ = ["MEANINGS", "Group", "bound_text", "clean", "evidence", "groups", "headline", "place", "trial_text", "where"]

MEANINGS = {
    "nondeterministic": "identical replays gave different bits",
    "order-sensitive": "identical replays agreed, but another thread count, layout, batch or device gave other bits",
    "uninitialized": "memory was read that nobody had written",
    "random": "draws from a generator, and repeats once its state is restored",
    "stable": "no difference seen; the bound says how rare one could still be",
    "unreplayed": "could not be run twice, so nothing is known",
}


def clean(text: str) -> str:
    """Text on one line, with control, format and surrogate characters shown as escapes: no terminal obeys it."""
    return "".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in text)


def headline(report: Report) -> str:
    """What was scanned, and what came out, in one line."""
    device = report.settings.get("device", "")
    what = f"{clean(report.model)} on {clean(str(device))}"
    replayed = [row for row in report.ops if row.replays > 1]
    base = f"{_count(len(replayed), 'op place')} replayed {report.settings.get('replays', '?')} times"
    if report.ok:
        return f"{what}: nothing found; {base}"
    return f"{what}: {_count(len(report.findings), 'finding')}; {base}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def place(finding: Finding | OpRow) -> str:
    """Where it is: the line, and the module when there is one."""
    line = clean(finding.location) or "(no line)"
    return f"{line}, in {clean(finding.module)}" if finding.module else line


def where(finding: Finding) -> str:
    """The phase and the line; for a custom Function's backward the line that called the op too."""
    site = f" (called at {clean(finding.call_site)})" if finding.call_site else ""
    return f"{finding.phase}, {place(finding)}{site}"


def evidence(finding: Finding) -> str:
    """The numbers of a finding as a sentence."""
    calls = f" in {_count(finding.calls, 'call')}"
    if finding.verdict == "nondeterministic":
        said = f"{finding.distinct} distinct results of {finding.replays} replays{calls}"
        if finding.axis != "rerun":
            said += f", under axis {finding.axis}"
    elif finding.verdict == "uninitialized":
        said = f"the result changes with the bytes that nobody wrote{calls}"
    else:
        said = f"other bits along axis {finding.axis}{calls}"
    return f"{said}; {difference(finding)}"


def difference(finding: Finding) -> str:
    """How far apart: "86.3 % of the elements differ, by up to 122880 ULP (2.29e-05)"."""
    share = f"{_percent(finding.changed)} of the elements differ"
    if finding.max_ulp is None:
        return f"{share}, where numbers cannot be subtracted (NaN, shapes)"
    distance = "" if finding.max_abs is None else f" ({finding.max_abs:.3g})"
    return f"{share}, by up to {finding.max_ulp} ULP{distance}"


def _percent(share: float) -> str:
    """Three digits, and never a rounded 0 % for something or 100 % for not quite all."""
    value = 100.0 * share
    text = f"{value:.3g}"
    if value < 100 and float(text) >= 100:
        return "> 99.9 %"
    return f"{text} %" if value >= 0.001 or value == 0 else "< 0.001 %"


def trial_text(trial: Trial) -> str:
    """What came of a fix: "identical, at 0.18 x the time"."""
    cost = "" if trial.cost is None else f", at {trial.cost:.2g} x the time"
    detail = f": {clean(trial.detail)}" if trial.detail else ""
    return f"{trial.result}{cost}{detail}"


def bound_text(value: float | None) -> str:
    """The bound of a row: "p <= 0.35"; "exact" where nothing was computed."""
    if value is None:
        return ""
    return "exact" if value == 0 else f"p <= {value:.2g}"


@dataclass(frozen=True)
class Group:
    """All places of one op with one verdict and one reason."""

    verdict: str
    op: str
    reason: str
    places: int
    calls: int
    bound: float | None
    """The weakest bound among the places."""
    example: str
    """The first place."""


def groups(rows: Iterable[OpRow]) -> list[Group]:
    """Rows gathered by verdict, op and reason; most severe first, then in the order in which they ran."""
    found: dict[tuple[str, str, str], list[OpRow]] = {}
    for row in rows:
        found.setdefault((row.verdict, row.op, row.reason), []).append(row)
    order = (*FINDING_VERDICTS, *OTHER_VERDICTS)
    made = [
        Group(
            verdict=verdict,
            op=op,
            reason=reason,
            places=len(same),
            calls=sum(row.calls for row in same),
            bound=max((row.bound for row in same if row.bound is not None), default=None),
            example=place(same[0]),
        )
        for (verdict, op, reason), same in found.items()
    ]
    return sorted(made, key=lambda group: order.index(group.verdict) if group.verdict in order else len(order))
