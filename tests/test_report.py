"""Reports as text and HTML: what they say is what the data say, and nothing in the data can do more than be shown."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_result import sample

from detprobe import Report
from detprobe.report import wording
from detprobe.report.html import render_fragment, render_page
from detprobe.report.terminal import print_report, render_text
from detprobe.result import OpRow

GOLDEN = Path(__file__).parent / "golden" / "report.txt"
HOSTILE = "<script>alert(1)</script>\x1b[31m[bold]\r\n\u202e\"'&$title"


def hostile_report() -> Report:
    finding = dataclasses.replace(
        sample().findings[0],
        op=HOSTILE,
        module=HOSTILE,
        location=HOSTILE,
        cause=HOSTILE,
        shapes=HOSTILE,
        call_site=HOSTILE,
    )
    row = OpRow(HOSTILE, "forward", HOSTILE, HOSTILE, "unreplayed", 1, 0, None, HOSTILE, HOSTILE)
    return sample(
        model=HOSTILE,
        findings=(finding,),
        ops=(row,),
        notes=(HOSTILE,),
        environment={HOSTILE: HOSTILE},
        settings={HOSTILE: 1},
    )


def test_the_text_is_the_golden_one(pytestconfig: pytest.Config) -> None:
    assert render_text(sample(), width=90) + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_the_text_of_a_report_is_its_str() -> None:
    assert str(sample()) == render_text(sample())


def test_numbers_in_the_summary_add_up_to_the_data() -> None:
    rows = tuple(OpRow(f"aten::op{i % 3}", "forward", "", f"m.py:{i}", "stable", i + 1, 8, 0.35) for i in range(10))
    text = render_text(sample(findings=(), ops=rows))
    line = next(line for line in text.splitlines() if line.startswith("stable"))
    assert line.split()[:5] == ["stable", "3", "ops", "10", "55"]


def test_every_place_is_listed_on_demand() -> None:
    rows = tuple(OpRow("aten::mm", "forward", "", f"model.py:{i}", "stable", 1, 8, 0.35) for i in range(50))
    text = render_text(sample(ops=rows), all_ops=True)
    assert all(f"model.py:{i}" in text for i in range(50))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_asked(width: int) -> None:
    assert max(map(len, render_text(hostile_report(), width=width, all_ops=True).splitlines())) <= width


def test_hostile_names_cannot_steer_a_terminal() -> None:
    text = render_text(hostile_report(), all_ops=True)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\\x1b[31m[bold]" in re.sub(r"\s", "", text)


def test_a_pipe_gets_plain_text_and_a_terminal_gets_colour() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    pipe, terminal = io.StringIO(), Terminal()
    print_report(sample(), pipe)
    print_report(sample(), terminal)
    assert pipe.getvalue() == str(sample()) + "\n"
    assert "\x1b[" in terminal.getvalue()


class Elements(HTMLParser):
    """Checks that every element is closed in order, and keeps their names."""

    VOID = ("meta", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("report", [sample(), sample(findings=()), sample(findings=(), ops=()), hostile_report()])
def test_the_page_is_whole_offline_and_has_only_its_own_script(report: Report) -> None:
    elements = Elements()
    elements.feed(render_page(report))
    assert elements.open == []
    assert elements.links == []
    assert elements.names.count("script") == 1


def test_the_fragment_for_notebooks_has_no_script_and_no_document() -> None:
    elements = Elements()
    elements.feed(render_fragment(hostile_report()))
    assert elements.open == []
    assert {"script", "html", "body"}.isdisjoint(elements.names)


def test_same_data_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        Report.from_json(sample().to_json()).to_html(tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_page_explains_every_verdict() -> None:
    page = render_page(sample())
    assert "How to read this" in page
    assert all(meaning in page for meaning in wording.MEANINGS.values())


@pytest.mark.parametrize(
    ("share", "said"), [(1.0, "100 %"), (0.99999, "> 99.9 %"), (0.5, "50 %"), (1e-9, "< 0.001 %"), (0.0, "0 %")]
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, said: str) -> None:
    finding = dataclasses.replace(sample().findings[0], changed=share)
    assert wording.difference(finding).startswith(f"{said} of the elements")


def test_reports_never_import_torch() -> None:
    code = "import detprobe.report.html, detprobe.report.terminal, detprobe.report.progress, sys"
    command = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
