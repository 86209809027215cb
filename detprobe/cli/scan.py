"""`detprobe scan`: scan what a factory returns, print the report, and say with the exit code whether it is fine."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detprobe.cli.output import check_writable, show
from detprobe.cli.user_code import make, shown
from detprobe.errors import ArgumentValueError, DetprobeError
from detprobe.result import FINDING_VERDICTS, Finding, Report

__all__ = ["add_to", "new_findings"]

_LEVELS = (*FINDING_VERDICTS, "unreplayed", "never")
_EPILOG = """\
exit codes: 0 nothing that counts, 1 a finding that counts, 2 usage, 3 not available on this machine

example: detprobe scan train.py:make --replays 16 --json report.json
         where train.py has  def make(): return model, (images,), lambda out: F.cross_entropy(out, labels)"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "scan",
        help="find the ops of a model that do not give the same bits twice",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("target", metavar="FILE.py:factory", help="or package.module:factory; returns model, inputs[, loss]")
    add("--replays", type=int, default=8, metavar="N", help="results to compare per call (default 8)")
    add("--axes", default="rerun,flag", metavar="A,B", help="rerun, flag, threads, layout, batch, stress, device")
    add("--budget", type=float, metavar="S", help="seconds after which the rest runs without replays")
    add("--seed", type=int, default=0, metavar="N", help="seed of the step (default 0)")
    add("--no-backward", action="store_true", help="scan the forward alone")
    add("--all-ops", action="store_true", help="list every op and place")
    add("--json", metavar="F", help="write the report as JSON too; - for stdout instead of the table")
    add("--html", metavar="F", help="write the report as one HTML file too")
    add(
        "--fail-on",
        choices=_LEVELS,
        default="order-sensitive",
        metavar="LEVEL",
        help=f"the mildest verdict that gives exit code 1: {', '.join(_LEVELS)} (default order-sensitive: any finding)",
    )
    add(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="do not count findings whose op, module or location matches (with * and ?); may be repeated",
    )
    add("--baseline", metavar="F.json", help="do not count the findings of an earlier --json report")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    baseline = _baseline(arguments.baseline)
    for path in (arguments.json, arguments.html):
        check_writable(path)
    from detprobe.scanning import scan

    model, inputs, *rest = make(arguments.target)
    try:
        report = scan(
            model,
            inputs,
            loss=rest[0] if rest else None,
            backward=not arguments.no_backward,
            replays=arguments.replays,
            axes=tuple(axis.strip() for axis in arguments.axes.split(",") if axis.strip()),
            budget=arguments.budget,
            seed=arguments.seed,
            progress=sys.stderr.isatty(),
        )
    except DetprobeError:
        raise
    except Exception as error:
        raise DetprobeError(f"the model raised {shown(error)}") from None
    return _show(report, arguments, baseline)


def _show(report: Report, arguments: argparse.Namespace, baseline: Report | None) -> int:
    show(report, json=arguments.json, html=arguments.html, all_ops=arguments.all_ops)
    counted = [finding for finding in report.findings if _counts(finding, arguments.fail_on)]
    kept = [finding for finding in counted if not _matches(finding, arguments.ignore)]
    for pattern in arguments.ignore:
        if not any(_matches(finding, [pattern]) for finding in report.findings):
            print(f"detprobe: --ignore {pattern!r} matches no finding", file=sys.stderr)
    fresh = kept if baseline is None else new_findings(kept, baseline.findings)
    left_out = len(report.findings) - len(fresh)
    if left_out:
        what = "finding does" if left_out == 1 else "findings do"
        print(f"detprobe: {left_out} {what} not count (--fail-on, --ignore, --baseline)", file=sys.stderr)
    blind = arguments.fail_on == "unreplayed" and any(row.verdict == "unreplayed" for row in report.ops)
    return 1 if fresh or blind else 0


def _counts(finding: Finding, level: str) -> bool:
    return level in ("unreplayed", "order-sensitive") or (
        level != "never" and FINDING_VERDICTS.index(finding.verdict) <= FINDING_VERDICTS.index(level)
    )


def _matches(finding: Finding, patterns: Iterable[str]) -> bool:
    names = (finding.op, finding.module, finding.location)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)


def new_findings(now: Iterable[Finding], before: Iterable[Finding]) -> list[Finding]:
    """The findings that an earlier report does not have.

    A line that moved within its file is the same finding: what has no exact counterpart may take one of the same op,
    phase, module, file and verdict, each of them once.
    """
    exact = Counter(finding.key for finding in before)
    unmatched = []
    for finding in now:
        if exact[finding.key] > 0:
            exact[finding.key] -= 1
        else:
            unmatched.append(finding)
    loose: Counter[tuple[str, ...]] = Counter()
    for key, count in exact.items():
        loose[_without_line(key)] += count
    fresh = []
    for finding in unmatched:
        key = _without_line(finding.key)
        if loose[key] > 0:
            loose[key] -= 1
        else:
            fresh.append(finding)
    return fresh


def _without_line(key: tuple[str, str, str, str, str]) -> tuple[str, str, str, str, str]:
    op, phase, module, location, verdict = key
    return op, phase, module, location.rpartition(":")[0] or location, verdict


def _baseline(path: str | None) -> Report | None:
    if path is None:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentValueError(
            f"--baseline {path}: cannot be read ({error}): make one with `detprobe scan ... --json {path}`"
        ) from None
    return Report.from_json(text)
