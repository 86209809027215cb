"""A report as one HTML file that needs no network, or as a fragment for a notebook. Same data, same bytes."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from detprobe.codec import Document
from detprobe.probe_report import ProbeReport, ProbeReports
from detprobe.report import probe_html, scan_html, verdict_html
from detprobe.report.markup import text
from detprobe.result import Report
from detprobe.verdict_report import Comparison

__all__ = ["render_fragment", "render_page"]


def render_page(report: Document) -> str:
    """A whole HTML document."""
    title, body = _content(report, filterable=True)
    return Template(_resource("page.html")).substitute(
        title=text(f"detprobe: {title}"), style=_resource("style.css"), body=body
    )


def render_fragment(report: Document) -> str:
    """What a notebook shows: the same content, with its own style and no script."""
    return f"<style>\n{_resource('style.css')}</style>\n{_content(report, filterable=False)[1]}"


def _content(report: Document, *, filterable: bool) -> tuple[str, str]:
    """Title and body."""
    if isinstance(report, Report):
        return report.model, scan_html.body(report, filterable=filterable)
    if isinstance(report, ProbeReport):
        return f"{report.name} on {report.device}", probe_html.body(report)
    if isinstance(report, ProbeReports):
        return f"probes on {report.device}", probe_html.body_all(report)
    if isinstance(report, Comparison):
        return report.verdict, verdict_html.body(report)
    raise TypeError(f"no page for {type(report).__name__}")


def _resource(name: str) -> str:
    return files("detprobe.report").joinpath(name).read_text(encoding="utf-8")
