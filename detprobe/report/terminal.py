"""Reports on a terminal: colours where there is one, plain text of the same content where there is none."""

from __future__ import annotations

import io
import shutil
from typing import TextIO

from rich.console import Console, Group

from detprobe.codec import Document
from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.report import probe_terminal, scan_terminal, verdict_terminal
from detprobe.result import Report
from detprobe.verdict_report import Comparison

__all__ = ["print_report", "render_text"]


def render_text(report: Document, *, width: int = 100, all_ops: bool = False) -> str:
    """The report as plain text, `width` columns wide. `all_ops` lists every place of a scan, also the stable ones."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(_view(report, all_ops))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def print_report(report: Document, stream: TextIO, *, all_ops: bool = False) -> None:
    """Print the report to a terminal in colour, to anything else as plain text."""
    if not stream.isatty():
        stream.write(render_text(report, all_ops=all_ops) + "\n")
        return
    width = min(120, shutil.get_terminal_size().columns)
    Console(file=stream, width=width).print(_view(report, all_ops))


def _view(report: Document, all_ops: bool) -> Group:
    if isinstance(report, Report):
        return scan_terminal.view(report, all_ops)
    if isinstance(report, ProbeReport):
        return probe_terminal.view(report)
    if isinstance(report, ProbeReports):
        return probe_terminal.view_all(report)
    if isinstance(report, Comparison):
        return verdict_terminal.view(report)
    raise TypeError(f"no view for {type(report).__name__}")
