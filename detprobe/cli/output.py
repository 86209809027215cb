"""What every command with a report does with it: print it, and write the files that were asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from detprobe.codec import Document
from detprobe.errors import ArgumentValueError

__all__ = ["check_writable", "show"]


def check_writable(path: str | None) -> None:
    """Before the work: a report that cannot be written would be known after minutes only."""
    if path in (None, "-"):
        return
    target = Path(str(path))
    if target.is_dir() or not target.parent.is_dir():
        raise ArgumentValueError(f"{path}: expected a file name in a folder that exists")


def show(report: Document, *, json: str | None, html: str | None, all_ops: bool = False) -> None:
    """Print the report, or its JSON where `json` is "-"; write the files."""
    from detprobe.report.terminal import print_report

    if json == "-":
        sys.stdout.write(report.to_json())
    else:
        print_report(report, sys.stdout, all_ops=all_ops)
        if json:
            report.to_json(json)
    if html:
        report.to_html(html)
